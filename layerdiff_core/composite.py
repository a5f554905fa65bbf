"""The layers of a document stacked into one picture."""

import math
from typing import Any

import torch
from torch import Tensor

from .blend import blend
from .layers import Placed, canvas_size, check_document, ordered, place

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
    stack = [(layer, placed) for layer in layers if (placed := place(layer, (width, height))) is not None]
    device = stack[0][1].image.device if stack else torch.device("cpu")
    image = torch.zeros(1, height, width, 3, device=device)
    beneath = torch.ones(1, height, width, device=device)
    rows = max(1, BAND // width) if device.type == "cpu" else height
    for top in range(0, height, rows):
        for layer, placed in stack:
            _lay(image, beneath, layer, placed, top, min(top + rows, height), linear)
        _finish(image[:, top : top + rows], beneath[:, top : top + rows], linear)
    if not math.isfinite(image.sum()):
        check_document(doc)
    return image.clamp_(0, 1), 1 - beneath


def _lay(image: Tensor, beneath: Tensor, layer: dict, placed: Placed, top: int, bottom: int, linear: bool) -> None:
    """Lay one layer on the rows top to bottom of the premultiplied image; beneath is what shines through, 1 - alpha."""
    top, bottom = max(top, placed.top), min(bottom, placed.top + placed.image.shape[1])
    if top >= bottom:
        return
    source = placed.image[:, top - placed.top : bottom - placed.top].to(image)
    coverage = placed.coverage[:, top - placed.top : bottom - placed.top].to(image)
    if layer["opacity"] < 1:
        coverage = coverage * layer["opacity"]
    columns = slice(placed.left, placed.left + source.shape[2])
    image, beneath = image[:, top:bottom, columns], beneath[:, top:bottom, columns]
    if layer["blend_mode"] != "normal":
        alpha = (1 - beneath)[..., None]
        backdrop = (image / alpha.clamp_min(1e-6)).clamp(0, 1)
        source = torch.lerp(_to_linear(source) if linear else source,
                            _blend(layer["blend_mode"], backdrop, source, linear), alpha)  # fmt: skip
    elif linear:
        source = _to_linear(source)
    # The weight is written out for all three channels: broadcast over so short a dimension is three times slower.
    torch.lerp(image, source, coverage[..., None].expand_as(image).contiguous(), out=image)
    beneath.mul_(1 - coverage)


def _blend(mode: str, backdrop: Tensor, source: Tensor, linear: bool) -> Tensor:
    if not linear:
        return blend(mode, backdrop, source)
    if mode in LINEAR_MODES:
        return blend(mode, backdrop, _to_linear(source))
    return _to_linear(blend(mode, _to_display(backdrop), source))


def _finish(image: Tensor, beneath: Tensor, linear: bool) -> None:
    if beneath.any():
        image.div_((1 - beneath)[..., None].clamp_min(1e-6))
    if linear:
        image.copy_(_to_display(image))


def _to_linear(colour: Tensor) -> Tensor:
    """sRGB numbers to light (IEC 61966-2-1), 0..1."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def _to_display(light: Tensor) -> Tensor:
    """Light to sRGB numbers (IEC 61966-2-1), 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0) ** (1 / 2.4) - 0.055)
