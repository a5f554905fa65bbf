"""Seams: colour fringes are removed, everything that belongs to a layer stays."""

import pytest
import torch

from layerdiff_core.composite import composite
from layerdiff_core.layers import Document, make_document
from layerdiff_core.seams import heal_seams
from layerdiff_core.trim import trim
from tests.documents import fields

SIDE = 64
GREY, RED, GREEN = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.8, 0.2, 0.1]), torch.tensor([0.1, 0.9, 0.3])


def disc(radius: float, x: float = 30, y: float = 34) -> torch.Tensor:
    """Coverage [SIDE,SIDE] with an edge two pixels wide."""
    down, across = torch.meshgrid(torch.arange(float(SIDE)), torch.arange(float(SIDE)), indexing="ij")
    return ((radius - ((across - x) ** 2 + (down - y) ** 2).sqrt()) / 2 + 0.5).clamp(0, 1)


def scene(picture: torch.Tensor, coverage: torch.Tensor) -> Document:
    """The image [SIDE,SIDE,3] over grey."""
    images = torch.stack([GREY.expand(SIDE, SIDE, 3), picture])
    return make_document(images, torch.stack([torch.ones(SIDE, SIDE), coverage]), ["ground", "thing"])


def mixed(inside: torch.Tensor, outside: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
    return torch.lerp(outside.expand(SIDE, SIDE, 3), inside.expand(SIDE, SIDE, 3), coverage[..., None])


def error(doc: Document, truth: Document) -> float:
    """Mean difference of the composites where they may differ."""
    band = (disc(20) > 0) & (disc(12) < 1)
    return float((composite(doc)[0] - composite(truth)[0])[0][band].abs().mean())


@pytest.mark.parametrize("too_large", [1, 2])
def test_a_foreign_rim_goes(too_large: int) -> None:
    truth = scene(RED.expand(SIDE, SIDE, 3), disc(15))
    spoilt = scene(mixed(RED, GREEN, disc(15)), disc(15 + too_large))
    assert error(heal_seams(spoilt), truth) < 0.4 * error(spoilt, truth)
    healed = composite(heal_seams(spoilt))[0]
    assert (healed[..., 1] - healed[..., 0]).max() < 0.1 < (composite(spoilt)[0][..., 1] - composite(spoilt)[0][..., 0]).max()


def test_a_trimmed_layer_is_healed_along_its_box_and_keeps_its_place() -> None:
    spoilt = scene(mixed(RED, GREEN, disc(15)), disc(17))
    whole, small = composite(heal_seams(spoilt))[0], composite(heal_seams(trim(spoilt)))[0]
    torch.testing.assert_close(whole, small, atol=0.03, rtol=0)
    before, after = trim(spoilt).layers[1], heal_seams(trim(spoilt)).layers[1]
    assert fields(before) == fields(after)


def test_the_canvas_edge_is_no_seam() -> None:
    spoilt = scene(mixed(RED, GREEN, disc(15, y=SIDE)), disc(17, y=SIDE))
    healed = heal_seams(spoilt).layers[1]
    assert healed.coverage[0, -1, 20:40].min() > 1 - 1e-6


@pytest.mark.parametrize("case", ["clean", "too small", "shaded", "outline with eyes", "thin", "faint"])
def test_what_is_the_layers_own_stays(case: str) -> None:
    coverage, picture = disc(15), RED.expand(SIDE, SIDE, 3)
    if case == "too small":
        coverage, picture = disc(13), mixed(RED, GREEN, disc(15))
    if case == "shaded":
        picture = RED * torch.linspace(0.6, 1, SIDE)[:, None, None].expand(SIDE, SIDE, 1)
    if case == "outline with eyes":
        picture = mixed(RED, GREEN, (disc(13) - disc(6, 24, 30) - disc(6, 37, 30)).clamp(0, 1))
    if case == "thin":
        coverage, picture = disc(2.5), mixed(RED, GREEN, disc(1))
    if case == "faint":
        coverage = 0.4 * coverage
    doc = scene(picture, coverage)
    healed = composite(heal_seams(doc))[0]
    assert (healed - composite(doc)[0]).abs().max() < 4 / 255


def test_solid_layers_and_the_given_document_stay_as_they_are() -> None:
    doc = scene(mixed(RED, GREEN, disc(15)), disc(17))
    before = [layer.coverage for layer in doc.layers]
    healed = heal_seams(doc)
    assert healed.layers[0].image is not None and torch.equal(healed.layers[0].image, doc.layers[0].image)
    assert all(torch.equal(one, layer.coverage) for one, layer in zip(before, doc.layers))
    assert (healed.layers[1].coverage <= doc.layers[1].coverage + 1e-6).all()
