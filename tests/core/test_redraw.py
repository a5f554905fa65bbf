"""Which layers a text means, where a mask lets them change, and how a drawing takes a layer's place."""

import math

import pytest
import torch
from torch import Tensor

from layerdiff_core.composite import composite
from layerdiff_core.layers import Document, Layer, make_document
from layerdiff_core.placement import layer_pixels
from layerdiff_core.redraw import chosen_layers, drawn_anew, region, with_drawings, with_new_layer

NAMES = [("background", ""), ("Tree", "palm"), ("bear", "bear"), ("tree", "oak")]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("text", "chosen"), [
    ("", []), (" , ;\n", []), ("2", [2]), ("0, 2-3", [0, 2, 3]), ("3;1", [1, 3]), ("bear", [2]), ("TREE", [1, 3]),
    ("oak, 0", [0, 3]), ("palm\nbear", [1, 2]), ("2, bear, 2-2", [2]),
])  # fmt: skip
def test_numbers_ranges_and_names(text: str, chosen: list[int]) -> None:
    assert chosen_layers(text, NAMES) == chosen


@pytest.mark.parametrize("text", ["4", "1-4", "fox", "-1", "2-1", "1.5", "9" * 5000, "0-99999999999999", "background,fox"])
def test_what_is_no_layer_is_said_with_what_there_is(text: str) -> None:
    with pytest.raises(ValueError, match="There is no layer .* 0 background, 1 Tree, 2 bear, 3 tree. Enter numbers") as caught:
        chosen_layers(text, NAMES)
    assert len(str(caught.value)) < 400


def test_a_layer_called_like_a_number_is_meant_by_its_place() -> None:
    assert chosen_layers("1", [("1",), ("0",)]) == [1]


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_new_layer_is_empty_and_the_others_stay_the_same_objects(number: int) -> None:
    document = make_document(random(3, 6, 8, 3), random(3, 6, 8), ["a", "b", "c"])
    grown = with_new_layer(document, number, "new")
    assert [layer.name for layer in grown.layers] == ["a", "b", "c"][:number] + ["new"] + ["a", "b", "c"][number:]
    assert not grown.layers[number].coverage.any() and grown.canvas == (8, 6)
    assert [layer for n, layer in enumerate(grown.layers) if n != number] == document.layers
    assert torch.equal(composite(grown)[0], composite(document)[0])


def test_a_new_layer_that_is_one_too_many() -> None:
    document = make_document(random(50, 2, 2, 3), random(50, 2, 2), ["x"] * 50)
    with pytest.raises(ValueError, match="51 layers"):
        with_new_layer(document, 50, "")


