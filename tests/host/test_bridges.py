"""Layers from others and for others in ComfyUI: values, signs, sizes, round trips, and what is refused."""

from types import ModuleType
from typing import Any

import pytest
import torch
from comfy_extras.nodes_compositing import JoinImageWithAlpha, SplitImageWithAlpha

from layerdiff_core.composite import composite
from layerdiff_core.files.psd import write_psd
from layerdiff_core.layers import Document, Layer
from tests.bridges import disc, get, merge, stack
from tests.documents import mixed_document, same


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


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
