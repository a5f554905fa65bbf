"""What ComfyUI's own layer editor gets from a node: images, which it takes as layers, named after their files."""

import shutil
from pathlib import Path
from typing import Any

from comfy_api.latest import ui

from ...layerdiff_core.export import file_part, on_canvas, save_png, to_rgba
from ...layerdiff_core.layers import Document
from .saving import digest, temporary

SUBFOLDER = "layerdiff_layers"


def editor_ui(document: Document) -> dict[str, Any]:
    """The part of a node's ui that the page gives to the editor: {"layer_pictures": [[visible layers, bottom first]]}.

    Each is an RGBA PNG in the size of the canvas in the temporary folder, with the layer's placement and opacity in its
    pixels.
    """
    def drawn(number: int) -> ui.SavedResult:
        pixels = to_rgba(*on_canvas(document.layers[number], document.canvas))
        return temporary(*_place(document, number, digest(pixels.tobytes(), pixels.shape)),
                         lambda path: save_png(path, pixels, {}, level=1))

    return _pictures(document, drawn)


def saved_for_editor(document: Document, files: list[Path]) -> dict[str, Any]:
    """As `editor_ui`, from such a file of each layer, hidden ones included, that a node has just written."""
    def copied(number: int) -> ui.SavedResult:
        return temporary(*_place(document, number, digest(files[number].read_bytes())),
                         lambda path: shutil.copyfile(files[number], path))

    return _pictures(document, copied)


def _pictures(document: Document, picture: Any) -> dict[str, Any]:
    # A list in a list: files right in the ui would count as outputs of the job.
    return {"layer_pictures": [[picture(number) for number, layer in enumerate(document.layers) if layer.visible]]}


def _place(document: Document, number: int, folder: str) -> tuple[str, str]:
    # The name is the layer's alone; what tells layers of the same name apart is their folder.
    return f"{SUBFOLDER}/{folder}", f"{file_part(document.layers[number].name) or f'layer {number}'}.png"
