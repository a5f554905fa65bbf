"""Places layers on the canvas: moved, scaled, rotated and flipped."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .edges import EMPTY, bleed_colours
from .layers import Document, Layer


class Placed(NamedTuple):
    """The part of a layer on the canvas: colours [1,h,w,3] and coverage [1,h,w], without opacity."""

    image: Tensor
    coverage: Tensor
    left: int
    top: int


def place(layer: Layer, canvas: tuple[int, int]) -> Placed | None:
    """Place a layer on the canvas by its x, y, w, h, rotation and flips.

    canvas: width, height. Returns the part on the canvas, None if there is none. Colours are straight and are interpolated
    bilinearly, weighted by coverage, so that hidden colours never show. Downscaling averages. The border is antialiased if
    the layer is rotated and exact if not, so that an enlarged layer still fills its box.
    """
    left, top, right, bottom = layer.bounds
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, canvas[0]), min(bottom, canvas[1])
    if left >= right or top >= bottom:
        return None
    image, coverage = layer.image, layer.coverage
    width, height = layer.w, layer.h
    if layer.is_upright:
        rows, columns = slice(top - layer.y, bottom - layer.y), slice(left - layer.x, right - layer.x)
        return Placed(image[:, rows, columns], coverage[:, rows, columns], left, top)
    rgba = torch.cat([image * coverage[..., None], coverage[..., None]], dim=-1).float().movedim(-1, 1)
    if height < rgba.shape[2] or width < rgba.shape[3]:
        size = (min(height, rgba.shape[2]), min(width, rgba.shape[3]))
        rgba = F.interpolate(rgba, size=size, mode="bilinear", antialias=True)
    # The position of each canvas pixel in the layer: u, v from its centre along its sides, in canvas pixels.
    down = torch.arange(top, bottom, device=image.device)[:, None] + 0.5 - layer.y - height / 2
    across = torch.arange(left, right, device=image.device) + 0.5 - layer.x - width / 2
    cos, sin = math.cos(layer.rotation), math.sin(layer.rotation)
    u, v = across * cos + down * sin, down * cos - across * sin
    border = (width / 2 - u.abs() + 0.5).clamp(0, 1) * (height / 2 - v.abs() + 0.5).clamp(0, 1)
    grid = torch.stack([u * (-2 if layer.flip_h else 2) / width, v * (-2 if layer.flip_v else 2) / height], -1)
    rgba = F.grid_sample(rgba, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    straight = rgba[:, :3] / rgba[:, 3:].clamp_min(1e-6)
    return Placed(straight.movedim(1, -1), rgba[:, 3] * border, left, top)


def upright(layer: Layer, canvas: tuple[int, int]) -> Layer | None:
    """Convert a layer to an upright, plain one, whose pixels are canvas pixels.

    canvas: width, height. Returns the layer itself, with its parts beyond the canvas, if it is upright and plain already.
    Otherwise returns a new layer, with the image's alpha in its coverage and, if the layer was scaled, rotated or flipped,
    only the part on the canvas; None if there is none.
    """
    if layer.is_upright:
        return layer if layer.is_plain else layer.with_pixels(layer.image, layer.coverage)
    placed = place(layer, canvas)
    if placed is None:
        return None
    height, width = placed.coverage.shape[1:]
    return layer.with_pixels(placed.image, placed.coverage, x=placed.left, y=placed.top, w=width, h=height, rotation=0.0,
                             flip_h=False, flip_v=False)  # fmt: skip


def placed_pixels(layer: Layer, canvas: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A layer as it lies on the canvas: an image [1,H,W,3] and coverage [1,H,W], 0..1, without opacity.

    canvas: width, height. The layer's own colours where it is, the nearest ones beyond its edge. A layer that fills the canvas
    is returned as it is, because its colours beyond the edge are its own too.
    """
    if layer.is_upright and (layer.x, layer.y, layer.w, layer.h) == (0, 0, *canvas):
        return layer.image, layer.coverage
    image, coverage = (layer.image.new_zeros(1, canvas[1], canvas[0], *rest) for rest in ((3,), ()))
    placed = place(layer, canvas)
    if placed is None:
        return image, coverage
    rows = slice(placed.top, placed.top + placed.coverage.shape[1])
    columns = slice(placed.left, placed.left + placed.coverage.shape[2])
    image[:, rows, columns], coverage[:, rows, columns] = placed.image, placed.coverage
    beyond = bleed_colours(image.movedim(-1, 1), coverage[:, None]).movedim(1, -1)
    return torch.where(coverage[..., None] >= EMPTY, image, beyond), coverage


def layer_pixels(document: Document) -> tuple[Tensor, Tensor]:
    """All layers of a document placed on the canvas, bottom first, without opacity.

    Returns images [K,H,W,3], with colours extended beyond the layer's edge, and coverage [K,H,W], 0..1.
    """
    width, height = document.canvas
    pictures, coverages = torch.zeros(len(document.layers), height, width, 3), torch.zeros(len(document.layers), height, width)
    for layer, picture, coverage in zip(document.layers, pictures, coverages):
        placed = place(layer, (width, height))
        if placed is not None:
            rows = slice(placed.top, placed.top + placed.coverage.shape[1])
            columns = slice(placed.left, placed.left + placed.coverage.shape[2])
            picture[rows, columns], coverage[rows, columns] = placed.image[0], placed.coverage[0]
    return bleed_colours(pictures.movedim(-1, 1), coverages[:, None]).movedim(1, -1), coverages
