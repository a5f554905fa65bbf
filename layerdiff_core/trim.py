"""Layers as upright pixels, and cropped to what is in them: what files and neighbours in an image editor want."""

from typing import Any

import torch

from .edges import EMPTY, bleed_colours
from .layers import canvas_size, is_upright, layer_coverage, ordered, upright


def bake(doc: dict[str, Any]) -> dict[str, Any]:
    """Turn scaled, rotated and flipped layers of a LAYERS document into the pixels that they show on its canvas.

    Returns a new document, its layers bottom first with z_index 0, 1, ..., each with a picture [1,h,w,3], a mask [1,h,w]
    of that size (1 = transparent), w and h equal to it, no rotation and no flip. Upright layers keep their pixels, also
    those beyond the canvas; of the others only what lies on the canvas stays, one transparent pixel where that is
    nothing. The composite stays the same in 8 bits. ValueError for an unsound document. Source: ours; a file has whole
    pixels only.
    """
    canvas = canvas_size(doc)
    layers = [_bake(layer, canvas) | {"z_index": z} for z, layer in enumerate(ordered(doc))]
    return {**doc, "canvas": canvas, "layers": layers}


def _bake(layer: dict[str, Any], canvas: tuple[int, int]) -> dict[str, Any]:
    shown = upright(layer, canvas)
    if shown is None:
        turned = {"rotation": 0.0, "flip_h": False, "flip_v": False}
        return layer | {"image": torch.zeros(1, 1, 1, 3), "mask": torch.ones(1, 1, 1), "w": 1, "h": 1} | turned
    image, coverage = shown["image"], layer_coverage(shown)
    if not is_upright(layer):
        # Beyond the edge of what was turned or scaled stands no colour. Editors that filter a layer would mix it in.
        carried = bleed_colours(image.movedim(-1, 1), coverage[:, None]).movedim(1, -1)
        image = torch.where(coverage[..., None] >= EMPTY, image, carried)
    return shown | {"image": image, "mask": 1 - coverage}


def trim(doc: dict[str, Any]) -> dict[str, Any]:
    """Crop each layer of a LAYERS document to its content; x, y, w and h follow.

    Content is coverage of at least 1/512, half a step of 8 bits: the composite changes by less than that a layer. A
    layer without content becomes one transparent pixel at its place. Layers come back as bake gives them. ValueError
    for an unsound document. Source: ours; whole-canvas layers make big files and hide in an editor what is where.
    """
    doc = bake(doc)
    return {**doc, "layers": [_trim(layer) for layer in doc["layers"]]}


def _trim(layer: dict[str, Any]) -> dict[str, Any]:
    content = layer["mask"][0] <= 1 - EMPTY
    rows, columns = content.any(1).nonzero().flatten().tolist(), content.any(0).nonzero().flatten().tolist()
    if not rows:
        image, mask = layer["image"][:, :1, :1], torch.ones_like(layer["mask"][:, :1, :1])
        return layer | {"image": image, "mask": mask, "w": 1, "h": 1}
    top, left, height, width = rows[0], columns[0], rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    box = (slice(None), slice(top, top + height), slice(left, left + width))
    image, mask = layer["image"][box], layer["mask"][box]
    return layer | {"image": image, "mask": mask, "x": layer["x"] + left, "y": layer["y"] + top, "w": width, "h": height}
