"""Sends layers to the page's layer panel: the layers before the edits, with their pixels as files to fetch."""

from typing import Any

import numpy as np
from comfy_api.latest import ui
from PIL import Image

from ...layerdiff_core.edits import fingerprint, layer_bytes
from ...layerdiff_core.layer_fields import FIELDS
from ...layerdiff_core.layers import Document
from .saving import digest, temporary

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
    return temporary(SUBFOLDER, f"{digest(pixels.tobytes(), pixels.shape)}.png",
                     lambda path: Image.fromarray(pixels).save(path, "PNG", compress_level=1))
