"""Heals seams: removes colour fringes where a layer's mask extends beyond its content."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .edges import bleed_colours, push_pull
from .layers import Document, Layer

SOLID = 0.5
"""Coverage from which a pixel belongs to the layer's shape."""

FOREIGN, OWN = 0.1, 0.7
"""A pixel whose colour lies up to the first fraction of the way from the fringe's colour to the inside's is removed entirely;
from the second on it is kept entirely. The middle of the range is below 0.5 because the decoder blurs the edge, and half of
the blurred edge belongs to the layer."""

SURE = 0.1
"""How much the colours of fringe and inside must differ, beyond the fringe's own variation, for the full effect."""

SAME = 0.15
"""The distance up to which two colours count as the same."""


def heal_seams(document: Document, reach: int = 3) -> Document:
    """Remove colour fringes from the layers of a document, so that no seam is visible where layers meet.

    reach: the maximum width of a fringe in pixels of the layer's image, 1 or more. Returns a new document. Where a fringe has a
    uniform colour that differs from the inside's, coverage shrinks to where the inside's colour begins, and that colour is
    extended to the new edge. Placement does not change. Layers that are opaque everywhere have no fringe and are unchanged,
    as are parts thinner than the reach and masks that are too small. Source: ours, since LayerDiff names the weakness but no
    remedy; each pixel of a fringe is treated as a mix of two known colours, as in matting with a known background.
    """
    return replace(document, layers=[_heal(layer, document.canvas, reach) for layer in document.layers])


def _heal(layer: Layer, canvas: tuple[int, int], reach: int) -> Layer:
    coverage = layer.coverage.float()[None]
    if coverage.min() >= SOLID:
        return layer
    image = layer.image.float().movedim(-1, 1)
    # There is nothing beyond the layer's box, so a fringe can also run along it, except where the canvas crops the layer.
    sides = (layer.x > 0, layer.x + layer.w < canvas[0], layer.y > 0, layer.y + layer.h < canvas[1])
    left, right, top, bottom = ((reach + 1) * side for side in sides)
    coverage = F.pad(coverage, (left, right, top, bottom))
    image, coverage = _take_off(F.pad(image, (left, right, top, bottom), mode="replicate"), coverage, reach)
    inside = (..., slice(top, coverage.shape[2] - bottom), slice(left, coverage.shape[3] - right))
    return layer.with_pixels(image[inside].movedim(1, -1), coverage[inside][0])


def _take_off(image: Tensor, coverage: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Remove the fringe from image [1,3,H,W] and coverage [1,1,H,W]."""
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
    # If the inside also has the fringe's colour, it is not a fringe but part of the object: an outline, a penguin's back.
    alike = (image - rim).square().sum(1, keepdim=True).sqrt() < SAME
    within = (alike * _shrink(solid, reach + 1)).sum() / outermost.sum()
    sure = sure * (1 - within).clamp_min(0)
    # Anything farther from the inside than a fringe can be is a thin part, which may have a colour of its own.
    foreign = (1 - own * own * (3 - 2 * own)) * sure * _grow(inner, reach + 1) * (1 - inner)
    gone = 1 - coverage
    for _ in range(reach):  # Only pixels connected to the outside are removed; a spot inside the layer is not a fringe.
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
