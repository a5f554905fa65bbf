"""Layers as upright pixels, and cropped to what is in them: what files and neighbours in an image editor want."""

from dataclasses import replace

import torch

from .edges import EMPTY, bleed_colours
from .layers import Document, Layer
from .placement import upright


def bake(document: Document) -> Document:
    """Turn scaled, rotated and flipped layers of a document into the pixels that they show on its canvas.

    Returns a new document of that canvas, its layers upright and plain. Upright layers keep their pixels, also those
    beyond the canvas; of the others only what lies on the canvas stays, one transparent pixel where that is nothing. The
    composite stays the same in 8 bits. Source: ours; a file has whole pixels only.
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
        # Beyond the edge of what was turned or scaled stands no colour. Editors that filter a layer would mix it in.
        carried = bleed_colours(image.movedim(-1, 1), coverage[:, None]).movedim(1, -1)
        image = torch.where(coverage[..., None] >= EMPTY, image, carried)
    return shown.with_pixels(image, coverage)


def trim(document: Document) -> Document:
    """Crop each layer of a document to its content; x, y, w and h follow.

    Content is coverage of at least 1/512, half a step of 8 bits: the composite changes by less than that a layer. A
    layer without content becomes one transparent pixel at its place. Layers come back as bake gives them. Source: ours;
    whole-canvas layers make big files and hide in an editor what is where.
    """
    baked = bake(document)
    return replace(baked, layers=[_trim(layer) for layer in baked.layers])


def _trim(layer: Layer) -> Layer:
    content = layer.coverage[0] >= EMPTY
    rows, columns = content.any(1).nonzero().flatten().tolist(), content.any(0).nonzero().flatten().tolist()
    if not rows:
        return layer.crop(0, 0, 1, 1).with_pixels(layer.image[:, :1, :1], torch.zeros_like(layer.image[:, :1, :1, 0]))
    return layer.crop(columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
