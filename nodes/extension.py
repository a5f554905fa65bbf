"""What ComfyUI gets from the pack: its nodes, and where its models lie."""

from comfy_api.latest import ComfyExtension, io

from . import composite, decode, exchange, keep, latents, load, prompts, redraw, sample, save, seams, train
from .host import folders


class LayerDiffExtension(ComfyExtension):
    """What ComfyUI gets from this pack."""

    async def on_load(self) -> None:
        """Tell ComfyUI where layered models lie."""
        folders.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order of the data's way through the pack."""
        modules = (load, prompts, latents, sample, keep, redraw, decode, composite, seams, save, exchange, train)
        return [node for module in modules for node in module.NODES]
