"""Sends layers to the page's layer panel: the layers before the edits, with their pixels as files to fetch."""

import hashlib
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from comfy_api.latest import io, ui
from PIL import Image

from ...layerdiff_core.edits import fingerprint, layer_bytes
from ...layerdiff_core.layers import FIELDS, Document
from ...layerdiff_core.whole import whole

SUBFOLDER = "layerdiff_panel"


def panel_ui(document: Document, stale: bool, linear: bool = False) -> dict[str, Any]:
    """The part of a node's ui that its layer panel shows: {"layer_panel": [one payload]}.

    document: before the edits. stale: as returned by apply_edits. linear: whether layers are blended in linear light.
    """
    layers = []
    for layer in document.layers:
        # Two opaque files, because a canvas in the page loses the colours of transparent pixels.
        colours, coverage = layer_bytes(layer)
        files = {"colour": _file(colours), "coverage": _file(coverage)}
        layers.append({name: getattr(layer, name) for name in FIELDS} | files)
    payload = {"made_for": fingerprint(document), "stale": stale, "canvas": list(document.canvas), "linear": linear,
               "layers": layers}
    return {"layer_panel": [payload]}


def _file(pixels: np.ndarray) -> ui.SavedResult:
    """Writes an image to ComfyUI's temporary folder, named after its content, so that equal images are stored only once."""
    name = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:32] + ".png"
    path = Path(folder_paths.get_temp_directory()) / SUBFOLDER / name
    if not path.exists():
        with whole(path) as part:
            Image.fromarray(pixels).save(part, "PNG", compress_level=1)
    return ui.SavedResult(name, SUBFOLDER, io.FolderType.temp)
