"""LayerDiff: pictures from text as separate layers. ComfyUI loads this file and asks it for the pack's nodes."""

from typing import Any

from .nodes.host.version import check_comfyui

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """ComfyUI calls this once, at its start. RuntimeError where it is too old, which it then tells in its log."""
    check_comfyui()
    # Not before the check: the nodes use what an older ComfyUI lacks, and would fail with a stack trace.
    from .nodes.extension import LayerDiffExtension

    return LayerDiffExtension()
