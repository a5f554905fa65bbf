"""Inputs shared by several nodes."""

from typing import Any

import comfy.samplers
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


def sampling_inputs(denoise: str) -> list[Any]:
    """The inputs for sampling, shared by all nodes that sample. denoise: the tooltip of that input."""
    return [
        io.Int.Input("seed", default=1, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                     tooltip="The random seed for the noise. The same seed and settings give the same layers."),
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip="The number of denoising steps. 20 is usually enough."),
        io.Float.Input("cfg", default=2.5, min=0.0, max=100.0, step=0.1,
                       tooltip="Guidance scale: how closely to follow the prompts. 2 to 4 for the starter model, 5 to 8 "
                       "for SD 1.5."),
        io.Combo.Input("sampler_name", options=comfy.samplers.SAMPLER_NAMES, default="euler_ancestral",
                       tooltip="The sampling algorithm. Samplers that add noise at each step (ancestral, sde) "
                       "give better defined shapes."),
        io.Combo.Input("scheduler", options=comfy.samplers.SCHEDULER_NAMES, default="normal",
                       tooltip="How the noise decreases from step to step."),
        io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=denoise),
    ]


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
