"""Nodes on the way to a model of one's own."""

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
            description="Writes a fresh adapter for an SD 1.5 checkpoint into models/layered_models: the start of training "
            "one. Untrained, it changes nothing: pictures come out as the checkpoint draws them, masks empty.",
            search_aliases=["new adapter", "train layerdiff", "fresh adapter"],
            inputs=[
                io.Model.Input("model", tooltip="An SD 1.5 model, from Load Checkpoint."),
                io.String.Input("name", default="my_adapter", tooltip="File name of the adapter; an existing file stays."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFF, tooltip="Seed of the fresh weights."),
            ],
            outputs=[io.String.Output("adapter_name", display_name="adapter_name", tooltip="The file's name.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: Any, name: str, seed: int) -> io.NodeOutput:
        path = folders.new_model_path(name)
        if path.exists():
            raise ValueError(f"{path.name} exists already and is not overwritten. Choose another name.")
        header, tensors = new_adapter(model, seed)
        checkpoint.write(path, header, tensors)
        return io.NodeOutput(path.name)


NODES = [LayerDiffCreateAdapter]
