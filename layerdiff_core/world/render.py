"""Draws the foregrounds of scenes in batches, with plain tensor code, on the device of the object images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..edges import bleed_colours
from .scenes import EXTENTS, HOMES, SLOT_X

SLOT_JITTER = (0.06, 0.06, 0.04)
FLOOR = ((0.78, 0.86), (0.81, 0.91), (0.86, 0.95))
SKY = (0.15, 0.40)
ANY_ON_GROUND = 0.8
CUT = 0.02
TURN = math.radians(8)
SHADING = 0.22
"""How much brighter than its middle an object's lit side is, and how much darker the other side."""
# How a light changes a colour: factors for red, green and blue.
TINTS = ((1.0, 1.0, 1.0), (1.0, 0.82, 0.70), (0.57, 0.60, 0.86))


@dataclass
class Placement:
    """Where objects go, as float tensors [B]: centre x and y and extent (the longest side) as fractions of the canvas, y
    downwards; angle in radians; flip -1 or 1."""

    x: Tensor
    y: Tensor
    extent: Tensor
    angle: Tensor
    flip: Tensor


def placements(
    slot: Tensor, size: Tensor, home: Tensor, width: Tensor, height: Tensor, generator: torch.Generator
) -> Placement:
    """Random placements for B objects. slot, size, home: long [B], indices into SLOTS, SIZES, HOMES. width, height: float [B],
    each object's sides relative to its longest side."""
    device = slot.device

    def roll() -> Tensor:
        return torch.rand(slot.shape, device=device, generator=generator)

    def within(ranges: Tensor) -> Tensor:
        return ranges[..., 0] + roll() * (ranges[..., 1] - ranges[..., 0])

    def table(values: tuple) -> Tensor:
        return torch.tensor(values, device=device)

    extent = within(table(EXTENTS)[size])
    angle = (roll() * 2 - 1) * TURN
    cos, sin = angle.cos(), angle.sin().abs()
    half_width, half_height = extent / 2 * (width * cos + height * sin), extent / 2 * (height * cos + width * sin)
    x = table(SLOT_X)[slot] + (roll() * 2 - 1) * table(SLOT_JITTER)[size]
    standing = within(table(FLOOR)[size]) - half_height
    floating = within(table(SKY).expand(*slot.shape, 2))
    flies = (home == HOMES.index("sky")) | ((home == HOMES.index("any")) & (roll() > ANY_ON_GROUND))
    y = torch.where(flies, floating, standing)
    x = _inside(x, half_width)
    y = _inside(y, half_height)
    flip = torch.where(roll() < 0.5, -1.0, 1.0)
    return Placement(x, y, extent, angle, flip)


def draw_foregrounds(
    images: Tensor,
    object: Tensor,
    style: Tensor,
    light: Tensor,
    size: Tensor,
    slot: Tensor,
    home: Tensor,
    generator: torch.Generator,
    canvas: int,
    side: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw B objects, each on its own canvas.

    images: uint8 [N, 2, H, W, RGBA], not premultiplied. object, style, light, size, slot, home: long [B]; home indexes
    scenes.HOMES. generator: on the same device. side: long [B], where the light comes from, an index into scenes.SIDES; default
    left. Returns images [B, 3, canvas, canvas] in 0..1, with colours extended beyond the object, and their coverage
    [B, 1, canvas, canvas], 1 where the object is.
    """
    source = images[object, style].permute(0, 3, 1, 2).float() / 255
    box = _bounds(source[:, 3] > 0.03)
    width, height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    longest = torch.maximum(width, height)
    place = placements(slot, size, home, width / longest, height / longest, generator)

    alpha = source[:, 3:]
    source = torch.cat([source[:, :3] * alpha, alpha], 1)  # premultiplied, so that colours of transparent pixels do not leak in
    over = max(2, math.ceil(2 * images.shape[2] / canvas))
    grid = _grid(place, box, longest, canvas * over)
    drawn = F.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    drawn = F.avg_pool2d(drawn, over)
    coverage = drawn[:, 3:].clamp(0, 1)
    picture = (drawn[:, :3] / coverage.clamp_min(1e-4)).clamp(0, 1)
    picture = _vary(picture, generator) * torch.tensor(TINTS, device=picture.device)[light][:, :, None, None]
    picture = (picture * _shade(place, torch.zeros_like(object) if side is None else side, canvas)).clamp(0, 1)
    return bleed_colours(picture, coverage).clamp(0, 1), coverage


def compose(background: Tensor, pictures: list[Tensor], coverages: list[Tensor]) -> Tensor:
    """Composite images [B, 3, H, W] over the background, lowest first: I = m F + (1 - m) B (Text2Layer, section 3)."""
    image = background
    for picture, coverage in zip(pictures, coverages):
        image = coverage * picture + (1 - coverage) * image
    return image


def _inside(centre: Tensor, half: Tensor) -> Tensor:
    """Move a centre so that at most CUT of the side lies beyond the canvas."""
    keep = half * (1 - 2 * CUT)
    return torch.minimum(torch.maximum(centre, keep), 1 - keep)


def _bounds(solid: Tensor) -> Tensor:
    """Left, top, right and bottom [B, 4] of the true part of [B, H, W], in grid_sample's coordinates -1..1."""

    def ends(line: Tensor) -> tuple[Tensor, Tensor]:
        length = line.shape[-1]
        first = line.float().argmax(-1)
        last = length - line.flip(-1).float().argmax(-1)
        return first / length * 2 - 1, last / length * 2 - 1

    (left, right), (top, bottom) = ends(solid.any(1)), ends(solid.any(2))
    return torch.stack([left, top, right, bottom], -1)


def _grid(place: Placement, box: Tensor, longest: Tensor, side: int) -> Tensor:
    """The sampling grid: for each canvas pixel, the position in the image, by shifting to the object's centre and rotating."""
    scale = longest / (2 * place.extent)  # from canvas units (-1..1) to image units (-1..1)
    cos, sin = torch.cos(place.angle) * scale, torch.sin(place.angle) * scale
    x, y = place.x * 2 - 1, place.y * 2 - 1
    middle_x, middle_y = (box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2
    row_x = torch.stack([place.flip * cos, place.flip * sin, middle_x - place.flip * (cos * x + sin * y)], -1)
    row_y = torch.stack([-sin, cos, middle_y - (cos * y - sin * x)], -1)
    return F.affine_grid(torch.stack([row_x, row_y], 1), [len(x), 4, side, side], align_corners=False)


def _shade(place: Placement, side: Tensor, canvas: int) -> Tensor:
    """Light from one side: a factor per pixel column [B, 1, 1, canvas], 1 at an object's centre."""
    x = (torch.arange(canvas, device=side.device) + 0.5) / canvas
    across = ((x - place.x[:, None]) / (place.extent[:, None] / 2)).clamp(-1, 1)
    return (1 + SHADING * (2 * side[:, None] - 1) * across)[:, None, None]


def _vary(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Vary the hue (a rotation about the grey axis) and brightness of each image slightly, against memorisation."""
    count, device = len(picture), picture.device
    angle = (torch.rand(count, device=device, generator=generator) * 2 - 1) * math.radians(5)
    gain = 1 + (torch.rand(count, device=device, generator=generator) * 2 - 1) * 0.05
    third = torch.full((3, 3), 1 / 3, device=device)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=device) / math.sqrt(3)
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    turn = cos * (torch.eye(3, device=device) - third) + third + sin * cross
    return (torch.einsum("bij,bjhw->bihw", turn, picture) * gain[:, None, None, None]).clamp(0, 1)
