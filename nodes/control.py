"""A node that gives some layers a ControlNet."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.layer_text import listed_strengths, parse_layer_text
from .host.conditioning import layers_and_names
from .host.control import apply_to_layers
from .inputs import check_limits

MAX_STRENGTH = 10.0


class LayerDiffApplyControlNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffApplyControlNet",
            display_name="Apply ControlNet to Layers",
            category="LayerDiff/prompts",
            description="Applies a ControlNet, ControlLora or T2I-Adapter to the layers you list. It runs on these layers alone "
            "and leaves the others as they are.",
            search_aliases=["controlnet per layer", "apply controlnet", "layer controlnet", "t2i adapter", "control lora",
                            "latent keyframe", "regional controlnet"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The conditioning of all layers, from Encode Layer Prompts or Stack "
                                      "Layer Conditioning."),
                io.Conditioning.Input("negative", tooltip="The negative conditioning, of all layers or from CLIP Text Encode."),
                io.ControlNet.Input("control_net", tooltip="The ControlNet, from Load ControlNet Model."),
                io.Image.Input("image", tooltip="The hint image. One for all listed layers, or a batch with one for each of "
                               "them, in the same order."),
                io.String.Input("layers", default="1", tooltip="The layers, by number or name, for example 2 or fox, balloon or "
                                "0-2. A layer can have a strength of its own, as in 1=0.5, 2:4=1.0. 0 is the background. 2:4 "
                                "means 2 and 3, as in Advanced-ControlNet."),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.01,
                               tooltip="The strength for layers that are listed without one of their own. 0 is no control."),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001,
                               tooltip="When the control starts. 0 is the start of sampling, 1 its end."),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001,
                               tooltip="When the control ends. 0 is the start of sampling, 1 its end."),
                io.Vae.Input("vae", optional=True, tooltip="Only for ControlNets that need a VAE."),
            ],
            outputs=[
                io.Conditioning.Output("positive_out", display_name="positive",
                                       tooltip="The conditioning with the control on the listed layers."),
                io.Conditioning.Output("negative_out", display_name="negative",
                                       tooltip="The negative conditioning with the control on the listed layers."),
            ],
        )

    @classmethod
    def execute(cls, positive: Any, negative: Any, control_net: Any, image: Any, layers: str, strength: float,
                start_percent: float, end_percent: float, vae: Any = None) -> io.NodeOutput:
        check_limits(cls, strength=strength, start_percent=start_percent, end_percent=end_percent)
        count, names = layers_and_names(positive, negative)
        strengths = listed_strengths(parse_layer_text(layers, strength, names), count, MAX_STRENGTH)
        return io.NodeOutput(*apply_to_layers((positive, negative), control_net, image, count, strengths, start_percent,
                                              end_percent, vae))


NODES = [LayerDiffApplyControlNet]
