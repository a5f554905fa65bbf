"""Composites the layers of a document into one image."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .blend import blend
from .layers import Document, Layer
from .placement import upright

BAND = 1 << 18
"""Pixels processed at a time on a CPU, few enough to stay in its cache through all steps."""

LINEAR_MODES = {"normal", "multiply", "darken", "lighten", "luminosity", "linear-dodge", "subtract", "divide"}
"""Modes that are also computed in linear light when the composite is. ComfyUI's editor makes the same distinction."""


def composite(document: Document, linear: bool = False) -> tuple[Tensor, Tensor]:
    """Composite the visible layers of a document, with opacity and blend mode.

    linear: blend in linear light instead of sRGB. Returns the image [1,H,W,3], straight colours 0..1 (black where there is no
    layer), and alpha [1,H,W], 1 = opaque. ValueError for values that are not finite. Source: W3C Compositing and Blending
    Level 1, simple alpha compositing; with two layers and linear False this is I = mF + (1 - m)B of Text2Layer.
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
    """A rectangle of the canvas; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def _box(layer: Layer, band: Box) -> Box | None:
    """The part of a band of the canvas that an upright layer covers, None if it covers nothing.

    Saves work, since most layers leave most of the canvas empty.
    """
    box = _bounds(layer, band)
    through = layer.transparency
    if box is None or through is None:
        return box
    # Not "less than 1", so that NaN values are included and reported.
    rows = (~(_part(layer, through, box)[0].amin(1) >= 1)).nonzero()
    if not len(rows):
        return None
    return box._replace(top=box.top + int(rows[0]), bottom=box.top + int(rows[-1]) + 1)


def _bounds(layer: Layer, band: Box) -> Box | None:
    """The part of a band within an upright layer's rectangle, None if they do not overlap."""
    right, bottom = layer.x + layer.w, layer.y + layer.h
    box = Box(max(band.left, layer.x), max(band.top, layer.y), min(band.right, right), min(band.bottom, bottom))
    return box if box.left < box.right and box.top < box.bottom else None


def _part(layer: Layer, values: Tensor, box: Box) -> Tensor:
    """The values of an upright layer's image or transparency in a box of the canvas, which must lie within the layer."""
    return values[:, box.top - layer.y : box.bottom - layer.y, box.left - layer.x : box.right - layer.x]


def _ground(stack: list[Layer], band: Box) -> int | None:
    """The index of the topmost layer that hides everything below it in a band, where compositing can start; None if none does.

    Usually this is the background, which saves an eighth of the work with eight layers.
    """
    return next((index for index in reversed(range(len(stack))) if _hides_all(stack[index], band)), None)


def _hides_all(layer: Layer, band: Box) -> bool:
    """Whether an upright layer hides everything below it in a band."""
    if layer.blend_mode != "normal" or layer.opacity < 1 or _bounds(layer, band) != band:
        return False
    if layer.transparency is None:
        return True
    through = _part(layer, layer.transparency, band)
    # The corner pixel rules out most layers without a search.
    return bool(through[0, 0, 0] <= 0) and bool(through.amax() <= 0)


def _lay(image: Tensor, beneath: Tensor | None, layer: Layer, box: Box, top: int, linear: bool) -> None:
    """Composite a box of a layer onto a band's premultiplied image, which begins at row `top` of the canvas.

    beneath: the transparency of the image so far, 1 - alpha; None if it is opaque.
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
    # The weight is written out for all three channels, one by one. Broadcast over such a short dimension, a lerp is twenty
    # times slower and a copy takes twice as long.
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
    """Convert premultiplied to straight colours in 0..1, linear light to sRGB, and beneath to alpha, all in place.
    Returns whether all values are finite."""
    if beneath is not None:
        beneath.neg_().add_(1)
        image.div_(beneath[..., None].clamp_min(1e-6))
    if linear:
        image.copy_(_to_display(image))
    finite = math.isfinite(image.sum())
    image.clamp_(0, 1)
    return finite


def _to_linear(colour: Tensor) -> Tensor:
    """sRGB to linear light (IEC 61966-2-1), 0..1."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def _to_display(light: Tensor) -> Tensor:
    """Linear light to sRGB (IEC 61966-2-1), 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0) ** (1 / 2.4) - 0.055)
