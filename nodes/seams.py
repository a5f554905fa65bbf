"""The node that heals the seams where layers meet."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.composite import composite
from ..layerdiff_core.layers import Document
from ..layerdiff_core.seams import heal_seams
from .host.types import LAYERS
from .inputs import LINEAR, colour_space_input


class LayerDiffHealSeams(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffHealSeams",
            display_name="Heal Seams",
            category="LayerDiff/composite",
            description="Takes rims of foreign colour off layers whose mask reaches a few pixels beyond what they show, "
            "so that no seam is seen where layers meet. A layer's own outline stays.",
            search_aliases=["remove halo", "defringe", "remove fringe", "colour decontaminate", "clean edges", "seam"],
            inputs=[
                LAYERS.Input("layers", tooltip="The layers to heal."),
                io.Int.Input("reach", default=3, min=1, max=32,
                             tooltip="How deep a rim may be, in pixels of the layer's picture. 3 suits the starter's 128 "
                             "pixels; larger pictures need more. Parts of a layer thinner than twice this stay."),
                colour_space_input(),
            ],
            outputs=[
                LAYERS.Output("healed", display_name="layers", tooltip="The layers with clean rims, otherwise as they were."),
                io.Image.Output("image", tooltip="The composite of the healed layers. Black where no layer lies."),
            ],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], reach: int, colour_space: str) -> io.NodeOutput:
        healed = heal_seams(Document.from_socket(layers), reach)
        return io.NodeOutput(healed.to_socket(), composite(healed, colour_space == LINEAR)[0])


NODES = [LayerDiffHealSeams]
