"""Nodes that create and mask layered latents."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.latents import free_mask, parse_layer_numbers
from ..layerdiff_core.layers import MAX_LAYERS, Document
from ..layerdiff_core.placement import layer_pixels
from .host.codecs import codec_for, layers_in
from .host.types import LAYERS
from .host.warnings import warnings_ui

MAX_PIXELS = 4096 * 4096


class LayerDiffEmptyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffEmptyLatent",
            display_name="Empty Layered Latent",
            category="LayerDiff/latents",
            description="Creates an empty latent for scenes of several layers, to be sampled at denoise 1.",
            search_aliases=["empty latent layers", "layered latent", "new layers"],
            # Lets the page show the warnings again after a reload, when the node is cached and does not run.
            has_intermediate_output=True,
            inputs=[
                io.Vae.Input("vae", tooltip="The model's VAE. It determines the channels and the size of the latent."),
                io.Int.Input("width", default=0, min=0, max=4096, step=8,
                             tooltip="Width in pixels. 0 uses the size that the model was trained at: 128 for the starter "
                             "models, 512 for SD 1.5."),
                io.Int.Input("height", default=0, min=0, max=4096, step=8,
                             tooltip="Height in pixels. 0 uses the size that the model was trained at."),
                io.Int.Input("layers", default=3, min=1, max=MAX_LAYERS,
                             tooltip="Number of layers per scene, including the background. Connect it to Encode Layer Prompts. "
                             "A Text2Layer model has a fixed number: 2 or 3 for the starter models."),
                io.Int.Input("scenes", default=1, min=1, max=64,
                             tooltip="Batch size: how many layered images to generate at once."),
            ],
            outputs=[io.Latent.Output(tooltip="The empty latent, for any sampler. The batch holds the layers of the first "
                                      "scene, then of the next.")],
        )

    @classmethod
    def execute(cls, vae: Any, width: int, height: int, layers: int, scenes: int) -> io.NodeOutput:
        if min(width, height) < 0 or width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels is not a valid size for a layered latent: no side can be negative, and "
                             "the total can be 16 million at most. Generate a smaller image and upscale it afterwards.")
        codec = codec_for(vae)
        width, height = codec.own_size(width, height)
        latent = codec.empty(width, height, layers, scenes)
        return io.NodeOutput(latent, ui=warnings_ui(codec.beyond_training(width, height, layers)))


class LayerDiffEncodeLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffEncodeLayers",
            display_name="Encode Layers",
            category="LayerDiff/latents",
            description="Encodes layers into a layered latent, to regenerate one of them and keep the others (Free Layers), "
            "or to change all of them at a denoise below 1.",
            search_aliases=["vae encode layers", "layers to latent", "img2img layers"],
            inputs=[
                LAYERS.Input("layers", tooltip="The layers of one scene, bottom layer first."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
            ],
            outputs=[io.Latent.Output(tooltip="The layered latent."),
                     io.Int.Output("count", display_name="layers", tooltip="The number of layers.")],
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
            description="Lets the sampler change only the layers you list. All other layers stay exactly as they are. "
            "Replaces any noise mask already set on the latent.",
            search_aliases=["regenerate layer", "lock layers", "freeze layers", "inpaint layer", "edit layer",
                            "noise mask layers"],
            inputs=[
                io.Latent.Input("samples", tooltip="A layered latent, from a sampler or Encode Layers."),
                io.String.Input("free", default="1",
                                tooltip="Numbers of the layers that may change, for example 1 or 1, 3 or 0-2. 0 is the "
                                "background."),
            ],
            outputs=[io.Latent.Output(tooltip="The latent with a noise mask over its layers.")],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], free: str) -> io.NodeOutput:
        layers, latent = layers_in(samples), samples["samples"]
        mask = free_mask(parse_layer_numbers(free, layers), layers, len(latent), *latent.shape[-2:])
        return io.NodeOutput({**samples, "noise_mask": mask})


NODES = [LayerDiffEmptyLatent, LayerDiffEncodeLayers, LayerDiffFreeLayers]
