"""The socket types that the pack's nodes share."""

from typing import Any

from comfy_api.latest import io

LAYERS: Any = io.Layers if hasattr(io, "Layers") else io.Custom("LAYERS")
"""ComfyUI's layer document. ComfyUI up to 0.30.0 does not export this type yet."""

ENHANCER: Any = io.Custom("LAYER_ENHANCER")
"""The layer-specific prompt enhancer of a layered model."""
