"""The layers of a document stacked into one picture."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .blend import blend
from .layers import canvas_size, check_document, layer_coverage, ordered, upright

BAND = 1 << 17
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
    image = torch.zeros(1, height, width, 3, device=device)
    beneath = torch.ones(1, height, width, device=device)
    rows = max(1, BAND // width) if device.type == "cpu" else height
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        for piece in _pieces(stack, width, top, bottom):
            _lay(image, beneath, piece, linear)
        _finish(image[:, top:bottom], beneath[:, top:bottom], linear)
    if not math.isfinite(image.sum()):
        check_document(doc)
    return image.clamp_(0, 1), beneath.neg_().add_(1)


Span = tuple[int, int]
"""Columns from the first to the last, exclusive."""


class Piece(NamedTuple):
    """A rectangle of the canvas, and the upright layer that is to be laid there. solid: it hides all beneath it there."""

    layer: dict[str, Any]
    rows: Span
    columns: Span
    solid: bool


def _pieces(stack: list[dict], width: int, top: int, bottom: int) -> list[Piece]:
    """What is to be laid on the rows top to bottom of the canvas, the lowest first.

    Most layers leave most of the canvas empty and hide what is beneath the rest: neither is worth any work.
    """
    pieces: list[Piece] = []
    hidden: list[Span] = []
    for layer in reversed(stack):
        rows = max(top, layer["y"]), min(bottom, layer["y"] + layer["h"])
        left, right = max(0, layer["x"]), min(width, layer["x"] + layer["w"])
        if rows[0] >= rows[1] or left >= right:
            continue
        filled, solid = _spans(layer, rows, (left, right))
        for columns in _without(filled, hidden):
            pieces.append(Piece(layer, rows, columns, solid[0] <= columns[0] and columns[1] <= solid[1]))
        if rows == (top, bottom):
            hidden.append(solid)
    return pieces[::-1]


def _spans(layer: dict[str, Any], rows: Span, columns: Span) -> tuple[Span, Span]:
    """The columns outside of which a layer covers nothing in these rows, and those within which it hides everything."""
    left, right = columns
    can_hide = layer["blend_mode"] == "normal" and layer["opacity"] == 1
    if layer["mask"] is None:
        return columns, columns if can_hide else (left, left)
    mask = layer["mask"][0, slice(*(y - layer["y"] for y in rows)), left - layer["x"] : right - layer["x"]]
    filled = _ends(~(mask.amin(0) >= 1), left)  # Numbers that are no numbers, too, are to be found.
    return filled, _ends(mask.amax(0) <= 0, left, whole=True) if can_hide else (left, left)


def _ends(found: Tensor, left: int, whole: bool = False) -> Span:
    """First and last, exclusive, of what is found in a row that begins at left; whole: none unless all between is, too."""
    where = np.flatnonzero(found.cpu().numpy())
    if not len(where) or (whole and where[-1] - where[0] >= len(where)):
        return left, left
    return left + int(where[0]), left + int(where[-1]) + 1


def _without(span: Span, taken: list[Span]) -> list[Span]:
    """What is left of a span when others are taken out of it."""
    spans = [span]
    for first, last in taken:
        if first < last:
            spans = [part for start, end in spans for part in ((start, min(end, first)), (max(start, last), end))]
    return [(start, end) for start, end in spans if start < end]


def _lay(image: Tensor, beneath: Tensor, piece: Piece, linear: bool) -> None:
    """Lay a piece on the premultiplied image; beneath is what shines through it, 1 - alpha."""
    layer, rows, columns = piece.layer, slice(*piece.rows), slice(*piece.columns)
    image, beneath = image[:, rows, columns], beneath[:, rows, columns]
    part = (slice(None), slice(rows.start - layer["y"], rows.stop - layer["y"]),
            slice(columns.start - layer["x"], columns.stop - layer["x"]))  # fmt: skip
    source = layer["image"][part].to(image)
    if piece.solid:
        image.copy_(_to_linear(source) if linear else source)
        beneath.zero_()
        return
    mask = None if layer["mask"] is None else layer["mask"][part]
    coverage = layer_coverage({"image": source, "mask": mask})
    if layer["opacity"] < 1:
        coverage = coverage * layer["opacity"]
    if layer["blend_mode"] != "normal":
        alpha = (1 - beneath)[..., None]
        backdrop = (image / alpha.clamp_min(1e-6)).clamp(0, 1)
        source = torch.lerp(_to_linear(source) if linear else source,
                            _blend(layer["blend_mode"], backdrop, source, linear), alpha)  # fmt: skip
    elif linear:
        source = _to_linear(source)
    # The weight is written out for all three channels, one after the other: broadcast over so short a dimension a lerp
    # is twenty times slower, and a copy twice.
    weight = torch.empty_like(source, memory_format=torch.contiguous_format)
    for channel in weight.unbind(-1):
        channel.copy_(coverage)
    torch.lerp(image, source, weight, out=image)
    beneath.mul_(1 - coverage)


def _blend(mode: str, backdrop: Tensor, source: Tensor, linear: bool) -> Tensor:
    if not linear:
        return blend(mode, backdrop, source)
    if mode in LINEAR_MODES:
        return blend(mode, backdrop, _to_linear(source))
    return _to_linear(blend(mode, _to_display(backdrop), source))


def _finish(image: Tensor, beneath: Tensor, linear: bool) -> None:
    """From premultiplied to straight colours, and back from light."""
    if beneath.amax() > 0:
        image.div_((1 - beneath)[..., None].clamp_min(1e-6))
    if linear:
        image.copy_(_to_display(image))


def _to_linear(colour: Tensor) -> Tensor:
    """sRGB numbers to light (IEC 61966-2-1), 0..1."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def _to_display(light: Tensor) -> Tensor:
    """Light to sRGB numbers (IEC 61966-2-1), 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0) ** (1 / 2.4) - 0.055)
