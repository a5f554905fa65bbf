"""What the page's layer panel gets from a node: the layers before the edits, with their pixels as files to fetch."""

from typing import Any

import numpy as np
from comfy_api.latest import ui
from PIL import Image

from ...layerdiff_core.edits import fingerprint, layer_bytes
from ...layerdiff_core.layers import FIELDS, Document
from .saving import digest, temporary

SUBFOLDER = "layerdiff_panel"


def panel_ui(document: Document, stale: bool, linear: bool = False) -> dict[str, Any]:
    """The part of a node's ui that its layer panel draws: {"layer_panel": [one payload]}.

    document: before the edits. stale: as apply_edits gave it. linear: whether the composite mixes light.
    """
    layers = []
    for layer in document.layers:
        # Two files, both opaque: the page's canvas would lose the colours where a picture is transparent.
        colours, coverage = layer_bytes(layer)
        files = {"colour": _file(colours), "coverage": _file(coverage)}
        layers.append({name: getattr(layer, name) for name in FIELDS} | files)
    payload = {"made_for": fingerprint(document), "stale": stale, "canvas": list(document.canvas), "linear": linear,
               "layers": layers}
    return {"layer_panel": [payload]}


def _file(pixels: np.ndarray) -> ui.SavedResult:
    """An image in ComfyUI's temporary folder, named after its content: the same one is there only once."""
    return temporary(SUBFOLDER, f"{digest(pixels.tobytes(), pixels.shape)}.png",
                     lambda path: Image.fromarray(pixels).save(path, "PNG", compress_level=1))
