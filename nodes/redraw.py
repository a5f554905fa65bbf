"""The node that redraws the chosen layers and keeps all others."""

from typing import Any

import torch
from comfy_api.latest import io

from ..layerdiff_core.composite import composite
from ..layerdiff_core.decode import named_lines
from ..layerdiff_core.edits import apply_edits
from ..layerdiff_core.layers import MAX_LAYERS, Document
from .host.editor import editor_ui
from .host.panel import panel_ui
from .host.redraw import Sampling, redraw_layers
from .host.types import LAYERS
from .host.warnings import warnings_ui
from .inputs import check_limits, edits_input, sampling_inputs


class LayerDiffRedrawLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffRedrawLayers",
            display_name="Redraw Layers",
            category="LayerDiff/sample",
            description="Redraws the chosen layers to match the others, and keeps all other layers exactly as they are. "
            "Replaces, restyles or adds a layer, or repaints a part of it. Works with layers of any origin.",
            # Lets the layer panel get its layers back after a page reload, when the node is cached and does not run.
            has_intermediate_output=True,
            search_aliases=["redraw layer", "regenerate layer", "inpaint layer", "img2img layer", "restyle layer",
                            "style transfer", "replace layer", "add layer", "new layer", "edit layer", "lock layers"],
            inputs=[
                LAYERS.Input("layers", tooltip="The layers of one scene, bottom layer first: from Decode Layers, Import Layers "
                             "from File or any other node."),
                io.Model.Input("model", tooltip="A layered model, or an SD 1.5 model from Apply LayerDiffuse."),
                io.Vae.Input("vae", tooltip="The model's VAE. For foregrounds with LayerDiffuse, from Load Transparent Decoder."),
                io.Conditioning.Input("positive", tooltip="The conditioning of all layers, from Encode Layer Prompts: one prompt "
                                      "per layer, including those that are kept and an added one. For LayerDiffuse, only those "
                                      "of the layers it generates, and the global prompt."),
                io.Conditioning.Input("negative", tooltip="The negative conditioning: what no layer should show."),
                io.String.Input("redraw", default="1",
                                tooltip="The layers to redraw: numbers, ranges or names, for example 1 or 1, 3-4 or bear. 0 is "
                                "the background. The brushes in the layer panel write this. If empty, all layers are kept."),
                io.Int.Input("add_at", default=-1, min=-1, max=MAX_LAYERS - 1,
                             tooltip="Adds one new layer at this position in the stack: 1 is right above the background, and a "
                             "number beyond the top puts it on top. -1 adds none. The numbers in redraw count the new layer."),
                *sampling_inputs("How much of a layer is redrawn. 1 replaces it. 0.5 to 0.7 restyles it and keeps its shape."),
                io.Int.Input("feather", default=8, min=0, max=256, advanced=True,
                             tooltip="Only with a mask: how far the redrawn area blends into the rest of the layer, in pixels "
                             "beyond the edge of the mask."),
                io.Mask.Input("mask", optional=True, tooltip="Redraws only this area of the chosen layers: 1 is redrawn, 0 stays "
                              "exactly as it is. One mask for all layers, or a batch with one for each."),
                io.String.Input("names", optional=True, force_input=True,
                                tooltip="Layer names, one per line, from Encode Layer Prompts. Names the redrawn and the added "
                                "layers; the kept layers keep theirs."),
                edits_input(),
            ],
            outputs=[
                LAYERS.Output("redrawn", display_name="layers", tooltip="All layers, with the layer panel's edits applied. Those "
                              "that were not redrawn are the same as in the input."),
                io.Image.Output("composite", display_name="composite", tooltip="The composite of these layers."),
                io.Latent.Output("samples", tooltip="The layered latent, before the layer panel's edits, for another sampler. "
                                 "From LayerDiffuse, only what was drawn."),
                io.Image.Output("blended", display_name="blended", tooltip="The whole scene as LayerDiffuse drew it. Connect it "
                                "to another Apply LayerDiffuse as the background of the next foreground. Other models draw only "
                                "layers, and this is the same as composite."),
            ],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], model: Any, vae: Any, positive: Any, negative: Any, redraw: str, add_at: int,
                seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str, denoise: float, feather: int,
                mask: torch.Tensor | None = None, names: str = "", edits: str = "") -> io.NodeOutput:
        check_limits(cls, add_at=add_at, steps=steps, cfg=cfg, denoise=denoise, feather=feather)
        result = redraw_layers(model, vae, positive, negative, Document.from_socket(layers), redraw, add_at, named_lines(names),
                               mask, feather, Sampling(seed, steps, cfg, sampler_name, scheduler, denoise))
        edited, stale = apply_edits(result.document, edits)
        flat = composite(edited)[0]
        return io.NodeOutput(edited.to_socket(), flat, result.latent, flat if result.blended is None else result.blended,
                             ui=panel_ui(result.document, stale) | editor_ui(edited) | warnings_ui(result.warnings))


NODES = [LayerDiffRedrawLayers]
