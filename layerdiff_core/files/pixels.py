"""What the writers and readers of layered files share: layers as upright bytes, the merged picture, and the way back."""

from typing import Any

import numpy as np
import torch

from ..composite import composite
from ..export import to_rgba
from ..layers import canvas_size, check_document, layer_coverage, ordered
from ..trim import bake
from ..trim import trim as trim_layers


def file_layers(doc: dict[str, Any], trim: bool) -> list[dict[str, Any]]:
    """The layers of a LAYERS document as a file can hold them: upright, with a mask of the picture's size, as trim.bake
    gives them, bottom first. trim: cropped to their content. ValueError for an unsound document."""
    check_document(doc)
    return (trim_layers(doc) if trim else bake(doc))["layers"]


def layer_rgba(layer: dict[str, Any]) -> np.ndarray:
    """A layer (as file_layers gives it) as uint8 [h,w,4], not premultiplied, its opacity left out; hidden colours stay."""
    rgba = torch.cat([layer["image"][..., :3], layer_coverage(layer)[..., None]], dim=-1)[0].float()
    return rgba.clamp_(0, 1).mul_(255).round_().byte().cpu().numpy()


def merged_rgba(doc: dict[str, Any], linear: bool) -> np.ndarray:
    """The composite as uint8 [H,W,4], not premultiplied. linear: as composite takes it."""
    return to_rgba(*composite(doc, linear))


def read_document(canvas: tuple[int, int], layers: list[dict[str, Any]]) -> dict[str, Any]:
    """A LAYERS document of what a reader found. canvas: width, height. layers: bottom first, each with image, mask and
    the fields that the file knows; the others get their defaults. ValueError if that is not a sound document."""
    layers = ordered({"layers": [layer | {"z_index": z} for z, layer in enumerate(layers)]})
    doc = {"version": 1, "canvas": canvas, "layers": layers}
    canvas_size(doc)
    return doc
