"""Nodes for training your own model."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core import checkpoint
from .host import folders
from .host.adapters import new_adapter


class LayerDiffCreateAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffCreateAdapter",
            display_name="Create LayerDiff Adapter",
            category="LayerDiff/train",
            description="Creates an untrained adapter for an SD 1.5 checkpoint in models/layered_models, as a starting point for "
            "training. Until it is trained, the checkpoint's images stay the same and all masks are empty.",
            search_aliases=["new adapter", "train layerdiff", "fresh adapter"],
            inputs=[
                io.Model.Input("model", tooltip="An SD 1.5 model, from Load Checkpoint."),
                io.String.Input("name", default="my_adapter", tooltip="File name of the adapter. An existing file is not "
                                                              "overwritten."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFF, tooltip="The random seed for the initial weights."),
            ],
            outputs=[io.String.Output("adapter_name", display_name="adapter_name", tooltip="The file name of the adapter.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: Any, name: str, seed: int) -> io.NodeOutput:
        path = folders.new_model_path(name)
        if path.exists():
            raise ValueError(f"{path.name} already exists and is not overwritten. Choose another name.")
        header, tensors = new_adapter(model, seed)
        checkpoint.write(path, header, tensors)
        return io.NodeOutput(path.name)


NODES = [LayerDiffCreateAdapter]
