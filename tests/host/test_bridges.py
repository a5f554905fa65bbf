"""Layers from others and for others in ComfyUI: values, signs, sizes, round trips, and what is refused."""

from types import ModuleType
from typing import Any

import pytest
import torch
from comfy_extras.nodes_compositing import JoinImageWithAlpha, SplitImageWithAlpha
from torch import Tensor

import nodes
from layerdiff_core.composite import composite
from layerdiff_core.cut import ORDERS
from layerdiff_core.files.psd import write_psd
from layerdiff_core.layers import Document, Layer
from tests.documents import mixed_document, same

LARGEST, FIRST_BELOW, FIRST_ON_TOP = ORDERS


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def stack(pack: ModuleType, images: Any, masks: Any = None, means: str = "covered", order: str = "bottom first",
          skip: bool = False, names: str = "") -> Document:
    done = pack.nodes.convert.LayerDiffImagesToLayers.execute(images, means, order, skip, names, masks)
    return Document.from_socket(done.args[0])


def cut(pack: ModuleType, image: Any, masks: Any, softness: float = 0.0, order: str = FIRST_BELOW, names: str = "",
        background: Any = None, means: str = "covered") -> Document:
    done = pack.nodes.convert.LayerDiffLayersFromMasks.execute(image, masks, means, order, softness, names, background)
    return Document.from_socket(done.args[0])


def get(pack: ModuleType, document: Document, layer: int = 0, name: str = "", pixels: str = "on the canvas") -> Any:
    return pack.nodes.convert.LayerDiffGetLayer.execute(document.to_socket(), layer, name, pixels).args


def merge(pack: ModuleType, below: Document, above: Document, x: int = 0, y: int = 0) -> Document:
    done = pack.nodes.convert.LayerDiffMergeLayers.execute(below.to_socket(), above.to_socket(), x, y)
    return Document.from_socket(done.args[0])


def disc(side: int, x: float, y: float, radius: float, edge: float = 1.0) -> Tensor:
    """A mask [1,side,side] of a disc whose edge is so many pixels wide."""
    down, across = torch.meshgrid(*[torch.arange(side) + 0.5] * 2, indexing="ij")
    return ((radius - ((across - x) ** 2 + (down - y) ** 2).sqrt()) / edge + 0.5).clamp(0, 1)[None]


def slope(side: int, start: list[float], end: list[float]) -> Tensor:
    """An image [1,side,side,3] that changes from one colour to another."""
    return torch.lerp(torch.tensor(start), torch.tensor(end), torch.linspace(0, 1, side)[:, None]).expand(1, side, side, 3)


GROUND, OBJECT = slope(96, [0.1, 0.6, 0.2], [0.2, 0.3, 0.7]), slope(96, [0.9, 0.2, 0.1], [0.8, 0.5, 0.1]).transpose(1, 2)


def over(image: Tensor, alpha: Tensor, ground: Tensor) -> Tensor:
    return torch.lerp(ground, image, alpha[..., None])


