"""LayerDiff: generates images as separate layers. ComfyUI loads this file and asks it for the pack's nodes."""

from typing import Any

from .nodes.host.version import check_comfyui

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """The entry point that ComfyUI calls once at startup. RuntimeError, which ComfyUI logs, if ComfyUI is too old."""
    check_comfyui()
    # Imported after the check, because the nodes would fail in an older ComfyUI with a stack trace.
    from .nodes.extension import LayerDiffExtension

    return LayerDiffExtension()
