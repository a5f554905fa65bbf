"""The layers of a document stacked into one picture."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .blend import blend
from .layers import Document, Layer
from .placement import upright

BAND = 1 << 18
"""Pixels that are worked on at a time on a CPU: what all steps touch stays in its cache."""

LINEAR_MODES = {"normal", "multiply", "darken", "lighten", "luminosity", "linear-dodge", "subtract", "divide"}
"""Modes whose formula, too, works on linear light when the composite does; ComfyUI's editor divides them like this."""


def composite(document: Document, linear: bool = False) -> tuple[Tensor, Tensor]:
    """Stack the visible layers of a document, with opacity and blend mode.

    linear: mix light instead of the numbers of the picture. Returns image [1,H,W,3], straight colours 0..1 (black where
    nothing lies), and alpha [1,H,W], 1 = opaque. ValueError for numbers that are not finite. Source: W3C Compositing and
    Blending Level 1, simple alpha compositing; for two layers and linear False it is I = mF + (1 - m)B of Text2Layer.
    """
    width, height = document.canvas
    layers = [layer for layer in document.layers if layer.visible and layer.opacity > 0]
    stack = [shown for layer in layers if (shown := upright(layer, (width, height))) is not None]
    device = stack[0].image.device if stack else torch.device("cpu")
    image = torch.empty(1, height, width, 3, device=device)
    alpha = torch.empty(1, height, width, device=device)
    rows = max(1, BAND // width) if device.type == "cpu" else height
    for top in range(0, height, rows):
        band = Box(0, top, width, min(top + rows, height))
        colours = image[:, top : band.bottom]
        beneath: Tensor | None = alpha[:, top : band.bottom].fill_(1)
        ground = _ground(stack, band)
        if ground is None:
            above = stack
            colours.zero_()
        else:
            above, beneath = stack[ground + 1 :], None
            source = _part(stack[ground], stack[ground].image, band).to(colours)
            colours.copy_(_to_linear(source) if linear else source)
        for layer in above:
            box = _box(layer, band)
            if box is not None:
                _lay(colours, beneath, layer, box, top, linear)
        if not _finish(colours, beneath, linear):
            document.check_finite()
    return image, alpha


class Box(NamedTuple):
    """A rectangle of the canvas; right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def _box(layer: Layer, band: Box) -> Box | None:
    """Where in a band of the canvas an upright layer covers anything, None if nowhere.

    Most layers leave most of the canvas empty, which is worth no work.
    """
    box = _bounds(layer, band)
    through = layer.transparency
    if box is None or through is None:
        return box
    # Not "less than 1": numbers that are no numbers, too, are to be found.
    rows = (~(_part(layer, through, box)[0].amin(1) >= 1)).nonzero()
    if not len(rows):
        return None
    return box._replace(top=box.top + int(rows[0]), bottom=box.top + int(rows[-1]) + 1)


def _bounds(layer: Layer, band: Box) -> Box | None:
    """What of a band lies within an upright layer's rectangle, None if nothing."""
    right, bottom = layer.x + layer.w, layer.y + layer.h
    box = Box(max(band.left, layer.x), max(band.top, layer.y), min(band.right, right), min(band.bottom, bottom))
    return box if box.left < box.right and box.top < box.bottom else None


def _part(layer: Layer, values: Tensor, box: Box) -> Tensor:
    """A box of the canvas out of an upright layer's image or transparency, which holds all of it."""
    return values[:, box.top - layer.y : box.bottom - layer.y, box.left - layer.x : box.right - layer.x]


def _ground(stack: list[Layer], band: Box) -> int | None:
    """The topmost layer that hides all others in a band: with it a stack can begin.

    Mostly it is the background, of eight layers an eighth of the work.
    """
    return next((index for index in reversed(range(len(stack))) if _hides_all(stack[index], band)), None)


def _hides_all(layer: Layer, band: Box) -> bool:
    """Whether nothing of what lies beneath an upright layer is to be seen in a band."""
    if layer.blend_mode != "normal" or layer.opacity < 1 or _bounds(layer, band) != band:
        return False
    if layer.transparency is None:
        return True
    through = _part(layer, layer.transparency, band)
    # The corner keeps the search from most of the layers.
    return bool(through[0, 0, 0] <= 0) and bool(through.amax() <= 0)


def _lay(image: Tensor, beneath: Tensor | None, layer: Layer, box: Box, top: int, linear: bool) -> None:
    """Lay a box of a layer on a band's premultiplied image, which begins at the canvas' row top.

    beneath is what shines through the image, 1 - alpha, None if nothing does.
    """
    place = slice(None), slice(box.top - top, box.bottom - top), slice(box.left, box.right)
    image, source = image[place], _part(layer, layer.image, box).to(image)
    whole = layer.transparency
    through = image.new_zeros(image.shape[:3]) if whole is None else _part(layer, whole, box).to(image).clamp(0, 1)
    if layer.opacity < 1:
        through = torch.lerp(torch.ones_like(through), through, layer.opacity)
    colours = _to_linear(source) if linear else source
    if layer.blend_mode != "normal":
        if beneath is None:
            colours = _blend(layer.blend_mode, image.clamp(0, 1), source, linear)
        else:
            alpha = (1 - beneath[place])[..., None]
            backdrop = (image / alpha.clamp_min(1e-6)).clamp(0, 1)
            colours = torch.lerp(colours, _blend(layer.blend_mode, backdrop, source, linear), alpha)
    # The weight is written out for all three channels, one after the other: broadcast over so short a dimension a lerp
    # is twenty times slower, and a copy twice.
    weight = torch.empty_like(colours, memory_format=torch.contiguous_format)
    for channel in weight.unbind(-1):
        channel.copy_(through)
    torch.lerp(colours, image, weight, out=image)
    if beneath is not None:
        beneath[place].mul_(through)


def _blend(mode: str, backdrop: Tensor, source: Tensor, linear: bool) -> Tensor:
    if not linear:
        return blend(mode, backdrop, source)
    if mode in LINEAR_MODES:
        return blend(mode, backdrop, _to_linear(source))
    return _to_linear(blend(mode, _to_display(backdrop), source))


def _finish(image: Tensor, beneath: Tensor | None, linear: bool) -> bool:
    """From premultiplied to straight colours within 0..1, back from light, and beneath to alpha. Returns if all is finite."""
    if beneath is not None:
        beneath.neg_().add_(1)
        image.div_(beneath[..., None].clamp_min(1e-6))
    if linear:
        image.copy_(_to_display(image))
    finite = math.isfinite(image.sum())
    image.clamp_(0, 1)
    return finite


def _to_linear(colour: Tensor) -> Tensor:
    """sRGB numbers to light (IEC 61966-2-1), 0..1."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def _to_display(light: Tensor) -> Tensor:
    """Light to sRGB numbers (IEC 61966-2-1), 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0) ** (1 / 2.4) - 0.055)
