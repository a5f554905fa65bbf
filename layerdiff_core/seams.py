"""Healing of seams: rims of foreign colour where a layer's mask reaches beyond its content."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .edges import bleed_colours, push_pull
from .layers import Document, Layer

SOLID = 0.5
"""Coverage from which on a pixel counts to the layer's shape."""

FOREIGN, OWN = 0.1, 0.7
"""How far along the way from the rim's colour to the inside's a pixel is gone wholly, and stays wholly. Below the
middle: the decoder smears the step between the two, and half of what it smeared belongs to the layer."""

SURE = 0.1
"""By how much, beyond the rim's own variety, the colours of rim and inside must differ to act on it in full."""

SAME = 0.15
"""Distance of two colours up to which they are one."""


def heal_seams(document: Document, reach: int = 3) -> Document:
    """Take rims of foreign colour off the layers of a document, so that none shows where layers meet.

    reach: pixels of the layer's picture, 1 or more, how deep a rim may be. Returns a new document. Where a rim is of one
    colour, and of another than the inside, coverage shrinks to where the inside's colour begins, and that colour is
    carried out to the new edge. Placement stays. A layer that is solid everywhere has no rim and stays as it is, as do
    parts thinner than the reach and masks that are too small, which leave no trace. Source: ours, since LayerDiff names
    the weakness and no cure; each pixel of a rim is taken for a mix of two known colours, as in matting before a known
    background.
    """
    return replace(document, layers=[_heal(layer, document.canvas, reach) for layer in document.layers])


def _heal(layer: Layer, canvas: tuple[int, int], reach: int) -> Layer:
    coverage = layer.coverage.float()[None]
    if coverage.min() >= SOLID:
        return layer
    image = layer.image.float().movedim(-1, 1)
    # Beyond the layer's box lies nothing: a rim also runs along it; but not where the canvas cuts a layer off.
    sides = (layer.x > 0, layer.x + layer.w < canvas[0], layer.y > 0, layer.y + layer.h < canvas[1])
    left, right, top, bottom = ((reach + 1) * side for side in sides)
    coverage = F.pad(coverage, (left, right, top, bottom))
    image, coverage = _take_off(F.pad(image, (left, right, top, bottom), mode="replicate"), coverage, reach)
    inside = (..., slice(top, coverage.shape[2] - bottom), slice(left, coverage.shape[3] - right))
    return layer.with_pixels(image[inside].movedim(1, -1), coverage[inside][0])


def _take_off(image: Tensor, coverage: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """image [1,3,H,W] and coverage [1,1,H,W] without their rim."""
    solid = (coverage >= SOLID).float()
    inner = _shrink(solid, reach)
    if not inner.any():
        return image, coverage
    inside = push_pull(image, inner)
    outermost = solid - _shrink(solid, 1)
    rim = _mean(image, outermost)
    variety = _mean((image - rim).square().sum(1, keepdim=True), outermost).sqrt()
    away = inside - rim
    distance = away.square().sum(1, keepdim=True)
    own = ((image - rim) * away).sum(1, keepdim=True) / distance.clamp_min(1e-4)
    own = ((own - FOREIGN) / (OWN - FOREIGN)).clamp(0, 1)
    sure = ((distance.sqrt() - variety) / SURE).clamp(0, 1)
    # Where the layer has the rim's colour within, too, the rim is its own: an outline, a penguin's back.
    alike = (image - rim).square().sum(1, keepdim=True).sqrt() < SAME
    within = (alike * _shrink(solid, reach + 1)).sum() / outermost.sum()
    sure = sure * (1 - within).clamp_min(0)
    # What stands further off from any inside than a rim can be is a thin part, whose colour may be its own.
    foreign = (1 - own * own * (3 - 2 * own)) * sure * _grow(inner, reach + 1) * (1 - inner)
    gone = 1 - coverage
    for _ in range(reach):  # Only what is joined to the outside goes: a spot within the layer is no rim.
        gone = torch.maximum(gone, torch.minimum(_grow(gone, 1), foreign))
    healed = torch.minimum(coverage, 1 - gone)
    near = _grow(coverage - healed, 2)
    return torch.lerp(image, bleed_colours(image, _shrink(healed, 1)), near.expand_as(image)), healed


def _grow(x: Tensor, radius: int) -> Tensor:
    return F.max_pool2d(x, 2 * radius + 1, stride=1, padding=radius)


def _shrink(x: Tensor, radius: int) -> Tensor:
    return -_grow(-x, radius)


def _mean(x: Tensor, weight: Tensor) -> Tensor:
    return (x * weight).sum((2, 3), keepdim=True) / weight.sum()
