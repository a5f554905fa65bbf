"""Baking and trimming keep the composite and leave only content."""

import math
from dataclasses import replace

import pytest
import torch

from layerdiff_core.composite import composite
from layerdiff_core.edges import EMPTY
from layerdiff_core.layers import Document, change_layer, make_document
from layerdiff_core.trim import bake, trim
from tests.documents import alter


def scene() -> Document:
    """Three layers of 40 x 30: a background, a soft disc and nothing at all."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 30, 40, 3, generator=generator)
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(40.0), indexing="ij")
    disc = (7.5 - ((x - 24) ** 2 + (y - 11) ** 2).sqrt()).clamp(0, 1)
    return make_document(images, torch.stack([torch.ones(30, 40), disc, torch.zeros(30, 40)]), ["ground", "disc", "none"])


def test_trim_leaves_the_content_and_the_composite() -> None:
    doc = scene()
    ground, disc, nothing = trim(doc).layers
    assert [getattr(ground, key) for key in "xywh"] == [0, 0, 40, 30]
    assert [getattr(disc, key) for key in "xywh"] == [17, 4, 15, 15]
    assert disc.image.shape == (1, 15, 15, 3) and disc.coverage.shape == (1, 15, 15)
    assert nothing.coverage.tolist() == [[[0.0]]]
    for before, after in zip(composite(doc), composite(trim(doc))):
        torch.testing.assert_close(before, after, atol=1e-6, rtol=0)


def test_a_trimmed_document_trims_to_itself() -> None:
    once = trim(scene())
    twice = trim(once)
    for one, two in zip(once.layers, twice.layers):
        assert torch.equal(one.image, two.image) and torch.equal(one.coverage, two.coverage)
        assert [getattr(one, key) for key in "xywh"] == [getattr(two, key) for key in "xywh"]


@pytest.mark.parametrize(
    "change",
    [{"scale": 1.7}, {"scale": 0.4}, {"degrees": 33.0}, {"right": 500}, {"right": 500, "degrees": 5.0},
     {"right": -13, "down": 9}],  # fmt: skip
)
@pytest.mark.parametrize("flip", [False, True])
def test_changed_layers_keep_the_composite(change: dict, flip: bool) -> None:
    doc = change_layer(scene(), 1, opacity=0.8, blend_mode="multiply", **change)
    alter(doc, 1, flip_h=flip)
    for work in (bake, trim):
        after = work(doc)
        for layer in after.layers:
            assert layer.image.shape == (1, layer.h, layer.w, 3)
            assert layer.is_upright and layer.is_plain
            assert not (layer.rotation or layer.flip_h or layer.flip_v)
        assert [layer.opacity for layer in after.layers] == [1.0, 0.8, 1.0]
        for one, two in zip(composite(doc), composite(after)):
            torch.testing.assert_close(one, two, atol=EMPTY, rtol=0)


def test_what_is_turned_has_its_colours_beyond_its_edge_too() -> None:
    doc = change_layer(scene(), 1, degrees=30.0)
    alter(doc, 1, image=torch.tensor([1.0, 0.5, 0.25]).expand(1, 30, 40, 3))
    baked = bake(doc).layers[1]
    hidden = baked.image[baked.coverage == 0]
    torch.testing.assert_close(hidden, torch.tensor([1.0, 0.5, 0.25]).expand_as(hidden), atol=0.01, rtol=0)


def test_an_upright_layer_beyond_the_canvas_keeps_its_pixels() -> None:
    doc = change_layer(scene(), 1, right=30)
    moved = trim(doc).layers[1]
    assert moved.x == 47 and moved.w == 15
    back = replace(trim(doc), fixed_canvas=(80, 30))
    assert composite(back)[1][0, 11, 54] == 1


def test_alpha_in_the_picture_and_a_small_mask_are_joined() -> None:
    doc = scene()
    pixels = torch.cat([doc.layers[1].image, torch.ones(1, 30, 40, 1)], dim=-1)
    pixels[:, :10, :, 3] = 0
    alter(doc, 1, pixels=pixels, mask=torch.zeros(1, 15, 20))
    after = trim(doc)
    assert [getattr(after.layers[1], key) for key in "xywh"] == [0, 10, 40, 20]
    assert math.isclose(float((composite(doc)[0] - composite(after)[0]).abs().max()), 0, abs_tol=1e-6)
