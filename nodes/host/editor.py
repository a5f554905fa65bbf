"""Sends layers to ComfyUI's own layer editor, which takes a node's images as layers and names them after their files."""

import hashlib
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ...layerdiff_core.export import file_part, on_canvas, save_png, to_rgba
from ...layerdiff_core.layers import Document
from ...layerdiff_core.whole import whole

SUBFOLDER = "layerdiff_layers"


def editor_ui(document: Document) -> dict[str, Any]:
    """The part of a node's ui that the page passes to the editor: {"layer_pictures": [[visible layers, bottom first]]}.

    Each is an RGBA PNG of the canvas size in the temporary folder, with the layer's placement and opacity applied.
    """
    pictures = [_file(file_part(layer.name) or f"layer {number}", to_rgba(*on_canvas(layer, document.canvas)))
                for number, layer in enumerate(document.layers) if layer.visible]
    # A nested list, because ComfyUI counts files in a plain list as outputs of the job.
    return {"layer_pictures": [pictures]}


def _file(name: str, rgba: Any) -> ui.SavedResult:
    # The file name is just the layer's name. Layers with the same name are kept apart by their folders.
    folder = f"{SUBFOLDER}/{hashlib.sha256(repr(rgba.shape).encode() + rgba.tobytes()).hexdigest()[:32]}"
    path = Path(folder_paths.get_temp_directory()) / folder / f"{name}.png"
    if not path.exists():
        with whole(path) as part:
            save_png(part, rgba, {})
    return ui.SavedResult(path.name, folder, io.FolderType.temp)
