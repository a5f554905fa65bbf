"""Nodes that preview layers and save them as images."""

from typing import Any

from comfy_api.latest import io, ui

from ..layerdiff_core.export import layer_previews, save_layers
from ..layerdiff_core.layers import Document
from .host.editor import saved_for_editor
from .host.saving import output_place, workflow_text
from .host.types import LAYERS
from .inputs import LINEAR, colour_space_input


class LayerDiffPreviewLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffPreviewLayers",
            display_name="Preview Layers",
            category="LayerDiff/export",
            description="Previews each layer on a checkerboard, bottom layer first, followed by the composite. Saves nothing.",
            search_aliases=["show layers", "view layers", "layer preview"],
            is_output_node=True,
            inputs=[LAYERS.Input("layers", tooltip="The layers to preview, including hidden ones."), colour_space_input()],
            outputs=[
                LAYERS.Output("same_layers", display_name="layers", tooltip="The layers, unchanged."),
                io.Image.Output(
                    "previews", tooltip="The preview images: each layer on a checkerboard, then the composite."
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], colour_space: str) -> io.NodeOutput:
        previews = layer_previews(Document.from_socket(layers), colour_space == LINEAR)
        return io.NodeOutput(layers, previews, ui=ui.PreviewImage(previews, cls=cls))


class LayerDiffSaveLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffSaveLayers",
            display_name="Save Layers",
            category="LayerDiff/export",
            description="Saves each layer, including hidden ones, and the composite as PNG files with transparency to the output "
            "folder. The files contain the workflow. Stacked in an image editor, they give the composite again.",
            search_aliases=["export layers", "save transparent png", "save rgba", "save alpha", "write layers"],
            is_output_node=True,
            inputs=[
                LAYERS.Input("layers", tooltip="The layers to save."),
                io.String.Input(
                    "filename_prefix",
                    default="LayerDiff",
                    tooltip="Prefix of the file names, as in Save Image. It may contain subfolders and placeholders such as "
                    "%date:yyyy-MM-dd% or %width%. A counter, the layer's number and its name are added.",
                ),
                colour_space_input(),
            ],
            outputs=[LAYERS.Output("same_layers", display_name="layers", tooltip="The layers, unchanged.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], filename_prefix: str, colour_space: str) -> io.NodeOutput:
        document = Document.from_socket(layers)
        folder, stem, subfolder = output_place(filename_prefix, document.canvas)
        files = save_layers(document, folder, stem, workflow_text(cls), colour_space == LINEAR)
        # The composite first, because ComfyUI shows the first image as the job's thumbnail.
        results = [ui.SavedResult(file, subfolder, io.FolderType.output) for file in [files[-1], *files[:-1]]]
        return io.NodeOutput(layers, ui=ui.SavedImages(results).as_dict()
                             | saved_for_editor(document, [folder / file for file in files[:-1]]))


NODES = [LayerDiffPreviewLayers, LayerDiffSaveLayers]
