"""The node that heals the seams where layers meet."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.composite import composite
from ..layerdiff_core.layers import Document
from ..layerdiff_core.seams import heal_seams
from .host.types import LAYERS
from .inputs import LINEAR, check_limits, colour_space_input


class LayerDiffHealSeams(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffHealSeams",
            display_name="Heal Seams",
            category="LayerDiff/composite",
            description="Removes colour fringes from layers whose mask extends a few pixels beyond the object, so that no "
            "seam is visible between layers. Outlines that belong to the object are kept.",
            search_aliases=["remove halo", "defringe", "remove fringe", "colour decontaminate", "clean edges", "seam"],
            inputs=[
                LAYERS.Input("layers", tooltip="The layers to heal."),
                io.Int.Input("reach", default=3, min=1, max=32,
                             tooltip="Maximum width of a fringe, in pixels of the layer. 3 suits the starter's 128 pixels; "
                             "larger images need more. Parts thinner than twice this value are left unchanged."),
                colour_space_input(),
            ],
            outputs=[
                LAYERS.Output("healed", display_name="layers", tooltip="The layers without fringes."),
                io.Image.Output("image", tooltip="The composite of the healed layers. Areas not covered by any layer are black."),
            ],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], reach: int, colour_space: str) -> io.NodeOutput:
        check_limits(cls, reach=reach)
        healed = heal_seams(Document.from_socket(layers), reach)
        return io.NodeOutput(healed.to_socket(), composite(healed, colour_space == LINEAR)[0])


NODES = [LayerDiffHealSeams]