class TestImagesToLayers:
    def test_coverage_of_the_pack_and_masks_of_the_host(self, pack: ModuleType) -> None:
        images, coverage = torch.rand(3, 8, 12, 3), torch.rand(3, 8, 12)
        for document in (stack(pack, images, coverage), stack(pack, images, 1 - coverage, "transparent")):
            assert document.canvas == (12, 8)
            assert [layer.name for layer in document.layers] == ["background", "layer 1", "layer 2"]
            for number, layer in enumerate(document.layers):
                assert torch.equal(layer.image, images[number : number + 1])
                assert (layer.coverage - coverage[number]).abs().max() < 1e-6

    def test_images_with_alpha_as_the_host_splits_them(self, pack: ModuleType) -> None:
        rgba = torch.rand(3, 8, 12, 4)
        image, mask = SplitImageWithAlpha.execute(rgba).args
        for one, other in zip(stack(pack, rgba).layers, stack(pack, image, mask, "transparent").layers, strict=True):
            assert torch.equal(one.image, other.image) and (one.coverage - other.coverage).abs().max() < 1e-6

    def test_mask_and_alpha_are_multiplied(self, pack: ModuleType) -> None:
        rgba, mask = torch.rand(2, 8, 12, 4), torch.rand(2, 8, 12)
        for number, layer in enumerate(stack(pack, rgba, mask).layers):
            assert (layer.coverage[0] - rgba[number, ..., 3] * mask[number]).abs().max() < 1e-6

    def test_a_batch_with_the_composite_first(self, pack: ModuleType) -> None:
        """As Qwen-Image-Layered gives it."""
        batch = torch.rand(4, 8, 8, 4)
        document = stack(pack, batch, skip=True, names="sky\nfox\nball")
        assert [layer.name for layer in document.layers] == ["sky", "fox", "ball"]
        assert torch.equal(torch.cat([layer.pixels for layer in document.layers]), batch[1:])

    @pytest.mark.parametrize("masks", [3, 4])
    def test_the_skipped_image_may_have_a_mask(self, pack: ModuleType, masks: int) -> None:
        images, coverage = torch.rand(4, 8, 8, 3), torch.rand(masks, 8, 8)
        document = stack(pack, images, coverage, skip=True)
        assert (torch.cat([layer.coverage for layer in document.layers]) - coverage[-3:]).abs().max() < 1e-6

    def test_the_top_layer_first(self, pack: ModuleType) -> None:
        images = torch.rand(3, 8, 8, 3)
        document = stack(pack, images, torch.rand(3, 8, 8), order="top first", names="ball\nfox")
        assert [layer.name for layer in document.layers] == ["background", "fox", "ball"]
        assert torch.equal(document.layers[2].image, images[:1])

    def test_one_mask_for_all_and_one_image_for_all(self, pack: ModuleType) -> None:
        assert len(stack(pack, torch.rand(3, 8, 8, 3), torch.rand(1, 8, 8)).layers) == 3
        assert len(stack(pack, torch.rand(1, 8, 8, 3), torch.rand(3, 8, 8)).layers) == 3

    def test_a_mask_of_another_size_is_scaled(self, pack: ModuleType) -> None:
        mask = disc(64, 32, 32, 20)
        layer = stack(pack, torch.rand(1, 32, 32, 3), mask).layers[0]
        assert (layer.coverage - disc(32, 16, 16, 10)).abs().max() < 0.2 and layer.coverage.shape == (1, 32, 32)

    def test_the_empty_square_of_load_image_means_opaque(self, pack: ModuleType) -> None:
        document = stack(pack, torch.rand(1, 24, 80, 3), torch.zeros(1, 64, 64), "transparent")
        assert document.layers[0].coverage.min() > 1 - 1e-6

    def test_empty_layers_are_named(self, pack: ModuleType) -> None:
        node = pack.nodes.convert.LayerDiffImagesToLayers
        masks = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)])
        (said,) = node.execute(torch.rand(2, 8, 8, 3), "covered", "bottom first", False, "", masks).ui["warnings"][0]
        assert '"layer 1"' in said and "background" not in said and "mask_means" in said
        assert node.execute(torch.rand(2, 8, 8, 3), "covered", "bottom first", False, "").ui["warnings"] == [[]]

    def test_half_precision(self, pack: ModuleType) -> None:
        document = stack(pack, torch.rand(2, 8, 8, 3).half(), torch.rand(2, 4, 4))
        assert composite(document)[0].isfinite().all()


