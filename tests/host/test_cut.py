"""Layers From Masks: soft edges without the old background's colours, order, gaps, and what is refused."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import nodes
from layerdiff_core.composite import composite
from layerdiff_core.layers import Document, Layer
from tests.bridges import FIRST_BELOW, FIRST_ON_TOP, LARGEST, cut, disc, get, stack

NAN = float("nan")
IMAGES, MASKS = torch.rand(3, 8, 8, 3), torch.rand(3, 8, 8)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def slope(side: int, start: list[float], end: list[float]) -> Tensor:
    """An image [1,side,side,3] that changes from one colour to another."""
    return torch.lerp(torch.tensor(start), torch.tensor(end), torch.linspace(0, 1, side)[:, None]).expand(1, side, side, 3)


GROUND, OBJECT = slope(96, [0.1, 0.6, 0.2], [0.2, 0.3, 0.7]), slope(96, [0.9, 0.2, 0.1], [0.8, 0.5, 0.1]).transpose(1, 2)


def over(image: Tensor, alpha: Tensor, ground: Tensor) -> Tensor:
    return torch.lerp(ground, image, alpha[..., None])


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
