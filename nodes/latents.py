"""Nodes that make and mask layered latents."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.latents import free_mask, parse_layer_numbers
from ..layerdiff_core.layers import MAX_LAYERS, Document
from ..layerdiff_core.placement import layer_pixels
from .host.codecs import codec_for, layers_in
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
        if min(width, height) < 1 or width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels is not what a layered latent can have: at least 1 each way, and 16 "
                             "million in all. Draw a smaller picture and enlarge it afterwards.")
        return io.NodeOutput(codec_for(vae).empty(width, height, layers, scenes))


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
        picture, mask = layer_pixels(Document.from_socket(layers))
        return io.NodeOutput(codec_for(vae).encode(picture, mask), len(picture))


class LayerDiffFreeLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffFreeLayers",
            display_name="Free Layers",
            category="LayerDiff/latents",
            description="Lets a sampler change the layers you name and keeps all others exactly as they are. It "
            "replaces a noise mask that the latent has.",
            search_aliases=["redraw layer", "regenerate layer", "lock layers", "freeze layers", "inpaint layer", "edit layer",
                            "noise mask layers"],
            inputs=[
                io.Latent.Input("samples", tooltip="A layered latent that was sampled or encoded before."),
                io.String.Input("free", default="1",
                                tooltip="Numbers of the layers that may change, such as 1 or 1, 3 or 0-2; 0 is the background."),
            ],
            outputs=[io.Latent.Output(tooltip="The same latent with a noise mask over its layers.")],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], free: str) -> io.NodeOutput:
        layers, latent = layers_in(samples), samples["samples"]
        mask = free_mask(parse_layer_numbers(free, layers), layers, len(latent), *latent.shape[-2:])
        return io.NodeOutput({**samples, "noise_mask": mask})


NODES = [LayerDiffEmptyLatent, LayerDiffEncodeLayers, LayerDiffFreeLayers]
