"""Nodes that load layered models."""

from typing import Any

from comfy_api.latest import io

from .host import adapters, folders, loading
from .host.types import ENHANCER

STARTER = "layerdiff_starter.safetensors"


class LayerDiffLoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffLoadModel",
            display_name="Load Layered Model",
            category="LayerDiff/load",
            description="Loads a complete layered model of either family, LayerDiff or Text2Layer: a small starter that the "
            "pack carries, or one of your own from models/layered_models. For your SD 1.5 checkpoints use Apply LayerDiff "
            "Adapter.",
            search_aliases=["text to layers", "load layerdiff", "load text2layer", "text2layer", "layered checkpoint",
                            "starter model"],
            inputs=[io.Combo.Input("model_name", options=folders.model_names(), default=STARTER,
                                   tooltip="The file. layerdiff_starter, text2layer_starter and text2layer_two_foregrounds "
                                   "come with the pack: small, quick on a CPU, and they know a toy world only (the README "
                                   "lists it).")],
            outputs=[
                io.Model.Output(tooltip="The layered diffusion model; works with any sampler of the host."),
                io.Clip.Output(tooltip="The text encoder that belongs to it."),
                io.Vae.Output(tooltip="Decodes pictures and masks alike; Text2Layer's gives the composed image to VAE Decode, "
                              "and all layers to Decode Layers."),
                ENHANCER.Output(display_name="enhancer", tooltip="The prompt enhancer, for Encode Layer Prompts. A Text2Layer "
                                "model has none: it takes one prompt, by CLIP Text Encode."),
            ],
        )

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        return io.NodeOutput(*loading.load_complete(folders.model_path(model_name)))


class LayerDiffApplyAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffApplyAdapter",
            display_name="Apply LayerDiff Adapter",
            category="LayerDiff/load",
            description="Makes a layered model of any SD 1.5 checkpoint and an adapter file. LoRAs that are on the model "
            "already stay on it, and further ones can follow. Use the checkpoint's own CLIP and VAE.",
            search_aliases=["layerdiff sd15", "layered adapter", "layer lora"],
            inputs=[
                io.Model.Input("model", tooltip="An SD 1.5 model, from Load Checkpoint."),
                io.Combo.Input("adapter_name", options=folders.model_names(),
                               tooltip="The adapter file, from models/layered_models. Create LayerDiff Adapter makes a "
                               "fresh one to train; no trained one is public."),
            ],
            outputs=[
                io.Model.Output(tooltip="The layered model; works with any sampler of the host."),
                ENHANCER.Output(display_name="enhancer", tooltip="The prompt enhancer, for Encode Layer Prompts."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, adapter_name: str) -> io.NodeOutput:
        return io.NodeOutput(*adapters.apply_adapter(model, folders.model_path(adapter_name)))


NODES = [LayerDiffLoadModel, LayerDiffApplyAdapter]
