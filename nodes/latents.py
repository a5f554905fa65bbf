"""Nodes that make and mask layered latents."""

from typing import Any

import torch
from comfy_api.latest import io

from ..layerdiff_core.latents import check_count, free_mask, padded, parse_layer_numbers
from ..layerdiff_core.layers import MAX_LAYERS, Document
from ..layerdiff_core.placement import layer_pixels
from .host.text2layer import STACKED_KEY, encode_stack, foregrounds_of
from .host.types import LAYERS

MAX_PIXELS = 4096 * 4096


class LayerDiffEmptyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffEmptyLatent",
            display_name="Empty Layered Latent",
            category="LayerDiff/latents",
            description="An empty latent for scenes of several layers, to be sampled at denoise 1.",
            search_aliases=["empty latent layers", "layered latent", "new layers"],
            inputs=[
                io.Vae.Input("vae", tooltip="The model's VAE: it says how many channels and pixels a latent has."),
                io.Int.Input("width", default=128, min=16, max=4096, step=8,
                             tooltip="Pixels. The starter is made for 128, SD 1.5 for 512."),
                io.Int.Input("height", default=128, min=16, max=4096, step=8, tooltip="Pixels."),
                io.Int.Input("layers", default=3, min=1, max=MAX_LAYERS,
                             tooltip="Layers a scene, the background included: connect it from Encode Layer Prompts. A "
                             "Text2Layer model draws a fixed number: the starters 2 or 3."),
                io.Int.Input("scenes", default=1, min=1, max=64, tooltip="How many pictures are drawn at once."),
            ],
            outputs=[io.Latent.Output(tooltip="For any sampler: scenes times layers, the layers of a scene together.")],
        )

    @classmethod
    def execute(cls, vae: Any, width: int, height: int, layers: int, scenes: int) -> io.NodeOutput:
        check_count(layers, scenes)
        if min(width, height) < 1 or width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels is not what a layered latent can have: at least 1 each way, and 16 "
                             "million in all. Draw a smaller picture and enlarge it afterwards.")
        ratio = vae.spacial_compression_encode()
        # UNets halve three times: a latent that does not divide is padded here and cropped when it is decoded.
        high, wide = (padded(size, 8 * ratio) // ratio for size in (height, width))
        if foregrounds_of(vae):
            check_stack(layers, vae, "were asked for")
            samples = torch.zeros(scenes, vae.latent_channels, high, wide)
            return io.NodeOutput({"samples": samples, STACKED_KEY: layers, "size": (height, width)})
        samples = torch.zeros(scenes * layers, 2 * vae.latent_channels, high, wide)
        return io.NodeOutput({"samples": samples, "layers": layers, "size": (height, width)})


class LayerDiffEncodeLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffEncodeLayers",
            display_name="Encode Layers",
            category="LayerDiff/latents",
            description="Encodes layers, drawn or loaded or decoded before, into a layered latent: to change one of them "
            "and keep the others (Free Layers), or to draw all anew at partial denoise.",
            search_aliases=["vae encode layers", "layers to latent", "img2img layers"],
            inputs=[
                LAYERS.Input("layers", tooltip="The layers of one scene, bottom first."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
            ],
            outputs=[io.Latent.Output(tooltip="The layered latent."),
                     io.Int.Output("count", display_name="layers", tooltip="How many layers it has.")],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], vae: Any) -> io.NodeOutput:
        document = Document.from_socket(layers)
        width, height = document.canvas
        picture, mask = layer_pixels(document, 8 * vae.spacial_compression_encode())
        if foregrounds_of(vae):
            check_stack(len(picture), vae, "came in")
            latent = {"samples": encode_stack(vae, picture, mask), STACKED_KEY: len(picture)}
        else:
            samples = torch.cat([vae.encode(picture), vae.encode(mask[..., None].expand(-1, -1, -1, 3))], dim=1)
            latent = {"samples": samples, "layers": len(picture)}
        return io.NodeOutput({**latent, "size": (height, width)}, len(picture))


class LayerDiffFreeLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffFreeLayers",
            display_name="Free Layers",
            category="LayerDiff/latents",
            description="Lets a sampler change the layers you name and keeps all others exactly as they are.",
            search_aliases=["lock layers", "freeze layers", "inpaint layer", "edit one layer", "noise mask layers"],
            inputs=[
                io.Latent.Input("samples", tooltip="A layered latent that was sampled or encoded before."),
                io.String.Input("free", default="1",
                                tooltip="Numbers of the layers that may change, such as 1 or 1, 3 or 0-2; 0 is the background."),
            ],
            outputs=[io.Latent.Output(tooltip="The same latent with a noise mask over its layers.")],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], free: str) -> io.NodeOutput:
        if STACKED_KEY in samples:
            raise ValueError("This latent is of a Text2Layer model: all layers of a scene are mixed in one latent, so none of "
                             "them can be freed alone. Put Keep Layers on the MODEL, which keeps given layers while it draws the "
                             "others, or use a LayerDiff model.")
        latent = samples["samples"]
        layers = samples.get("layers", len(latent))
        chosen = parse_layer_numbers(free, layers)
        mask = free_mask(chosen, layers, len(latent), *latent.shape[-2:])
        return io.NodeOutput({**samples, "noise_mask": mask})


def check_stack(layers: int, vae: Any, what: str) -> None:
    """ValueError unless there are as many layers as a Text2Layer model draws; `what` happened with them."""
    wanted = foregrounds_of(vae) + 1
    if layers != wanted:
        raise ValueError(f"{layers} layers {what}, and this Text2Layer model draws {wanted}, no more and no fewer: the "
                         f"background and {wanted - 1} in front of it. Use {wanted} layers, or a LayerDiff model.")


NODES = [LayerDiffEmptyLatent, LayerDiffEncodeLayers, LayerDiffFreeLayers]
