"""A folder of PNG files, one a layer, and a layers.json that says how they lie: for scripts, engines and web pages."""

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
"""What layers.json says of each layer beside its file, bottom layer first. x, y: its corner on the canvas."""


def write_png_folder(
    document: Document, folder: Path, text: dict[str, str], linear: bool = False, trim: bool = False
) -> None:
    """Write a document as a folder of RGBA PNG, layers.json and composite.png.

    folder: is made and must not be there. Layers hold straight colours with the coverage as alpha; a layer that is
    scaled, turned or flipped is written as it lies on the canvas. text: metadata of every PNG, key by key. linear: for
    the composite. trim: crop each layer to its content. ValueError for numbers that are not finite. Source: ours.
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
    """Read a folder that write_png_folder wrote, or one made like it.

    path: its layers.json; the pictures lie beside it. Of a layer only "file" must be said. ValueError says what is wrong:
    damaged, larger than safe.Limits allows, names that lead elsewhere.
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
