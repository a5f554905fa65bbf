"""Layers as image files and as previews."""

import math
from pathlib import Path
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .composite import composite
from .edges import bleed_colours
from .layers import Document, Layer
from .placement import place
from .whole import whole_set

LIGHT_SQUARE, DARK_SQUARE = 0.8, 0.6
SHEET_GREY = 0.15
LONGEST_PART = 80


def on_canvas(layer: Layer, canvas: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A layer placed on the whole canvas (width, height).

    Returns straight colours [1,H,W,3] and coverage [1,H,W] with the layer's opacity applied. Hidden layers are included.
    """
    width, height = canvas
    placed = place(layer, canvas)
    if placed is None:
        return torch.zeros(1, height, width, 3), torch.zeros(1, height, width)
    right, bottom = width - placed.left - placed.image.shape[2], height - placed.top - placed.image.shape[1]
    image = F.pad(placed.image, (0, 0, placed.left, right, placed.top, bottom))
    coverage = F.pad(placed.coverage, (placed.left, right, placed.top, bottom))
    return image, coverage * layer.opacity


def to_rgba(image: Tensor, coverage: Tensor) -> np.ndarray:
    """An image with alpha as bytes, as image editors need it.

    image: [1,H,W,3] straight colours, 0..1. coverage: [1,H,W], 0..1. Returns uint8 [H,W,4], not premultiplied. Pixels with
    alpha 0 get the colour of the nearest visible pixels, so that no other colour bleeds into the layer's edge when an editor
    scales or blurs it. Every visible pixel keeps its colour.
    """
    alpha = (coverage.float().clamp(0, 1) * 255).round()
    colours = image.float().movedim(-1, 1)
    carried = bleed_colours(colours, alpha[:, None] / 255)
    colours = torch.where(alpha[:, None] > 0, colours, carried).clamp(0, 1) * 255
    return torch.cat([colours.round(), alpha[:, None]], dim=1)[0].movedim(0, -1).byte().cpu().numpy()


def save_png(path: Path | IO[bytes], rgba: np.ndarray, text: dict[str, str], level: int = 4) -> None:
    """Write a PNG to a path or an open file. rgba: uint8 [H,W,4]. text: its text metadata, by key. level: of compression, 1
    for a file that is only displayed."""
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    Image.fromarray(rgba).save(path, "PNG", pnginfo=info, compress_level=level)


def save_layers(document: Document, folder: Path, stem: str, text: dict[str, str], linear: bool = False) -> list[str]:
    """Save every layer, including hidden ones, and the composite as PNG files with alpha, each of the size of the canvas.

    Files: {stem}_00_{name of the bottom layer}.png and so on upwards, then {stem}_composite.png. Returns their names in that
    order. Placement and opacity are applied, so stacking the visible layers' files in an image editor gives the composite
    again (except for blend modes other than normal). linear: for the composite. The files appear only when all of them are
    written. RuntimeError if they cannot be written.
    """
    image, alpha = composite(document, linear)
    pictures = {f"{stem}_{k:02}_{file_part(layer.name)}.png": layer for k, layer in enumerate(document.layers)}
    with whole_set(folder) as part:
        for file, layer in pictures.items():
            save_png(part / file, to_rgba(*on_canvas(layer, document.canvas)), text)
        save_png(part / f"{stem}_composite.png", to_rgba(image, alpha), text)
    return [*pictures, f"{stem}_composite.png"]


def file_part(name: str) -> str:
    """A layer's name as part of a file name: letters and digits of any script stay, everything else becomes '-'.

    At most 40 characters and 80 bytes, so that with a prefix and a counter it does not exceed the limits of file systems.
    """
    plain = "".join(sign if sign.isalnum() else "-" for sign in name)[:40]
    return plain.encode()[:LONGEST_PART].decode(errors="ignore")


def checkerboard(image: Tensor, coverage: Tensor) -> Tensor:
    """Composite images over a grey checkerboard. image: [N,H,W,3], coverage: [N,H,W], 0..1. Returns [N,H,W,3]."""
    height, width = coverage.shape[1:]
    square = max(4, min(height, width) // 32)
    down = torch.arange(height, device=image.device)[:, None] // square
    across = torch.arange(width, device=image.device) // square
    board = torch.where((down + across) % 2 == 0, LIGHT_SQUARE, DARK_SQUARE)
    return torch.lerp(board[None, :, :, None].expand_as(image), image, coverage[..., None].expand_as(image))


def layer_previews(document: Document, linear: bool = False) -> Tensor:
    """Each of the K layers, bottom first and including hidden ones, then the composite, on a checkerboard: [K+1,H,W,3]."""
    composed = composite(document, linear)
    pictures = [*(on_canvas(layer, document.canvas) for layer in document.layers), composed]
    return torch.cat([checkerboard(image.to(composed[0]), alpha.to(composed[1])) for image, alpha in pictures])


def contact_sheet(pictures: Tensor, columns: int | None = None, gap: int = 8) -> Tensor:
    """Arrange images in rows on a dark background. pictures: [N,H,W,3]. columns: None for a sheet that is nearly square.

    gap: pixels between and around the images. Returns [1,H',W',3].
    """
    count, height, width, _ = pictures.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = pictures.new_full((1, rows * (height + gap) + gap, columns * (width + gap) + gap, 3), SHEET_GREY)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[0, top : top + height, left : left + width] = picture
    return sheet
