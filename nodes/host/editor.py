"""Sends layers to ComfyUI's own layer editor, which takes a node's images as layers and names them after their files."""

import shutil
from pathlib import Path
from typing import Any

from comfy_api.latest import ui

from ...layerdiff_core.export import file_part, on_canvas, save_png, to_rgba
from ...layerdiff_core.layers import Document
from .saving import digest, temporary

SUBFOLDER = "layerdiff_layers"


def editor_ui(document: Document) -> dict[str, Any]:
    """The part of a node's ui that the page passes to the editor: {"layer_pictures": [[visible layers, bottom first]]}.

    Each is an RGBA PNG of the canvas size in the temporary folder, with the layer's placement and opacity applied.
    """
    def drawn(number: int) -> ui.SavedResult:
        pixels = to_rgba(*on_canvas(document.layers[number], document.canvas))
        return temporary(*_place(document, number, digest(pixels.tobytes(), pixels.shape)),
                         lambda path: save_png(path, pixels, {}, level=1))

    return _pictures(document, drawn)


def saved_for_editor(document: Document, files: list[Path]) -> dict[str, Any]:
    """Like `editor_ui`, but copies the files that a node has just saved: one per layer, hidden layers included."""
    def copied(number: int) -> ui.SavedResult:
        return temporary(*_place(document, number, digest(files[number].read_bytes())),
                         lambda path: shutil.copyfile(files[number], path))

    return _pictures(document, copied)


def _pictures(document: Document, picture: Any) -> dict[str, Any]:
    # A nested list, because ComfyUI counts files in a plain list as outputs of the job.
    return {"layer_pictures": [[picture(number) for number, layer in enumerate(document.layers) if layer.visible]]}


def _place(document: Document, number: int, folder: str) -> tuple[str, str]:
    # The file name is just the layer's name. Layers with the same name are kept apart by their folders.
    return f"{SUBFOLDER}/{folder}", f"{file_part(document.layers[number].name) or f'layer {number}'}.png"
