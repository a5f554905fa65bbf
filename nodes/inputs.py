"""Inputs shared by several nodes."""

from typing import Any

from comfy_api.latest import io

LINEAR = "linear"


def check_limits(node: type[io.ComfyNode], **values: float) -> None:
    """ValueError if a value is outside the limits of the node's input of that name.

    ComfyUI checks values from widgets, but not values from links.
    """
    limits = {each.id: (each.min, each.max) for each in node.define_schema().inputs if each.id in values}
    for name, value in values.items():
        low, high = limits[name]
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}, but must be between {low} and {high}. Check the node that is connected to it.")


def colour_space_input() -> Any:
    """The colour space input of every node that composites."""
    return io.Combo.Input(
        "colour_space",
        options=["display", LINEAR],
        default="display",
        tooltip="display: blend sRGB values, as most image editors do and as the layers were made. "
        "linear: blend linear light, as ComfyUI's own layer editor does. Soft edges come out brighter.",
    )


def edits_input() -> Any:
    """The input of every node with a layer panel, placed last. Optional, because older graphs do not have it."""
    return io.String.Input(
        "edits",
        optional=True,
        default="",
        socketless=True,
        tooltip="The edits made in the layer panel, as JSON: order, names, visibility, opacity, blend mode, position, copies. "
        "The panel writes this. Leave it empty for no edits. To write it by hand, for example for the API, see the node's help.",
    )
