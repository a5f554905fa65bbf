"""Inputs that several nodes have."""

from typing import Any

from comfy_api.latest import io

LINEAR = "linear"


def colour_space_input() -> Any:
    """The choice that every node that composites offers."""
    return io.Combo.Input(
        "colour_space",
        options=["display", LINEAR],
        default="display",
        tooltip="display: mix the picture's numbers, as the layers were made and as most image editors do. "
        "linear: mix light, as the host's own layer editor does; soft edges come out brighter.",
    )


def edits_input() -> Any:
    """The input that every node with a layer panel has, last of all; optional, since older graphs do not name it."""
    return io.String.Input(
        "edits",
        optional=True,
        default="",
        socketless=True,
        tooltip="What was changed in the layer panel, as JSON: order, eyes, solo, opacity, blend modes, places. The panel "
        "writes it; empty changes nothing. For graphs without the page it can be written by hand: the help page says how.",
    )
