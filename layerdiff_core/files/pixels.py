"""Shared by the writers of layered files: layers as upright bytes, and the merged image."""

import numpy as np
import torch

from ..composite import composite
from ..export import to_rgba
from ..layers import Document, Layer
from ..trim import bake
from ..trim import trim as trim_layers


def file_layers(document: Document, trim: bool) -> list[Layer]:
    """The layers of a document as returned by trim.bake, bottom first, so that a file can store them.

    trim: crop them to their content. ValueError for values that are not finite.
    """
    document.check_finite()
    return (trim_layers(document) if trim else bake(document)).layers


def layer_rgba(layer: Layer) -> np.ndarray:
    """A layer from file_layers as uint8 [h,w,4], not premultiplied, without its opacity. Hidden colours are kept."""
    rgba = torch.cat([layer.image, layer.coverage[..., None]], dim=-1)[0].float()
    return rgba.clamp_(0, 1).mul_(255).round_().byte().cpu().numpy()


def merged_rgba(document: Document, linear: bool) -> np.ndarray:
    """The composite as uint8 [H,W,4], not premultiplied. linear: as in composite."""
    return to_rgba(*composite(document, linear))
