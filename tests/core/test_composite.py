"""Compositing against hand-worked values, the paper's formula and Pillow."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from layerdiff_core import composite as module
from layerdiff_core.blend import MODES, blend
from layerdiff_core.composite import composite
from layerdiff_core.layers import Document, Layer, make_document
from layerdiff_core.placement import place
from tests.documents import alter


def flat(*layers: tuple[tuple[float, float, float], float], size: int = 2) -> Document:
    """A document of layers of one colour and coverage each, bottom first."""
    images = torch.stack([torch.tensor(colour).expand(size, size, 3) for colour, _ in layers]).float()
    coverage = torch.stack([torch.full((size, size), alpha) for _, alpha in layers])
    return make_document(images, coverage, [str(k) for k in range(len(layers))])


def pixel(doc: Document, linear: bool = False) -> list[float]:
    """Colour and alpha of a flat composite. Fails if it is not flat."""
    image, alpha = composite(doc, linear)
    assert image.shape[:3] == alpha.shape and image.shape[0] == 1 and image.shape[3] == 3
    rgba = torch.cat([image, alpha[..., None]], -1).reshape(-1, 4)
    assert torch.allclose(rgba, rgba[:1].expand_as(rgba), atol=1e-6)
    return rgba[0].tolist()


def test_two_layers_are_the_papers_formula():
    front, back, mask = torch.rand(1, 9, 7, 3), torch.rand(1, 9, 7, 3), torch.rand(1, 9, 7)
    doc = make_document(torch.cat([back, front]), torch.cat([torch.ones_like(mask), mask]), ["B", "F"])
    image, alpha = composite(doc)
    m = mask[..., None]
    assert torch.allclose(image, m * front + (1 - m) * back, atol=1e-6)
    assert alpha.eq(1).all()


def test_the_colour_of_a_transparent_composite_is_straight():
    # alpha = 0.5 + 0.5 * 0.4 = 0.7; colour = (0.5 * 1 + 0.2 * 0.25) / 0.7
    assert pixel(flat(((0.25, 0, 0), 0.4), ((1, 0, 0), 0.5))) == pytest.approx([0.55 / 0.7, 0, 0, 0.7], abs=1e-6)
    assert pixel(flat(((0.3, 0.6, 0.9), 0.01))) == pytest.approx([0.3, 0.6, 0.9, 0.01], abs=1e-4)
    assert pixel(flat(((0.3, 0.6, 0.9), 0.0))) == [0, 0, 0, 0]


def test_linear_light():
    # 0.5 of white light is 0.7354 in sRGB numbers; one layer alone is unchanged
    assert pixel(flat(((0, 0, 0), 1), ((1, 1, 1), 0.5)), linear=True)[0] == pytest.approx(0.735357, abs=1e-5)
    assert pixel(flat(((0.02, 0.4, 0.9), 0.5)), linear=True) == pytest.approx([0.02, 0.4, 0.9, 0.5], abs=1e-5)


def test_linear_light_multiplies_light_but_overlays_numbers():
    def both(mode):
        doc = flat(((0.5, 0.5, 0.5), 1), ((0.8, 0.8, 0.8), 1))
        alter(doc, 1, blend_mode=mode)
        return pixel(doc, linear=True)[0]

    light = (((0.5 + 0.055) / 1.055) ** 2.4) * (((0.8 + 0.055) / 1.055) ** 2.4)
    assert both("multiply") == pytest.approx(1.055 * light ** (1 / 2.4) - 0.055, abs=1e-5)
    assert both("overlay") == pytest.approx(0.8, abs=1e-5)


def test_opacity_visibility_and_order():
    doc = flat(((0, 0, 0), 1), ((1, 0, 0), 1), ((0, 1, 0), 0.5))
    assert pixel(doc)[:3] == pytest.approx([0.5, 0.5, 0])
    alter(doc, 1, opacity=0.5)
    assert pixel(doc)[:3] == pytest.approx([0.25, 0.5, 0])
    alter(doc, 2, visible=False)
    assert pixel(doc)[:3] == pytest.approx([0.5, 0, 0])
    doc.layers.append(doc.layers.pop(0))  # black comes to the top
    assert pixel(doc)[:3] == [0, 0, 0]
    alter(doc, 2, opacity=0)
    assert pixel(doc) == pytest.approx([1, 0, 0, 0.5])


def test_nothing_visible_is_transparent_black():
    doc = flat(((1, 1, 1), 1))
    alter(doc, 0, visible=False)
    assert pixel(doc) == [0, 0, 0, 0]


@pytest.mark.parametrize("mode", MODES)
def test_a_blend_mode_works_where_something_lies_beneath(mode):
    # W3C: Cs' = (1 - ab) Cs + ab B(Cb, Cs); co = as Cs' + (1 - as) ab Cb; ao = as + ab (1 - as)
    below, above, ab, a = (0.8, 0.4, 0.2), (0.1, 0.25, 0.6), 0.6, 0.5
    doc = flat((below, ab), (above, a))
    alter(doc, 1, blend_mode=mode)
    cb, cs = torch.tensor(below), torch.tensor(above)
    mixed = (1 - ab) * cs + ab * blend(mode, cb, cs)
    alpha = a + ab * (1 - a)
    colour = (a * mixed + (1 - a) * ab * cb) / alpha
    assert pixel(doc) == pytest.approx([*colour.tolist(), alpha], abs=1e-5)


def test_multiply_on_opaque_by_hand():
    doc = flat(((0.5, 0.8, 1.0), 1), ((0.4, 0.5, 0.5), 0.5))
    alter(doc, 1, blend_mode="multiply")
    assert pixel(doc) == pytest.approx([0.35, 0.6, 0.75, 1], abs=1e-6)  # halfway from b to b * s


def test_a_small_layer_touches_only_its_box():
    doc = flat(((0.2, 0.2, 0.2), 1), size=8)
    doc.layers.append(Layer(torch.ones(1, 2, 3, 3), None, "small", 3, 2, 6, -1))
    image, alpha = composite(doc)
    expected = torch.full((8, 8), 0.2)
    expected[0, 6:] = 1
    assert torch.allclose(image[0, ..., 1], expected) and alpha.eq(1).all()


@pytest.mark.parametrize("linear", [False, True])
def test_bands_leave_no_trace(linear, monkeypatch):
    torch.manual_seed(0)
    doc = make_document(torch.rand(4, 37, 29, 3), torch.rand(4, 37, 29), list("abcd"))
    alter(doc, 2, blend_mode="soft-light", rotation=0.7, x=5, y=-9, opacity=0.8)
    whole = composite(doc, linear)
    monkeypatch.setattr(module, "BAND", 29 * 5)
    for one, other in zip(whole, composite(doc, linear)):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("opaque", [True, False])
def test_like_pillow(opaque):
    torch.manual_seed(1)
    images, coverage = torch.rand(5, 64, 48, 3), torch.rand(5, 64, 48)
    coverage[1] = (coverage[1] > 0.5).float()
    if opaque:
        coverage[0] = 1
    image, alpha = composite(make_document(images, coverage, list("abcde")))
    rgba = (torch.cat([images, coverage[..., None]], -1) * 255).round().byte().numpy()
    stacked = Image.fromarray(rgba[0])
    for one in rgba[1:]:
        stacked = Image.alpha_composite(stacked, Image.fromarray(one))
    expected = torch.from_numpy(np.array(stacked)).float() / 255
    assert (alpha[0] - expected[..., 3]).abs().max() < 4 / 255  # Pillow rounds after each layer
    weight = expected[..., 3:]
    assert ((image[0] - expected[..., :3]).abs() * weight).max() < 4 / 255
    assert ((image[0] - expected[..., :3]) * weight).mean().abs() < 0.5 / 255


@pytest.mark.parametrize(("part", "bad"), [("image", math.nan), ("image", math.inf), ("mask", math.nan)])
def test_numbers_that_are_not_finite_are_named(part, bad):
    doc = flat(((0, 0, 0), 1), ((1, 1, 1), 0.5))
    layer = doc.layers[1]
    pixels, mask = layer.pixels.clone(), layer.mask.clone()
    (pixels if part == "image" else mask)[0, 1, 1] = bad
    doc.layers[1] = replace(layer, pixels=pixels, mask=mask)
    with pytest.raises(ValueError, match=f"{part} of layer '1'.*not finite"):
        composite(doc)


def test_the_document_is_not_touched():
    doc = make_document(torch.rand(3, 8, 8, 3), torch.rand(3, 8, 8), list("abc"))
    alter(doc, 1, blend_mode="multiply")
    before = [(layer.image.clone(), layer.mask.clone()) for layer in doc.layers]
    composite(doc), composite(doc, linear=True)
    for layer, (image, mask) in zip(doc.layers, before):
        assert torch.equal(layer.image, image) and torch.equal(layer.mask, mask)


@pytest.mark.parametrize("rows", [40, 10])
def test_what_is_hidden_and_what_is_empty_is_left_out_without_a_difference(rows, monkeypatch):
    """Opaque layers over others, with holes, offsets and modes between, against the plain formula in one piece."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(5, 40, 50, 3, generator=generator)
    coverage = torch.ones(5, 40, 50)
    coverage[0, :8] = 0.5
    coverage[1, :20, :30], coverage[1, 10:12, 40] = 0, 0.25
    coverage[2, :, 12:20] = 0
    coverage[3, :30] = 0
    coverage[4] = torch.rand(40, 50, generator=generator).round()
    doc = make_document(images, coverage, [str(k) for k in range(5)])
    alter(doc, 2, x=-7, y=5)
    alter(doc, 3, blend_mode="screen", x=9)
    monkeypatch.setattr(module, "BAND", 50 * rows)
    image, alpha = composite(doc)
    expected, covered = torch.zeros(40, 50, 3), torch.zeros(40, 50, 1)
    for layer in doc.layers:
        placed = place(layer, (50, 40))
        rows, columns = (slice(at, at + size) for at, size in zip((placed.top, placed.left), placed.coverage.shape[1:]))
        beneath, mask = expected[rows, columns], placed.coverage[0, ..., None]
        source = placed.image[0]
        if layer.blend_mode == "screen":
            source = beneath + source - beneath * source
        expected[rows, columns] = mask * source + (1 - mask) * beneath
        covered[rows, columns] = covered[rows, columns] + mask * (1 - covered[rows, columns])
    torch.testing.assert_close(image[0], expected / covered.clamp_min(1e-6), atol=1e-5, rtol=0)
    torch.testing.assert_close(alpha[0], covered[..., 0], atol=1e-6, rtol=0)
