"""Converts layers to upright pixels and crops them to their content, for files that image editors open."""

from dataclasses import replace

import torch

from .edges import EMPTY, bleed_colours
from .layers import Document, Layer
from .placement import upright


def bake(document: Document) -> Document:
    """Convert the scaled, rotated and flipped layers of a document to the pixels that they show on its canvas.

    Returns a new document with the same canvas, whose layers are upright and plain. Upright layers keep their pixels, also
    those beyond the canvas. Of all others only the part on the canvas is kept, or one transparent pixel if there is none. The
    composite stays the same in 8 bits. Source: ours; files can only store whole pixels.
    """
    canvas = document.canvas
    return replace(document, fixed_canvas=canvas, layers=[_bake(layer, canvas) for layer in document.layers])


def _bake(layer: Layer, canvas: tuple[int, int]) -> Layer:
    shown = upright(layer, canvas)
    if shown is None:
        return layer.with_pixels(torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1), w=1, h=1, rotation=0.0, flip_h=False,
                                 flip_v=False)  # fmt: skip
    image, coverage = shown.image, shown.coverage
    if not layer.is_upright:
        # There is no colour beyond the edge of a transformed layer. Editors that filter the layer would mix in black.
        carried = bleed_colours(image.movedim(-1, 1), coverage[:, None]).movedim(1, -1)
        image = torch.where(coverage[..., None] >= EMPTY, image, carried)
    return shown.with_pixels(image, coverage)


def trim(document: Document) -> Document:
    """Crop each layer of a document to its content and adjust x, y, w and h.

    Content is coverage of at least 1/512, half a step in 8 bits, so the composite changes by less than that per layer. A
    layer without content becomes one transparent pixel at its position. Layers are returned as by `bake`. Source: ours;
    layers of the size of the canvas make large files, and an editor does not show where their content is.
    """
    baked = bake(document)
    return replace(baked, layers=[_trim(layer) for layer in baked.layers])


def _trim(layer: Layer) -> Layer:
    content = layer.coverage[0] >= EMPTY
    rows, columns = content.any(1).nonzero().flatten().tolist(), content.any(0).nonzero().flatten().tolist()
    if not rows:
        return layer.crop(0, 0, 1, 1).with_pixels(layer.image[:, :1, :1], torch.zeros_like(layer.image[:, :1, :1, 0]))
    return layer.crop(columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
