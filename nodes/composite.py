"""Nodes that arrange layers and composite them into one image."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.blend import MODES
from ..layerdiff_core.composite import composite
from ..layerdiff_core.edits import apply_edits
from ..layerdiff_core.layer_fields import MAX_SIDE
from ..layerdiff_core.layers import MAX_LAYERS, Document, change_layer
from .host.panel import panel_ui
from .host.types import LAYERS
from .inputs import LINEAR, check_limits, colour_space_input, edits_input


class LayerDiffSetLayer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffSetLayer",
            display_name="Set Layer Properties",
            category="LayerDiff/composite",
            description="Changes one layer: name, position in the stack, opacity, blend mode, placement, scale, "
            "rotation and visibility. The input layers are not modified. Chain several nodes to change several layers.",
            search_aliases=["layer opacity", "layer blend mode", "move layer", "scale layer", "rotate layer", "reorder layers",
                            "hide layer", "delete layer", "remove background layer"],
            inputs=[
                LAYERS.Input("layers", tooltip="The layers. One of them is changed."),
                io.Int.Input(
                    "layer", default=0, min=0, max=MAX_LAYERS - 1, tooltip="Number of the layer to change. 0 is the background."
                ),
                io.String.Input("name", default="", tooltip="New name of the layer. Leave empty to keep the current name."),
                io.Int.Input(
                    "position",
                    default=-1,
                    min=-1,
                    max=MAX_LAYERS - 1,
                    tooltip="New position of the layer in the stack. 0 is the bottom, -1 keeps the current position.",
                ),
                io.Float.Input(
                    "opacity",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Opacity of the layer. 0 is fully transparent, 1 is fully opaque.",
                ),
                io.Combo.Input(
                    "blend_mode",
                    options=list(MODES),
                    default="normal",
                    tooltip="How the layer is blended with the layers below it.",
                ),
                io.Boolean.Input("visible", default=True, tooltip="Turn off to leave the layer out of the composite."),
                io.Int.Input(
                    "right",
                    default=0,
                    min=-MAX_SIDE,
                    max=MAX_SIDE,
                    tooltip="How far to move the layer to the right, in pixels. Negative values move it to the left.",
                ),
                io.Int.Input(
                    "down",
                    default=0,
                    min=-MAX_SIDE,
                    max=MAX_SIDE,
                    tooltip="How far to move the layer down, in pixels. Negative values move it up.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    tooltip="Scale factor, about the layer's centre. 2 makes it twice as large.",
                ),
                io.Float.Input(
                    "rotation",
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=1.0,
                    tooltip="Degrees to rotate the layer clockwise, about its centre. Added to its current rotation.",
                ),
            ],
            outputs=[LAYERS.Output("changed", display_name="layers", tooltip="All layers, with the change applied.")],
        )

    @classmethod
    def execute(
        cls,
        layers: dict[str, Any],
        layer: int,
        name: str,
        position: int,
        opacity: float,
        blend_mode: str,
        visible: bool,
        right: int,
        down: int,
        scale: float,
        rotation: float,
    ) -> io.NodeOutput:
        check_limits(cls, right=right, down=down, scale=scale, rotation=rotation, opacity=opacity)
        document = Document.from_socket(layers)
        place = None if position < 0 else position
        changed = change_layer(document, layer, name, place, opacity, blend_mode, visible, right, down, scale, rotation)
        return io.NodeOutput(changed.to_socket())


class LayerDiffCompositeLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffCompositeLayers",
            display_name="Composite Layers",
            category="LayerDiff/composite",
            description="Composites the visible layers into one image by order, opacity, blend mode and placement.",
            search_aliases=["flatten layers", "merge layers", "alpha", "alpha composite", "blend layers"],
            # Lets the layer panel get its layers back after a page reload, when the node is cached and does not run.
            has_intermediate_output=True,
            inputs=[
                LAYERS.Input("layers", tooltip="The layers to composite."),
                colour_space_input(),
                edits_input(),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The composite. Areas not covered by any layer are black."),
                io.Mask.Output(
                    "transparency",
                    tooltip="1 where the composite is transparent, 0 where it is opaque, as in Load Image and "
                    "Join Image with Alpha. This is the inverse of a layer's coverage.",
                ),
                io.Int.Output("count", tooltip="The number of layers, including hidden ones."),
                LAYERS.Output("edited", display_name="layers", tooltip="The layers with the layer panel's edits applied."),
            ],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], colour_space: str, edits: str = "") -> io.NodeOutput:
        document = Document.from_socket(layers)
        edited, stale = apply_edits(document, edits)
        linear = colour_space == LINEAR
        image, alpha = composite(edited, linear)
        shown = panel_ui(document, stale, linear)
        return io.NodeOutput(image, 1 - alpha, len(edited.layers), edited.to_socket(), ui=shown)


NODES = [LayerDiffSetLayer, LayerDiffCompositeLayers]
