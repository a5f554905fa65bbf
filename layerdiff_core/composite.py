"""The layers of a document stacked into one picture."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .blend import blend
from .layers import canvas_size, check_document, ordered, upright

BAND = 1 << 18
"""Pixels that are worked on at a time on a CPU: what all steps touch stays in its cache."""

LINEAR_MODES = {"normal", "multiply", "darken", "lighten", "luminosity", "linear-dodge", "subtract", "divide"}
"""Modes whose formula, too, works on linear light when the composite does; the host's editor divides them like this."""


def composite(doc: dict[str, Any], linear: bool = False) -> tuple[Tensor, Tensor]:
    """Stack the visible layers of a LAYERS document by z_index, with opacity and blend mode.

    linear: mix light instead of the numbers of the picture. Returns image [1,H,W,3], straight colours 0..1 (black where
    nothing lies), and alpha [1,H,W], 1 = opaque. ValueError for an unsound document. Source: W3C Compositing and
    Blending Level 1, simple alpha compositing; for two layers and linear False it is I = mF + (1 - m)B of Text2Layer.
    """
    width, height = canvas_size(doc)
    layers = [layer for layer in ordered(doc) if layer["visible"] and layer["opacity"] > 0]
    stack = [shown for layer in layers if (shown := upright(layer, (width, height))) is not None]
    device = stack[0]["image"].device if stack else torch.device("cpu")
    image = torch.empty(1, height, width, 3, device=device)
    beneath = torch.empty(1, height, width, device=device)
    rows = max(1, BAND // width) if device.type == "cpu" else height
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = image[:, top:bottom].zero_(), beneath[:, top:bottom].fill_(1)
        for layer in stack:
            box = _box(layer, width, top, bottom)
            if box is not None:
                _lay(image, beneath, layer, box, linear)
        if not _finish(*band, linear):
            check_document(doc)
    return image, beneath


class Box(NamedTuple):
    """A rectangle of the canvas; right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def _box(layer: dict[str, Any], width: int, top: int, bottom: int) -> Box | None:
    """Where on the rows top to bottom of the canvas an upright layer covers anything, None if nowhere.

    Most layers leave most of the canvas empty, which is worth no work.
    """
    left, right = max(0, layer["x"]), min(width, layer["x"] + layer["w"])
    top, bottom = max(top, layer["y"]), min(bottom, layer["y"] + layer["h"])
    if left >= right or top >= bottom:
        return None
    if layer["mask"] is not None:
        mask = layer["mask"][0, top - layer["y"] : bottom - layer["y"], left - layer["x"] : right - layer["x"]]
        # Not "less than 1": numbers that are no numbers, too, are to be found.
        rows = (~(mask.amin(1) >= 1)).nonzero()
        if not len(rows):
            return None
        top, bottom = top + int(rows[0]), top + int(rows[-1]) + 1
    return Box(left, top, right, bottom)


def _lay(image: Tensor, beneath: Tensor, layer: dict[str, Any], box: Box, linear: bool) -> None:
    """Lay a box of a layer on the premultiplied image; beneath is what shines through it, 1 - alpha."""
    image, beneath = (canvas[:, box.top : box.bottom, box.left : box.right] for canvas in (image, beneath))
    x, y = layer["x"], layer["y"]
    part = slice(None), slice(box.top - y, box.bottom - y), slice(box.left - x, box.right - x)
    source = layer["image"][part].to(image)
    # What shines through is what the mask says, whose 1 is transparent.
    through = torch.zeros_like(beneath) if layer["mask"] is None else layer["mask"][part].to(image).clamp(0, 1)
    if layer["opacity"] < 1:
        through = torch.lerp(torch.ones_like(through), through, layer["opacity"])
    colours = _to_linear(source) if linear else source
    if layer["blend_mode"] != "normal":
        alpha = (1 - beneath)[..., None]
        backdrop = (image / alpha.clamp_min(1e-6)).clamp(0, 1)
        colours = torch.lerp(colours, _blend(layer["blend_mode"], backdrop, source, linear), alpha)
    # Mostly a background, an eighth of the work for eight layers. The corner keeps the search from the other layers.
    elif not through[0, 0, 0] and through.amax() == 0:
        image.copy_(colours)
        beneath.zero_()
        return
    # The weight is written out for all three channels, one after the other: broadcast over so short a dimension a lerp
    # is twenty times slower, and a copy twice.
    weight = torch.empty_like(colours, memory_format=torch.contiguous_format)
    for channel in weight.unbind(-1):
        channel.copy_(through)
    torch.lerp(colours, image, weight, out=image)
    beneath.mul_(through)


def _blend(mode: str, backdrop: Tensor, source: Tensor, linear: bool) -> Tensor:
    if not linear:
        return blend(mode, backdrop, source)
    if mode in LINEAR_MODES:
        return blend(mode, backdrop, _to_linear(source))
    return _to_linear(blend(mode, _to_display(backdrop), source))


def _finish(image: Tensor, beneath: Tensor, linear: bool) -> bool:
    """From premultiplied to straight colours within 0..1, back from light, and beneath to alpha. Returns if all is finite."""
    if beneath.amax() > 0:
        image.div_((1 - beneath)[..., None].clamp_min(1e-6))
    if linear:
        image.copy_(_to_display(image))
    finite = math.isfinite(image.sum())
    image.clamp_(0, 1)
    beneath.neg_().add_(1)
    return finite


def _to_linear(colour: Tensor) -> Tensor:
    """sRGB numbers to light (IEC 61966-2-1), 0..1."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def _to_display(light: Tensor) -> Tensor:
    """Light to sRGB numbers (IEC 61966-2-1), 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0) ** (1 / 2.4) - 0.055)
