"""A folder with one PNG file per layer and a layers.json that describes them, for scripts, game engines and web pages."""

import json
import os
from pathlib import Path
from typing import Any

from ..export import file_part, save_png
from ..layers import Document, Layer
from ..whole import whole
from .pixels import file_layers, layer_rgba, merged_rgba
from .safe import SHOWN, FileError, Limits, file_beside, read_png, read_text, reading

INDEX = "layers.json"
FORMAT, VERSION = "layers-png", 1
FIELDS = ("name", "x", "y", "opacity", "blend_mode", "visible")
"""The fields of each layer in layers.json besides its file, bottom layer first. x, y: its upper left corner on the canvas."""


def write_png_folder(
    document: Document, folder: Path, text: dict[str, str], linear: bool = False, trim: bool = False
) -> None:
    """Write a document as a folder with RGBA PNG files, layers.json and composite.png.

    folder: is created and must not exist. Layers are stored with straight colours and their coverage as alpha. A layer that is
    scaled, rotated or flipped is written as it appears on the canvas. text: metadata of every PNG, by key. linear: for the
    composite. trim: crop each layer to its content. ValueError for values that are not finite. Source: ours.
    """
    layers = file_layers(document, trim)
    merged = merged_rgba(document, linear)
    files = [f"{number:02}_{file_part(layer.name)}.png" for number, layer in enumerate(layers)]
    listed = [{"file": file} | {field: getattr(layer, field) for field in FIELDS} for file, layer in zip(files, layers)]
    index = {"format": FORMAT, "version": VERSION, "canvas": document.canvas, "composite": "composite.png",
             "colour_space": "linear" if linear else "display", "layers": listed}  # fmt: skip
    if os.path.exists(folder):
        raise FileExistsError(f"{folder.name!r} is there already, and is not written over. Choose another name.")
    with whole(folder) as part:
        part.mkdir()
        for file, layer in zip(files, layers):
            save_png(part / file, layer_rgba(layer), text)
        save_png(part / "composite.png", merged, text)
        (part / INDEX).write_text(json.dumps(index, indent=1), "utf-8")


def read_png_folder(path: Path) -> Document:
    """Read a folder written by write_png_folder, or one like it.

    path: its layers.json, with the images in the same folder. Only "file" is required for each layer. ValueError if it is
    damaged, exceeds safe.Limits, or has file names that point to another folder.
    """
    limits = Limits(path.name)
    with reading(path.name), path.open("rb") as file:
        index = json.loads(read_text(file, path.name))
        if not isinstance(index, dict) or index.get("format") != FORMAT or index.get("version") != VERSION:
            raise FileError(f"{path.name} is not a list of layers. Expected format {FORMAT!r}, version {VERSION}.")
        width, height = index["canvas"]
        limits.canvas(width, height)
        found = enumerate(index["layers"], 1)
        layers = [_read_layer(path.parent, entry, number, limits) for number, entry in found]
        return Document(layers, (int(width), int(height)))


def _read_layer(folder: Path, entry: dict[str, Any], number: int, limits: Limits) -> Layer:
    path = file_beside(folder, entry["file"])
    what = f"{path.name[:SHOWN]} beside {limits.file}"
    with reading(what), path.open("rb") as file:
        image, coverage = read_png(file, what, limits)
    return Layer.of(image, coverage, number, **{field: entry[field] for field in FIELDS if field in entry})
