"""The nodes that make layers of images and take them out again, called with plain values."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from layerdiff_core.cut import ORDERS
from layerdiff_core.layers import Document

LARGEST, FIRST_BELOW, FIRST_ON_TOP = ORDERS


def stack(pack: ModuleType, images: Any, masks: Any = None, means: str = "covered", order: str = "bottom first",
          skip: bool = False, names: str = "") -> Document:
    done = pack.nodes.convert.LayerDiffImagesToLayers.execute(images, means, order, skip, names, masks)
    return Document.from_socket(done.args[0])


def cut(pack: ModuleType, image: Any, masks: Any, softness: float = 0.0, order: str = FIRST_BELOW, names: str = "",
        background: Any = None, means: str = "covered") -> Document:
    done = pack.nodes.convert.LayerDiffLayersFromMasks.execute(image, masks, means, order, softness, names, background)
    return Document.from_socket(done.args[0])


def get(pack: ModuleType, document: Document, layer: int = 0, name: str = "", pixels: str = "on the canvas") -> Any:
    return pack.nodes.convert.LayerDiffGetLayer.execute(document.to_socket(), layer, name, pixels).args


def merge(pack: ModuleType, below: Document, above: Document, x: int = 0, y: int = 0) -> Document:
    done = pack.nodes.convert.LayerDiffMergeLayers.execute(below.to_socket(), above.to_socket(), x, y)
    return Document.from_socket(done.args[0])


def disc(side: int, x: float, y: float, radius: float, edge: float = 1.0) -> Tensor:
    """A mask [1,side,side] of a disc whose edge is so many pixels wide."""
    down, across = torch.meshgrid(*[torch.arange(side) + 0.5] * 2, indexing="ij")
    return ((radius - ((across - x) ** 2 + (down - y) ** 2).sqrt()) / edge + 0.5).clamp(0, 1)[None]
