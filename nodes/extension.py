"""Registers the pack's nodes and its model folder with ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from . import (
    composite,
    control,
    convert,
    dataset,
    decode,
    exchange,
    keep,
    latents,
    layerdiffuse,
    load,
    lora,
    prompts,
    redraw,
    sample,
    save,
    seams,
    train,
)
from .host import folders

MODULES = (load, lora, layerdiffuse, prompts, control, latents, sample, keep, redraw, decode, convert, composite, seams, save,
           exchange, dataset, train)
"""In the order in which data flows through their nodes."""


class LayerDiffExtension(ComfyExtension):
    """The pack as a ComfyUI extension."""

    async def on_load(self) -> None:
        """Registers the folder for layered models."""
        folders.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for module in MODULES for node in module.NODES]
