"""Registers the pack's nodes and its model folder with ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from . import composite, decode, exchange, keep, latents, layerdiffuse, load, prompts, sample, save, seams, train
from .host import folders


class LayerDiffExtension(ComfyExtension):
    """The pack as a ComfyUI extension."""

    async def on_load(self) -> None:
        """Registers the folder for layered models."""
        folders.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order in which data flows through them."""
        modules = (load, layerdiffuse, prompts, latents, sample, keep, decode, composite, seams, save, exchange, train)
        return [node for module in modules for node in module.NODES]
