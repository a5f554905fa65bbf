"""LayerDiff: pictures from text as separate layers. The host loads this file and asks it for the pack's nodes."""

from comfy_api.latest import ComfyExtension, io

from .nodes import composite, decode, exchange, keep, latents, load, prompts, sample, save, seams, train
from .nodes.host import folders

WEB_DIRECTORY = "./web"


class LayerDiffExtension(ComfyExtension):
    """What the host gets from this pack."""

    async def on_load(self) -> None:
        """Tell the host where layered models lie."""
        folders.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order of the data's way through the pack."""
        modules = (load, prompts, latents, sample, keep, decode, composite, seams, save, exchange, train)
        return [node for module in modules for node in module.NODES]


async def comfy_entrypoint() -> LayerDiffExtension:
    """The host calls this once, at its start."""
    return LayerDiffExtension()
