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
            description="Loads a complete LayerDiff or Text2Layer model: one of the small starter models that come with the "
            "pack, or your own from models/layered_models. For an SD 1.5 checkpoint, use Apply LayerDiff Adapter.",
            search_aliases=["text to layers", "load layerdiff", "load text2layer", "text2layer", "layered checkpoint",
                            "starter model"],
            inputs=[io.Combo.Input("model_name", options=folders.model_names(), default=STARTER,
                                   tooltip="The model file. layerdiff_starter, text2layer_starter and text2layer_two_foregrounds "
                                   "come with the pack. They are small and fast on a CPU, and know only the objects and "
                                   "places listed in the README.")],
            outputs=[
                io.Model.Output(tooltip="The layered diffusion model. Works with any sampler."),
                io.Clip.Output(tooltip="The model's text encoder."),
                io.Vae.Output(tooltip="The model's VAE, for images and masks. With a Text2Layer model, VAE Decode outputs the "
                              "composed image and Decode Layers all layers."),
                ENHANCER.Output(display_name="enhancer", tooltip="The prompt enhancer, for Encode Layer Prompts. Empty for a "
                                "Text2Layer model, which takes one prompt from CLIP Text Encode."),
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
            description="Applies an adapter to an SD 1.5 model, which makes it a layered model. LoRAs can be loaded before or "
            "after this node. Use the checkpoint's own CLIP and VAE.",
            search_aliases=["layerdiff sd15", "layered adapter", "layer lora"],
            inputs=[
                io.Model.Input("model", tooltip="An SD 1.5 model, from Load Checkpoint."),
                io.Combo.Input("adapter_name", options=folders.model_names(),
                               tooltip="The adapter file, from models/layered_models. No trained adapter has been published. "
                               "Create LayerDiff Adapter creates an untrained one."),
            ],
            outputs=[
                io.Model.Output(tooltip="The layered model. Works with any sampler."),
                ENHANCER.Output(display_name="enhancer", tooltip="The prompt enhancer, for Encode Layer Prompts."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, adapter_name: str) -> io.NodeOutput:
        return io.NodeOutput(*adapters.apply_adapter(model, folders.model_path(adapter_name)))


NODES = [LayerDiffLoadModel, LayerDiffApplyAdapter]
