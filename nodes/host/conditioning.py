"""Layered conditioning: one prompt and one set of options per layer, as an ordinary ComfyUI CONDITIONING."""

from typing import Any

import comfy.conds
import comfy.hooks
import comfy.samplers
import torch
from torch import Tensor

from ...layerdiff_core.prompts import same_length
from ...layerdiff_core.spans import spans
from .control import for_layers
from .words import ENCODER_KEY

LAYERS_KEY = "layers"
"""Key in a CONDITIONING: the number of layers it is for."""

NAMES_KEY = "layer_names"
"""Key in a CONDITIONING: the names of its layers, if they are known."""

OPTIONS_KEY = "layer_options"
"""Key in a CONDITIONING: for each layer, the options of PLACE and ENCODER_KEY that differ between layers."""

PLACE = ("area", "strength", "mask", "mask_strength", "set_area_to_bounds")
RANGE = ("start_percent", "end_percent", "clip_start_percent", "clip_end_percent")
POOLED = ("pooled_output", "pooled_output_controlnet")
CONTROL_TOKENS = "cross_attn_controlnet"
APART = (LAYERS_KEY, NAMES_KEY, OPTIONS_KEY, "control", "control_apply_to_uncond")
CALLED = {"gligen": "the GLIGEN boxes", "default": "Set Default Conditioning"}


def stack(layers: list[list[Any]]) -> list[list[Any]]:
    """Stack the CONDITIONING of each layer, bottom first, into a layered one.

    A layer's conditioning acts on that layer as it would on an image of its own: one or several prompts (Conditioning Combine),
    each with its range of steps, area, mask, strength and control. If the ranges differ, there is one layered conditioning for
    each part of sampling in which the same prompts are active. ValueError for options that act on all layers at once but differ
    between layers.
    """
    kept = [[{key: options[key] for key in RANGE if key in options} for _, options in entries] for entries in layers]
    if all(each == kept[0] for each in kept):
        return [one_for_all(list(entries), [True] * len(layers), None) for entries in zip(*layers)]
    times = [[active_range(options) for _, options in entries] for entries in layers]
    stacked = []
    for start, end, active in spans(times):
        passes = max(map(len, active))
        for number in range(passes):
            entries, on = [], []
            for layer, indices in zip(layers, active):
                entries.append(layer[indices[number % len(indices)]] if indices else layer[0])
                # The prompts of a layer that has fewer are repeated, so that each of them counts the same.
                on.append(number < passes - passes % len(indices) if indices else False)
            stacked.append(one_for_all(entries, on, (start, end)))
    if not stacked:
        raise ValueError("The time ranges of the layers' conditionings contain no steps. Check start and end in Conditioning "
                         "(Set Timestep Range).")
    return stacked


def active_range(options: dict[str, Any]) -> tuple[float, float]:
    """The part of sampling in which ComfyUI applies a conditioning, from 0 (the start of sampling) to 1 (its end)."""
    start, end = options.get("start_percent", 0.0), options.get("end_percent", 1.0)
    return max(start, options.get("clip_start_percent", 0.0)), min(end, options.get("clip_end_percent", 1.0))


def one_for_all(entries: list[Any], on: list[bool], time: tuple[float, float] | None) -> list[Any]:
    """One layered conditioning from one entry per layer. on: the layers it counts for. time: its range of steps, None for that of
    the entries."""
    dropped = APART + (RANGE if time else ())
    options = [{key: value for key, value in entry[1].items() if key not in dropped} for entry in entries]
    keys = list(dict.fromkeys(key for each in options for key in each))
    differ = [key for key in keys if not all(key in each and same(each[key], options[0][key]) for each in options)]
    apart = set(PLACE) if set(differ) & set(PLACE) or not all(on) else set()
    common = {key: options[0][key] for key in keys if key not in differ and key not in apart}
    alone = [key for key in (*PLACE, ENCODER_KEY) if key in apart or key in differ]
    own: list[dict[str, Any]] = [{key: each[key] for key in alone if key in each} for each in options]
    for key in set(differ) - set(PLACE) - {ENCODER_KEY}:
        common |= rows_of(key, options)
    for layer, counts in enumerate(on):
        if not counts:
            own[layer] = {**{key: value for key, value in own[layer].items() if key not in PLACE}, "strength": 0.0}
    if any(own):
        common[OPTIONS_KEY] = own
    if time:
        common |= {"start_percent": time[0], "end_percent": time[1]}
    return [torch.cat(same_length([entry[0] for entry in entries])), {**common, **control_of(entries), LAYERS_KEY: len(entries)}]


def rows_of(key: str, options: list[dict[str, Any]]) -> dict[str, Any]:
    """Converts an option that differs between layers to the rows of a tensor. ValueError if that is impossible."""
    values: list[Any] = [each.get(key) for each in options]
    if key == CONTROL_TOKENS and all(isinstance(value, Tensor) for value in values):
        return {key: torch.cat(same_length(values))}
    if key in POOLED:
        # SD 1.5 models do not use it, so it can be dropped if its shape is not the same for all layers.
        shapes = {value.shape if isinstance(value, Tensor) else None for value in values}
        return {key: torch.cat(values) if len(shapes) == 1 and None not in shapes else None}
    if key == "hooks":
        raise ValueError(f"The layers have different hooks ({alike(values)}). Hooks such as a LoRA hook change the weights "
                         "of the whole MODEL, which all layers share, so they cannot act on a single layer. Use Load LoRA for "
                         "Layers instead, or set the hooks after Stack Layer Conditioning.")
    raise ValueError(f"The layers have different values of {CALLED.get(key, f'the option {key!r}')} ({alike(values)}), which "
                     "cannot act on a single layer. Set it after Stack Layer Conditioning, for all layers alike.")


