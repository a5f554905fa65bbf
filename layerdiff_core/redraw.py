"""Redrawn layers of a document: which ones, inside which mask, and how a drawing replaces a layer. Ours."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .latents import read_numbers
from .layers import Document, Layer
from .placement import place

SHOWN = 8
"""The maximum number of layers in a message."""

FAINTEST = 1 / 512
"""A change below this would not be visible in 8 bits."""


def chosen_layers(text: str, names: Sequence[Collection[str]]) -> list[int]:
    """Parse a list of layers as numbers, ranges and names, such as "1, 3-4, bear". An empty text means none.

    names: all names of each layer, bottom layer first, not case-sensitive. ValueError for anything that is not a layer.
    """
    called = [{name.strip().casefold() for name in each} for each in names]
    chosen: set[int] = set()
    for part in filter(None, (part.strip() for part in text.replace(";", ",").replace("\n", ",").split(","))):
        numbers = read_numbers(part)
        found: Sequence[int] = [n for n, each in enumerate(called) if part.casefold() in each] if numbers is None else numbers
        if not found or found[-1] >= len(names):
            known = ", ".join(f"{number} {next(iter(each), '')}".strip()[:40] for number, each in enumerate(names[:SHOWN]))
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise ValueError(f"There is no layer {part[:100]!r} to redraw. The layers are: {known}{more}. Enter numbers, ranges "
                             "or names, for example \"1, 3-4, bear\".")
        chosen.update(found)
    return sorted(chosen)


def with_new_layer(document: Document, number: int, name: str) -> Document:
    """A copy of a document with an empty layer inserted at this number. ValueError if there would be too many layers."""
    width, height = document.canvas
    empty = Layer(torch.zeros(1, height, width, 3), torch.ones(1, height, width), name or f"layer {number}", width, height)
    return replace(document, layers=[*document.layers[:number], empty, *document.layers[number:]])


def region(mask: Tensor | None, canvas: tuple[int, int], layers: int, feather: int) -> Tensor | None:
    """Where each layer may change: [layers, H, W] in 0..1, 1 = repainted; None for everywhere.

    mask: ComfyUI's MASK, [1 or layers, h, w] of any size, stretched to the canvas (width, height). feather: the width in pixels
    of the soft edge, which lies outside the mask, so that all of the mask is repainted. ValueError for a wrong number of masks,
    values that are not finite, and a mask that selects nothing.
    """
    if mask is None:
        return None
    mask = mask.float()[None] if mask.ndim == 2 else mask.float()
    if mask.ndim != 3 or len(mask) not in (1, layers) or 0 in mask.shape or not torch.isfinite(mask).all():
        raise ValueError(f"The mask has the shape {list(mask.shape)}, but one mask for all layers, or one for each of the "
                         f"{layers} layers, was expected, of finite numbers. Check the node that created it.")
    if not (mask > FAINTEST).any():
        raise ValueError("The mask selects nothing. Paint the area to redraw (1 = redraw), or disconnect the mask to redraw "
                         "whole layers.")
    width, height = canvas
    if mask.shape[1:] != (height, width):
        mask = F.interpolate(mask[:, None], size=(height, width), mode="bilinear")[:, 0]
    if radius := -(-feather // 2):
        side, mask = 2 * radius + 1, mask[:, None]
        for kernel, padding in (((side, 1), (radius, 0)), ((1, side), (0, radius))):
            mask = F.max_pool2d(mask, kernel, 1, padding)
        for kernel, padding in (((side, 1), (radius, 0)), ((1, side), (0, radius))):
            mask = F.avg_pool2d(mask, kernel, 1, padding, count_include_pad=False)
        mask = mask[:, 0]
    mask = mask.clamp(0, 1)
    return torch.where(mask < FAINTEST, 0, mask).expand(layers, -1, -1)


def drawn_anew(layer: Layer, canvas: tuple[int, int], picture: Tensor, coverage: Tensor, inside: Tensor | None,
               name: str = "") -> Layer:
    """The layer with its pixels replaced by a drawing, upright and as large as the canvas. Its other properties are kept.

    picture [H, W, 3], coverage [H, W], and inside [H, W] as returned by `region`. Where inside is 0, the layer's pixels on the
    canvas stay exactly the same. Anything beyond the canvas is lost. name: the new name; "" keeps the old one.
    """
    width, height = canvas
    if inside is not None:
        old, was = torch.zeros(height, width, 3), torch.zeros(height, width)
        placed = place(layer, canvas)
        if placed is not None:
            rows = slice(placed.top, placed.top + placed.coverage.shape[1])
            columns = slice(placed.left, placed.left + placed.coverage.shape[2])
            old[rows, columns], was[rows, columns] = placed.image[0], placed.coverage[0]
        new, kept = inside * coverage, (1 - inside) * was
        together = new + kept
        # Colours are weighted by coverage, because transparent pixels have no colour.
        share = torch.where(together > 0, new / together.clamp_min(1e-6), inside)[..., None]
        picture = torch.where(inside[..., None] > 0, share * picture + (1 - share) * old, old)
        coverage = torch.where(inside > 0, together.clamp(0, 1), was)
    return layer.with_pixels(picture[None], coverage[None], name=name or layer.name, x=0, y=0, w=width, h=height, rotation=0.0,
                             flip_h=False, flip_v=False)  # fmt: skip


def with_drawings(document: Document, chosen: Sequence[int], pictures: Tensor, coverage: Tensor, inside: Tensor | None,
                  names: Sequence[str]) -> Document:
    """A copy of a document with the chosen layers replaced by drawings. Every other layer is the same object as before.

    pictures [N, H, W, 3], coverage [N, H, W]: those of the N chosen layers. inside: [K, H, W], for all K layers, or None. names:
    those of all K layers; "" keeps the old name.
    """
    layers = list(document.layers)
    for number, picture, cover in zip(chosen, pictures.float().cpu(), coverage.float().cpu()):
        part = None if inside is None else inside[number]
        layers[number] = drawn_anew(layers[number], document.canvas, picture, cover, part, names[number])
    return replace(document, layers=layers)
