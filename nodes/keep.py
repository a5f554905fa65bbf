"""The node that generates some layers of a Text2Layer scene to match given ones."""

from typing import Any

import torch
from comfy_api.latest import io

from ..layerdiff_core.keep import BACKGROUND, FOREGROUNDS
from ..layerdiff_core.layers import Document
from ..layerdiff_core.placement import layer_pixels
from .host.guidance import keep_layers, stacked
from .host.types import LAYERS
from .inputs import check_limits


class LayerDiffKeepLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffKeepLayers",
            display_name="Keep Layers",
            category="LayerDiff/sample",
            description="Patches a Text2Layer model so that any sampler generates a foreground for a given background, or a "
            "background for given foregrounds. For a LayerDiff model, use Free Layers instead.",
            search_aliases=["conditional generation", "foreground for background", "lock background", "known layers"],
            inputs=[
                io.Model.Input("model", tooltip="A Text2Layer model."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                LAYERS.Input("layers", tooltip="Layers that include the ones to keep, in the size of the image to generate. "
                             "The bottom layer is the background. When foregrounds are kept, it may be missing."),
                io.Combo.Input("keep", options=[BACKGROUND, FOREGROUNDS], default=BACKGROUND,
                               tooltip="What to keep. background: generate foregrounds for it. foregrounds: generate a "
                               "background for them."),
                io.Float.Input("start", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                               tooltip="When to start, as a fraction of the sampling steps. 0 is the first step."),
                io.Float.Input("end", default=1.0, min=0.0, max=1.0, step=0.01, advanced=True,
                               tooltip="When to stop, as a fraction of the sampling steps. 1 is the last step. Lower values let "
                               "the model blend the kept layers with the new ones."),
            ],
            outputs=[io.Model.Output(tooltip="The patched model.")],
        )

    @classmethod
    def execute(cls, model: Any, vae: Any, layers: dict[str, Any], keep: str, start: float, end: float) -> io.NodeOutput:
        check_limits(cls, start=start, end=end)
        codec = stacked(model, vae)
        count = codec.foregrounds
        picture, mask = layer_pixels(Document.from_socket(layers))
        if keep == BACKGROUND:
            picture, mask = picture[:1].expand(count + 1, -1, -1, -1), mask[:1].expand(count + 1, -1, -1)
        elif len(picture) == count:
            picture, mask = torch.cat([picture[:1], picture]), torch.cat([mask[:1], mask])
        elif len(picture) != count + 1:
            raise ValueError(f"There are {len(picture)} layers to keep foregrounds from, but this model has {count} in front of "
                             f"a background. Connect {count} layers, or {count + 1} with the background at the bottom.")
        return io.NodeOutput(keep_layers(model, codec, codec.stack(picture, mask), keep, start, end))


NODES = [LayerDiffKeepLayers]