def pooled_rows(options: list[dict[str, Any]]) -> dict[str, Any]:
    """The pooled outputs of each layer's prompt as the rows of one tensor, which SDXL needs besides the tokens."""
    found: dict[str, Any] = {}
    for key in POOLED:
        if any(key in each for each in options):
            found |= rows_of(key, options)
    return found


def alike(values: list[Any]) -> str:
    """Which layers have an option, for an error."""
    having = [str(layer) for layer, value in enumerate(values) if value is not None]
    return f"layer{'s' if len(having) > 1 else ''} {', '.join(having)} of {len(values)}"


def control_of(entries: list[Any]) -> dict[str, Any]:
    """Combines the controls of the layers into one."""
    having = [options for _, options in entries if options.get("control") is not None]
    if not having:
        return {}
    to_negative = {bool(options.get("control_apply_to_uncond", False)) for options in having}
    if len(to_negative) > 1:
        raise ValueError("Some layers have a control from Apply ControlNet (OLD), which also acts on the negative prompt, and "
                         "others from Apply ControlNet. Use Apply ControlNet for all of them.")
    return {"control": for_layers([options.get("control") for _, options in entries]),
            "control_apply_to_uncond": to_negative.pop()}


def same(one: Any, other: Any) -> bool:
    """Whether two options are equal."""
    if isinstance(one, comfy.hooks.HookGroup) and isinstance(other, comfy.hooks.HookGroup):
        return one is other or [described(hook) for hook in one.hooks] == [described(hook) for hook in other.hooks]
    return one is other or bool(comfy.conds.is_equal(one, other))


def described(hook: Any) -> tuple[Any, ...]:
    """A hook and its schedule."""
    return hook, [(frame.start_percent, frame.strength) for frame in hook.hook_keyframe.keyframes]


def place_layers(cond: dict[str, Any], noise: Tensor) -> None:
    """Turn the areas, masks and strengths of single layers into a single mask, as ComfyUI expects, with a row for each latent.

    The area of a layer becomes a mask, because the layers of a scene are sampled together and none can be cropped alone. What was
    set after the layers were stacked replaces the layers' own, just as the last node of a kind wins in ComfyUI. ValueError if the
    number of masks is not the number of scenes.
    """
    own = cond.pop(OPTIONS_KEY, [])
    if not any(key in options for options in own for key in PLACE):
        return
    replaced = {key for key in PLACE if key in cond} | ({"mask", "mask_strength"} if "mask" in cond else set())
    scenes = len(noise) // len(own)
    rows = [multiplier({key: value for key, value in options.items() if key in PLACE and key not in replaced}, scenes, noise)
            for options in own]
    mask = torch.stack(rows, dim=1).flatten(0, 1)
    if "mask" in cond:
        mask = mask * multiplier({"mask": cond["mask"]}, len(noise), noise)
    cond["mask"] = mask


def multiplier(options: dict[str, Any], count: int, noise: Tensor) -> Tensor:
    """The weight that ComfyUI gives a conditioning with these options, [count, h, w], for a batch of `count` images."""
    place = [{key: value for key, value in options.items() if key != "set_area_to_bounds"} | {"model_conds": {}, "uuid": None}]
    pictures = torch.zeros(count, 1, *noise.shape[2:])
    comfy.samplers.resolve_areas_and_cond_masks_multidim(place, pictures.shape[2:], pictures.device)
    found = comfy.samplers.get_area_and_mult(place[0], pictures, torch.zeros(1))
    if found.mult.shape[0] != count:
        raise ValueError(f"The mask of a layer's prompt is a batch of {len(place[0]['mask'])}, but {count} scenes are sampled. "
                         "Use one mask, or one per scene.")
    height, width, top, left = found.area or (*pictures.shape[2:], 0, 0)
    pictures[:, :, top : top + height, left : left + width] = found.mult
    return pictures[:, 0]


def layers_and_names(positive: list[Any], negative: list[Any]) -> tuple[int, list[str]]:
    """The number of layers of a layered conditioning, and their names if they are known. ValueError if the positive one is not
    layered or the negative one has another number of layers. A negative one for a single image applies to all layers."""
    counts = {options.get(LAYERS_KEY) for _, options in positive}
    if not counts or None in counts:
        raise ValueError("The positive conditioning is not layered. Connect it from Encode Layer Prompts or Stack Layer "
                         "Conditioning, or use ComfyUI's Apply ControlNet for a single layer before it is stacked.")
    counts |= {options[LAYERS_KEY] for _, options in negative if LAYERS_KEY in options}
    if len(counts) > 1:
        raise ValueError(f"The conditionings are for {' and '.join(map(str, sorted(counts)))} layers. All of them must have the "
                         "same number of layers.")
    return counts.pop(), positive[0][1].get(NAMES_KEY, [])
