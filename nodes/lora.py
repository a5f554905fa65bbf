"""The node that loads a LoRA for single layers."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.layer_text import parse_layer_text
from .host import layer_lora, lora_files
from .host.warnings import warnings_ui
from .inputs import check_limits


class LayerDiffLoadLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffLoadLora",
            display_name="Load LoRA for Layers",
            category="LayerDiff/load",
            description="Loads a LoRA for some layers of a layered model, each with its own strength. The other layers stay "
            "without it. Several of these nodes can follow each other; they all act in the same sampling steps, so that several "
            "LoRAs on several layers cost hardly more than none.",
            search_aliases=["lora per layer", "layer lora", "regional lora", "lora mask", "style of one layer", "lora loader"],
            inputs=[
                io.Model.Input("model", tooltip="A LayerDiff model, from Load Layered Model or Apply LayerDiff Adapter."),
                io.Combo.Input("lora_name", options=lora_files.lora_names(),
                               tooltip="The LoRA file (LoRA, LoCon, LoHa or LoKr), from models/loras. It must be for the same "
                               "base as the model: SD 1.5 for an adapter."),
                io.String.Input("layers", default="1",
                                tooltip="The layers that get the LoRA, and their strength after \"=\": \"1\" or "
                                "\"1=0.5, 2:4=1.0\". 0 is the background, -1 the top layer. 2:4 is 2 and 3, as in "
                                "Advanced-ControlNet; 2-4 is 2, 3 and 4; 1: is all but the background."),
                io.Float.Input("strength", default=1.0, min=-100.0, max=100.0, step=0.01,
                               tooltip="How strongly the LoRA changes the layers that have no strength of their own in layers. "
                               "It can be negative."),
            ],
            outputs=[io.Model.Output(tooltip="The layered model with the LoRA on these layers. Works with any sampler.")],
        )

    @classmethod
    def execute(cls, model: Any, lora_name: str, layers: str, strength: float) -> io.NodeOutput:
        check_limits(cls, strength=strength)
        entries = parse_layer_text(layers, strength)
        path = lora_files.lora_path(lora_name)
        adapters, warnings = lora_files.adapters_of(model, path.name, lora_files.read_lora(path))
        return io.NodeOutput(layer_lora.load_for_layers(model, path.name, adapters, entries), ui=warnings_ui(warnings))


NODES = [LayerDiffLoadLora]
