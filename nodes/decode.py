"""The node that decodes a layered latent into layers."""

from typing import Any

import torch
from comfy_api.latest import io

from ..layerdiff_core.composite import composite
from ..layerdiff_core.decode import CENTRE, SOFTNESS, edited_pixels, finish_layers, named_lines, scene_documents, warnings_of
from ..layerdiff_core.edits import apply_edits
from .host.codecs import codec_for
from .host.editor import editor_ui
from .host.panel import panel_ui
from .host.types import LAYERS
from .host.warnings import warnings_ui
from .inputs import check_limits, edits_input


class LayerDiffDecodeLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffDecodeLayers",
            display_name="Decode Layers",
            category="LayerDiff/decode",
            description="Decodes a layered latent into the image and mask of each layer, and their composite. The layers "
            "can be opened in ComfyUI's own layer editor.",
            # Lets the layer panel get its layers back after a page reload, when the node is cached and does not run.
            has_intermediate_output=True,
            search_aliases=["vae decode layers", "latent to layers", "split layers", "layer masks", "alpha"],
            inputs=[
                io.Latent.Input("samples", tooltip="The sampled layered latent."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.String.Input("names", multiline=True, default="",
                                tooltip="Layer names, one per line, from Encode Layer Prompts. If empty, layers are numbered."),
                io.Float.Input("centre", default=CENTRE, min=0.05, max=0.95, step=0.01, advanced=True,
                               tooltip="The mask's grey value that becomes 50% coverage. Lower values make layers larger."),
                io.Float.Input("softness", default=SOFTNESS, min=0.0, max=1.0, step=0.01, advanced=True,
                               tooltip="Width of the mask's soft edge, as a range of grey values. 0 gives a hard edge."),
                io.Int.Input("scene", default=0, min=-1, max=255, tooltip="Which scene of the latent to output as layers, "
                             "starting at 0. -1 outputs all scenes as a list: the nodes that follow run once per scene."),
                edits_input(),
            ],
            outputs=[
                LAYERS.Output("layers", display_name="layers", is_output_list=True, tooltip="The layers of the chosen scene, "
                              "background first, with the layer panel's edits applied. A list if scene is -1."),
                io.Image.Output("images", display_name="images", tooltip="The images of all layers of all scenes. Colours "
                                "extend beyond the edge of the mask. The layer panel's edits apply to the scenes that are "
                                "output as layers."),
                io.Mask.Output("coverage", display_name="coverage", tooltip="The masks of all layers of all scenes. 1 means "
                               "covered by the layer, the inverse of Load Image's mask. The layer panel's edits apply to the "
                               "scenes that are output as layers: the mask moves with the layer."),
                io.Image.Output("composite", display_name="composite", tooltip="The composite of each scene. The layer "
                                "panel's edits apply to the scenes that are output as layers."),
                io.Image.Output("blended", display_name="blended", tooltip="Each scene as the model itself drew it as a whole: "
                                "the blended image of LayerDiffuse or the composed image of Text2Layer. Other models draw only "
                                "layers, and this is the same as composite."),
            ],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], vae: Any, names: str, centre: float, softness: float,
                scene: int, edits: str = "") -> io.NodeOutput:
        check_limits(cls, centre=centre, softness=softness, scene=scene)
        codec = codec_for(vae)
        pictures, masks, layers, finished, blended = codec.decode(samples, len(named_lines(names)))
        count = len(pictures) // layers
        if scene >= count:
            raise ValueError(f"There is no scene {scene}. The latent has {count}, numbered 0 to {count - 1}.")
        if finished:
            coverage = masks[..., 0]
        else:
            pictures, coverage = finish_layers(pictures, masks, layers, centre, softness)
        scenes = scene_documents(pictures, coverage, layers, "\n".join(codec.named(named_lines(names))))
        chosen = range(count) if scene < 0 else [scene]
        applied = [apply_edits(scenes[number], edits, scenes[chosen[0]]) for number in chosen]
        edited = {number: document for number, (document, _) in zip(chosen, applied)}
        composites = torch.cat([composite(edited.get(number, scene))[0] for number, scene in enumerate(scenes)])
        changed = {number: document for number, document in edited.items() if document is not scenes[number]}
        pictures, coverage = edited_pixels(pictures, coverage, layers, changed)
        shown = panel_ui(scenes[chosen[0]], stale=applied[0][1]) | editor_ui(applied[0][0])
        first = scenes[chosen[0]].layers
        said = warnings_ui(warnings_of([layer.name for layer in first], torch.cat([layer.coverage for layer in first])))
        return io.NodeOutput([document.to_socket() for document in edited.values()], pictures, coverage, composites,
                             composites if blended is None else blended, ui=shown | said)


NODES = [LayerDiffDecodeLayers]