class TestGetLayer:
    @pytest.mark.parametrize("pixels", ["on the canvas", "own pixels"])
    def test_what_images_to_layers_made(self, pack: ModuleType, pixels: str) -> None:
        images, coverage = torch.rand(3, 8, 12, 3), torch.rand(3, 8, 12)
        document = stack(pack, images, coverage, names="sea\nfox\nball")
        for number, name in enumerate(["sea", "fox", "ball"]):
            for found in (get(pack, document, number, "", pixels), get(pack, document, 0, f" {name.upper()} ", pixels)):
                assert torch.equal(found[0], images[number : number + 1])
                assert (found[1] - coverage[number]).abs().max() < 1e-6 and torch.equal(found[2], 1 - found[1])
                assert found[3:] == (0, 0, 12, 8, name)

    def test_a_layer_of_any_placement_gives_the_same_composite(self, pack: ModuleType) -> None:
        for layer in mixed_document(8, modes=("normal",)).layers:
            alone = Document([layer], (40, 33))
            shown = composite(Document([Layer(layer.pixels, layer.mask, "", layer.w, layer.h, layer.x, layer.y)], (40, 33)))
            image, coverage, transparency, *place, name = get(pack, alone)
            assert image.shape == (1, 33, 40, 3) and place == [layer.x, layer.y, layer.w, layer.h] and name == layer.name
            assert (coverage - shown[1]).abs().max() < 1e-5
            assert ((image - shown[0]) * coverage[..., None]).abs().max() < 1e-5
            # What ComfyUI joins from it lies on the canvas as the layer does.
            joined = JoinImageWithAlpha.execute(image, transparency).args[0]
            again = composite(stack(pack, joined))
            assert all((one - other).abs().max() < 1e-5 for one, other in zip(again, shown))

    def test_a_turned_and_scaled_layer(self, pack: ModuleType) -> None:
        layer = Layer(torch.rand(1, 8, 8, 3), disc(8, 4, 4, 3), "fox", 16, 12, 5, 6, rotation=0.5, flip_h=True)
        document = Document([layer], (40, 30))
        image, coverage, *_ = get(pack, document)
        shown = composite(document)
        assert (coverage - shown[1]).abs().max() < 1e-5 and ((image - shown[0]) * coverage[..., None]).abs().max() < 1e-5
        assert image.min() > 0  # colours extend beyond the layer
        own = get(pack, document, pixels="own pixels")
        assert torch.equal(own[0], layer.image) and own[3:] == (5, 6, 16, 12, "fox")

    def test_a_layer_larger_than_the_canvas(self, pack: ModuleType) -> None:
        layer = Layer(torch.rand(1, 40, 50, 3), torch.rand(1, 40, 50), "large", 50, 40, -10, -20)
        document = Document([layer], (16, 12))
        image, coverage, *_ = get(pack, document)
        assert torch.equal(image, layer.image[:, 20:32, 10:26]) and torch.equal(coverage, layer.coverage[:, 20:32, 10:26])
        assert get(pack, document, pixels="own pixels")[0].shape == (1, 40, 50, 3)

    def test_a_layer_outside_the_canvas_is_empty(self, pack: ModuleType) -> None:
        document = Document([Layer(torch.rand(1, 4, 4, 3), None, "far", 4, 4, 90, 90)], (8, 8))
        assert get(pack, document)[1].max() == 0 and get(pack, document)[0].shape == (1, 8, 8, 3)

    def test_layers_of_a_psd(self, pack: ModuleType, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        document = mixed_document(5, modes=("normal",))
        monkeypatch.setattr("folder_paths.input_directory", str(tmp_path))
        write_psd(document, tmp_path / "drawn.psd", {})
        read = Document.from_socket(pack.nodes.exchange.LayerDiffImportLayers.execute("drawn.psd").args[0])
        image, coverage, _, x, y, *_ = get(pack, read, 2, pixels="own pixels")
        layer = document.layers[2]
        assert (x, y) == (layer.x, layer.y) and ((image - layer.image) * coverage[..., None]).abs().max() < 1 / 255


class TestMergeLayers:
    def test_compositing_in_turn_gives_the_same(self, pack: ModuleType) -> None:
        below, above = mixed_document(4, modes=("normal",)), mixed_document(6, modes=("normal",))
        merged = merge(pack, below, above)
        assert len(merged.layers) == 10 and merged.canvas == below.canvas
        (one, two), (lower, lower_alpha), (upper, alpha) = composite(merged), composite(below), composite(above)
        total = alpha + lower_alpha * (1 - alpha)
        in_turn = (upper * alpha[..., None] + (lower * (lower_alpha * (1 - alpha))[..., None])) / total[..., None].clamp_min(1e-6)
        assert (two - total).abs().max() < 1e-5 and ((one - in_turn) * total[..., None]).abs().max() < 1e-5

    def test_the_canvas_of_the_first_and_a_shift(self, pack: ModuleType) -> None:
        below, above = mixed_document(2), mixed_document(3, side=64)
        merged = merge(pack, below, above, 7, -5)
        assert merged.canvas == below.canvas
        for one, other in zip(merged.layers[2:], above.layers, strict=True):
            assert (one.x, one.y, one.w, one.h, one.name) == (other.x + 7, other.y - 5, other.w, other.h, other.name)
            assert one.pixels is other.pixels or torch.equal(one.pixels, other.pixels)
        same(Document(merged.layers[:2], below.canvas), below)

    def test_without_a_canvas_the_first_ones_extent_is_the_canvas(self, pack: ModuleType) -> None:
        below, above = (Document([Layer(torch.rand(1, side, side, 3), None, "", side, side)]) for side in (8, 30))
        assert merge(pack, below, above).canvas == (8, 8)


class TestLayersFromMasks:
    @pytest.mark.parametrize("edge", [1.0, 3.0, 8.0])
    @pytest.mark.parametrize("given", [False, True], ids=["its own ground", "a given ground"])
    def test_the_rim_has_no_colour_of_the_old_ground(self, pack: ModuleType, edge: float, given: bool) -> None:
        alpha = disc(96, 40, 50, 25, edge)
        picture = over(OBJECT, alpha, GROUND)
        document = cut(pack, picture, alpha, background=GROUND if given else None, names="fox")
        assert [layer.name for layer in document.layers] == ["background", "fox"]
        changed = (composite(document)[0] - picture).abs().max() * 255
        assert changed <= (8 if given else 1)
        for new in (torch.zeros(3), torch.ones(3), torch.tensor([0.1, 0.1, 0.9])):
            ground = Layer(new.expand(1, 96, 96, 3), None, "", 96, 96)
            moved = composite(Document([ground, document.layers[1]], (96, 96)))[0]
            assert (moved - over(OBJECT, alpha, ground.image)).abs().max() * 255 <= 8

    def test_with_the_old_colours_the_rim_would_be_seen(self, pack: ModuleType) -> None:
        alpha = disc(96, 40, 50, 25, 3.0)
        picture = over(OBJECT, alpha, GROUND)
        plain = stack(pack, picture, alpha).layers[0]
        moved = composite(Document([Layer(torch.ones(1, 96, 96, 3), None, "", 96, 96), plain], (96, 96)))[0]
        assert (moved - over(OBJECT, alpha, torch.ones(1, 96, 96, 3))).abs().max() * 255 > 20

    def test_a_translucent_object_is_freed_of_the_ground(self, pack: ModuleType) -> None:
        alpha = disc(96, 48, 48, 25) * 0.5
        picture = over(torch.tensor([0.9, 0.2, 0.1]).expand(1, 96, 96, 3), alpha, torch.full((1, 96, 96, 3), 0.4))
        image, coverage, *_ = get(pack, cut(pack, picture, alpha), 1)
        assert ((image - torch.tensor([0.9, 0.2, 0.1])).abs() * coverage[..., None]).max() * 255 <= 8

    def test_a_hard_mask_gets_a_soft_edge_of_its_own_colours(self, pack: ModuleType) -> None:
        alpha = disc(96, 40, 50, 25)
        picture = over(OBJECT, alpha, GROUND)
        image, coverage, *_ = get(pack, cut(pack, picture, (alpha >= 0.5).float(), softness=1.0), 1)
        assert ((coverage > 0.02) & (coverage < 0.98)).sum() > 2 * 25 * 3
        assert ((image - OBJECT).abs() * coverage[..., None]).max() * 255 <= 8
        assert (composite(cut(pack, picture, (alpha >= 0.5).float()))[0] - picture).abs().max() * 255 <= 1

    @pytest.mark.parametrize("softness", [0.0, 1.0, 4.0])
    def test_each_pixel_is_owned_once(self, pack: ModuleType, softness: float) -> None:
        masks = torch.cat([disc(64, 26, 30, 18), disc(64, 40, 30, 12), disc(64, 40, 30, 5)]).round()
        document = cut(pack, torch.rand(1, 64, 64, 3), masks, softness)
        # What each layer shows of itself adds up to the union of the masks.
        through, shares = torch.ones(1, 64, 64), []
        for number in (3, 2, 1):
            coverage = get(pack, document, number)[1]
            shares.append(coverage * through)
            through = through * (1 - coverage)
        total = torch.cat(shares).sum(0)
        assert total.max() <= 1 + 1e-5 and (total >= 0.5).sum().item() == pytest.approx(masks.amax(0).sum().item(), rel=0.02)
        if softness == 0:  # The layer in front owns the pixel, and the one behind has a hole there.
            assert torch.equal(total, masks.amax(0))
            assert shares[0][0, 30, 40] == 1 and get(pack, document, 2)[1][0, 30, 40] == 0

    def test_neighbours_leave_no_gap(self, pack: ModuleType) -> None:
        masks = torch.zeros(2, 32, 32)
        masks[0, :, :16], masks[1, :, 16:] = 1, 1
        document = cut(pack, torch.rand(1, 32, 32, 3), masks, 2.0)
        (_, lower), (_, upper) = (get(pack, document, number)[:2] for number in (1, 2))
        assert 0.3 < upper[0, 16, 16] < 0.9 and (upper + lower * (1 - upper)).min() > 0.995

    def test_the_order(self, pack: ModuleType) -> None:
        masks = torch.cat([disc(64, 32, 32, size) for size in (10, 25, 15)])
        picture = torch.rand(1, 64, 64, 3)
        for order, names in ((LARGEST, "large middle small"), (FIRST_BELOW, "small large middle"),
                             (FIRST_ON_TOP, "middle large small")):
            document = cut(pack, picture, masks, order=order, names="small\nlarge\nmiddle")
            assert [layer.name for layer in document.layers] == ["background", *names.split()]

    def test_the_background_keeps_the_picture_where_no_edge_is(self, pack: ModuleType) -> None:
        alpha, picture = disc(64, 32, 32, 20), torch.rand(1, 64, 64, 3)
        ground = cut(pack, picture, alpha).layers[0]
        apart = (alpha == 0) | (alpha == 1)
        assert ground.coverage.min() == 1 and torch.equal(ground.image[apart], picture[apart])
        filled = torch.rand(1, 64, 64, 3)
        assert torch.equal(cut(pack, picture, alpha, background=filled).layers[0].image, filled)

    def test_layers_are_cropped_and_lie_where_they_were(self, pack: ModuleType) -> None:
        picture = torch.rand(1, 64, 80, 3)
        mask = torch.zeros(1, 64, 80)
        mask[:, 10:30, 50:75] = 1
        *_, x, y, width, height, _ = get(pack, cut(pack, picture, mask), 1)
        assert (x, y, width, height) == (50, 10, 25, 20)
        assert torch.equal(get(pack, cut(pack, picture, mask), 1, pixels="own pixels")[0], picture[:, 10:30, 50:75])

    def test_masks_of_both_signs_and_of_another_size(self, pack: ModuleType) -> None:
        picture, alpha = torch.rand(1, 64, 64, 3), disc(64, 32, 32, 20)
        one, other = cut(pack, picture, alpha), cut(pack, picture, 1 - alpha, means="transparent")
        assert (get(pack, one, 1)[1] - get(pack, other, 1)[1]).abs().max() < 1e-5
        assert (get(pack, one, 1)[1] - get(pack, cut(pack, picture, disc(32, 16, 16, 10)), 1)[1]).abs().max() < 0.4

    def test_an_empty_mask_and_one_of_everything(self, pack: ModuleType) -> None:
        picture = torch.rand(1, 16, 16, 3)
        masks = torch.stack([torch.ones(16, 16), torch.zeros(16, 16)])
        node = pack.nodes.convert.LayerDiffLayersFromMasks
        done = node.execute(picture, masks, "covered", FIRST_BELOW, 1.0, "all\nnothing")
        assert '"nothing"' in done.ui["warnings"][0][0] and '"all"' not in done.ui["warnings"][0][0]
        assert (composite(Document.from_socket(done.args[0]))[0] - picture).abs().max() < 1e-5

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
    def test_tiny_pictures(self, pack: ModuleType, size: tuple[int, int]) -> None:
        picture, mask = torch.rand(1, *size, 3), torch.rand(1, *size)
        assert composite(cut(pack, picture, mask, 64.0))[0].isfinite().all()

    def test_half_precision(self, pack: ModuleType) -> None:
        picture, alpha = torch.rand(1, 32, 32, 3), disc(32, 16, 16, 10)
        image = composite(cut(pack, picture.half(), alpha.half(), 1.0))[0]
        assert (image - composite(cut(pack, picture, alpha, 1.0))[0]).abs().max() < 0.05

    def test_interrupt_stops_it(self, pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: Any, **__: Any) -> None:
            raise nodes.comfy.model_management.InterruptProcessingException

        monkeypatch.setattr("comfy.utils.PROGRESS_BAR_HOOK", interrupted)
        with pytest.raises(nodes.comfy.model_management.InterruptProcessingException):
            cut(pack, torch.rand(1, 16, 16, 3), torch.rand(2, 16, 16))


NAN = float("nan")
IMAGES, MASKS = torch.rand(3, 8, 8, 3), torch.rand(3, 8, 8)
DOCUMENT = mixed_document(3)
TWINS = Document([Layer(torch.rand(1, 4, 4, 3), None, name, 4, 4) for name in ("fox", "Fox", "ball")])


@pytest.mark.parametrize("images, masks, options, words", [
    (None, None, {}, "images are NoneType"),
    (IMAGES[0], None, {}, r"images are a tensor \[8, 8, 3\]"),
    (IMAGES[..., :1], None, {}, "expected a tensor"),
    (torch.rand(3, 8, 8, 5), None, {}, "expected a tensor"),
    (IMAGES[:0], None, {}, "expected a tensor"),
    (IMAGES[:, :0], None, {}, "expected a tensor"),
    ((IMAGES * 255).byte(), None, {}, "floating-point"),
    (IMAGES, MASKS[0], {}, "masks are a tensor"),
    (IMAGES, MASKS[:0], {}, "masks are a tensor"),
    (IMAGES, MASKS > 0.5, {"means": "transparent"}, "masks are a tensor"),
    (IMAGES, "mask", {}, "masks are str"),
    (IMAGES, MASKS[:2], {}, "3 images, but 2 masks"),
    (IMAGES, torch.rand(5, 8, 8), {}, "3 images, but 5 masks"),
    (IMAGES, torch.rand(5, 8, 8), {"skip": True}, "2 images without the first, but 5 masks"),
    (IMAGES, torch.rand(3, 8, 16), {}, "not the same aspect ratio"),
    (IMAGES[:1], None, {"skip": True}, "only one image"),
    (IMAGES, None, {"names": "a\nb\nc\nd"}, "4 names, but only 3 layers"),
    (IMAGES, None, {"names": "a\nb\nc", "skip": True}, "3 names, but only 2 layers"),
    (torch.rand(51, 2, 2, 3), None, {}, "has 51 layers"),
    (torch.rand(1, 2, 2, 3), torch.rand(60, 2, 2), {}, "has 60 layers"),
    (torch.rand(1, 1, 16385, 3), None, {}, "16385 x 1"),
    (IMAGES * NAN, None, {}, "image of layer 'background' contains"),
    (IMAGES, MASKS * NAN, {}, "mask of layer 'background' contains"),
])  # fmt: skip
def test_images_that_are_no_layers(pack: ModuleType, images: Any, masks: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        stack(pack, images, masks, **options)


@pytest.mark.parametrize("image, masks, options, words", [
    (IMAGES, MASKS, {}, "3 images at the input image"),
    (torch.rand(1, 8, 8, 4), MASKS, {}, "alpha channel"),
    (None, MASKS, {}, "images are NoneType"),
    (IMAGES[:1], None, {}, "masks are NoneType"),
    (IMAGES[:1], torch.rand(3, 8, 12), {}, "not the same aspect ratio"),
    (IMAGES[:1], torch.rand(50, 8, 8), {}, "50 masks, but at most 49"),
    (IMAGES[:1], MASKS, {"background": torch.rand(1, 8, 9, 3)}, "background is 9 x 8 pixels and the image 8 x 8"),
    (IMAGES[:1], MASKS, {"background": IMAGES}, "3 images at the input background"),
    (IMAGES[:1], MASKS, {"background": IMAGES[:1] * NAN}, "input background contains"),
    (IMAGES[:1] * NAN, MASKS, {}, "input image contains"),
    (IMAGES[:1], MASKS * NAN, {}, "input masks contains"),
    (IMAGES[:1], MASKS, {"names": "1\n2\n3\n4"}, "4 names, but only 3 layers"),
    (IMAGES[:1], MASKS, {"softness": -1.0}, "softness is -1"),
    (IMAGES[:1], MASKS, {"softness": NAN}, "softness is nan"),
])  # fmt: skip
def test_a_picture_that_cannot_be_cut(pack: ModuleType, image: Any, masks: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cut(pack, image, masks, **options)


@pytest.mark.parametrize("document, number, name, words", [
    (DOCUMENT, 3, "", "no layer 3. The layers are 0: 'background', 1"),
    (DOCUMENT, -1, "", "no layer -1"),
    (DOCUMENT, 0, "wolf", "no layer named 'wolf'. The layers are 0: 'background'"),
    (TWINS, 0, "FOX", "2 layers are named 'FOX'.*numbers 0, 1"),
    (mixed_document(30), 99, "", r"\.\.\."),
    (DOCUMENT, 0, "x" * 3000, r"x\.\.\."),
    (Document([Layer(torch.full((1, 4, 4, 3), NAN), None, "fox", 4, 4)]), 0, "", "image of layer 'fox'"),
])  # fmt: skip
def test_a_layer_that_is_not_there(pack: ModuleType, document: Document, number: int, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        get(pack, document, number, name)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("below, above, shift, words", [
    (mixed_document(30), mixed_document(21), (0, 0), "30 layers and 21 above them, 51 in all"),
    (DOCUMENT, DOCUMENT, (16385, 0), "x is 16385"),
    (DOCUMENT, DOCUMENT, (0, -(10**12)), "y is -1"),
])  # fmt: skip
def test_layers_that_cannot_be_merged(pack: ModuleType, below: Document, above: Document, shift: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        merge(pack, below, above, *shift)


def test_no_layers(pack: ModuleType) -> None:
    for node in ("GetLayer", "MergeLayers"):
        with pytest.raises(ValueError, match="Expected a LAYERS document"):
            getattr(pack.nodes.convert, f"LayerDiff{node}").execute(None, *((0, "", "own pixels") if node == "GetLayer" else
                                                                            (None, 0, 0)))
