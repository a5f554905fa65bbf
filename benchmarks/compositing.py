"""Compositing eight layers of 1024 x 1024 pixels, compared with Pillow's alpha_composite, and writing them to a PSD file."""

from collections.abc import Callable
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image

LAYERS = 8
SIDE = 1024


def document(pack: ModuleType, side: int) -> Any:
    """A document with a background and overlapping discs of noise with edges ten pixels wide, all of the size of the canvas."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(LAYERS, side, side, 3, generator=generator)
    across = torch.linspace(0, 1, side)
    centres = torch.linspace(0.3, 0.7, LAYERS)[:, None, None]
    distance = ((across - centres).square() + (across[:, None] - 1 + centres).square()).sqrt()
    coverage = ((0.35 - distance) * 100 + 0.5).clamp(0, 1)
    coverage[0] = 1
    return core(pack, "layers").make_document(images, coverage, [f"layer {k}" for k in range(LAYERS)])


def sides(pack: ModuleType, doc: Any) -> dict[str, Callable[[], Any]]:
    """Both ways to composite layers, which are in memory in the form that each of them needs."""
    export = core(pack, "export")
    pictures = [Image.fromarray(export.to_rgba(*export.on_canvas(layer, doc.canvas))) for layer in doc.layers]
    return {"ours": lambda: core(pack, "composite").composite(doc), "pillow": lambda: reduce(Image.alpha_composite, pictures)}


def write_psd(pack: ModuleType, doc: Any, path: Path) -> None:
    """Write the document like the node Export Layers to File."""
    core(pack, "files.psd").write_psd(doc, path, {})


def core(pack: ModuleType, name: str) -> ModuleType:
    """A module of the pack's core."""
    return import_module(f"{pack.__name__}.layerdiff_core.{name}")