@pytest.mark.parametrize("feather", [0, 1, 6, 40])
def test_all_of_the_mask_is_repainted_and_nothing_beyond_the_feather(feather: int) -> None:
    mask = torch.zeros(1, 24, 32)
    mask[:, 8:12, 10:20] = 1
    inside = region(mask, (32, 24), 2, feather)
    assert inside is not None and inside.shape == (2, 24, 32)
    assert (inside[:, 8:12, 10:20] > 0.999).all() and inside.min() >= 0 and inside.max() <= 1
    reach = 2 * -(-feather // 2)
    beyond = torch.ones(24, 32, dtype=torch.bool)
    beyond[max(0, 8 - reach):12 + reach, max(0, 10 - reach):20 + reach] = False
    assert not inside[:, beyond].any()
    if feather == 6:
        falling = inside[0, 10, 19:26]
        assert (falling.diff() < 0).all() and falling[0] == 1


def test_a_mask_of_another_size_is_stretched_and_each_layer_can_have_its_own() -> None:
    small = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    inside = region(small, (8, 4), 2, 0)
    assert inside is not None and inside.shape == (2, 4, 8)
    assert inside[0, :, :2].min() == 1 and not inside[0, :, 6:].any() and torch.allclose(inside[1], inside[0].flip(-1))
    assert region(None, (8, 4), 2, 8) is None
    assert torch.equal(region(small[0], (8, 4), 3, 0), inside[:1].expand(3, -1, -1))  # type: ignore[arg-type]


@pytest.mark.parametrize(("mask", "words"), [
    (torch.zeros(1, 4, 4), "selects nothing"), (torch.ones(3, 4, 4), "one for each of the 2"),
    (torch.full((1, 4, 4), math.nan), "finite"), (torch.ones(1, 1, 4, 4), "shape"), (torch.ones(1, 0, 4), "shape"),
])  # fmt: skip
def test_a_mask_that_cannot_be(mask: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        region(mask, (4, 4), 2, 0)


def odd_layer() -> Layer:
    """A layer that lies turned and scaled on the canvas, partly beyond it."""
    return Layer(random(1, 9, 7, 3), random(1, 9, 7, seed=1), "odd", 20, 14, x=15, y=-3, rotation=0.4, flip_h=True, opacity=0.7,
                 blend_mode="multiply", extra={"more": 1})


def test_a_drawing_takes_the_place_of_a_layer() -> None:
    picture, coverage = random(24, 32, 3, seed=2), random(24, 32, seed=3)
    drawn = drawn_anew(odd_layer(), (32, 24), picture, coverage, None, "new")
    assert torch.equal(drawn.image[0], picture) and torch.allclose(drawn.coverage[0], coverage)
    assert (drawn.x, drawn.y, drawn.w, drawn.h, drawn.rotation, drawn.flip_h) == (0, 0, 32, 24, 0.0, False)
    assert (drawn.name, drawn.opacity, drawn.blend_mode, drawn.extra) == ("new", 0.7, "multiply", {"more": 1})


def test_outside_the_mask_a_layer_stays_as_it_lies_on_the_canvas() -> None:
    base = Layer(random(1, 24, 32, 3, seed=5), torch.zeros(1, 24, 32), "base", 32, 24)
    document = Document([base, odd_layer()], (32, 24))
    mask = torch.zeros(1, 24, 32)
    mask[:, 6:12, 12:20] = 1
    inside = region(mask, (32, 24), 2, 4)
    assert inside is not None
    drawn = with_drawings(document, [1], random(1, 24, 32, 3, seed=2), torch.ones(1, 24, 32), inside, ["", ""])
    assert drawn.layers[0] is document.layers[0]
    before, after = composite(document)[0], composite(drawn)[0]
    rest = inside[1] == 0
    assert (before - after).abs()[0, rest].max() < 1 / 255
    assert (before - after).abs()[0, ~rest].max() > 0.1
    # Colours, too, not only what shows.
    plain = Document([base], (32, 24))
    again = with_drawings(plain, [0], random(1, 24, 32, 3, seed=2), torch.ones(1, 24, 32), inside[:1], [""])
    assert torch.equal(again.layers[0].image[0, rest], base.image[0, rest])
    assert torch.equal(again.layers[0].image[0, 7:11, 13:19], random(1, 24, 32, 3, seed=2)[0, 7:11, 13:19])


def test_transparent_colours_never_mix_in_at_the_feather() -> None:
    """Where the old layer was not there its black is no part of the blend."""
    nothing = Layer(torch.zeros(1, 16, 16, 3), torch.ones(1, 16, 16), "empty", 16, 16)
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:8, 4:8] = 1
    inside = region(mask, (16, 16), 1, 6)
    assert inside is not None
    drawn = drawn_anew(nothing, (16, 16), torch.ones(16, 16, 3), torch.ones(16, 16), inside[0])
    blended = inside[0] > 0
    assert drawn.image[0, blended].min() > 0.999 and torch.allclose(drawn.coverage[0], inside[0], atol=1e-6)


def test_pixels_of_a_redrawn_layer_are_those_of_the_drawing() -> None:
    document = make_document(random(2, 6, 8, 3), random(2, 6, 8), ["a", "b"])
    drawn = with_drawings(document, [1], random(1, 6, 8, 3, seed=4), torch.ones(1, 6, 8), None, ["x", "y"])
    assert [layer.name for layer in drawn.layers] == ["a", "y"]
    assert torch.equal(layer_pixels(drawn)[0][1], random(1, 6, 8, 3, seed=4)[0])
