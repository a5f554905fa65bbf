"""Lets ComfyUI's control models, which are made for single images, work on all layers or only on some of them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import comfy.hooks
import comfy.utils
import torch
from comfy.controlnet import ControlBase
from torch import Tensor

RUNS_KEY = "layerdiff_cond_or_uncond"
"""Key in the transformer options that a control receives: ComfyUI's own cond_or_uncond, with one entry per batch of scenes."""


class WrappedControl(ControlBase):
    """Stands in for another control and everything chained to it, and passes ComfyUI's calls on to it.

    Strength, range of steps and hints remain those of the inner control.
    """

    def __init__(self, control: ControlBase):
        super().__init__()
        self.control = control
        self.extra_hooks = comfy.hooks.HookGroup.combine_all_hooks(control.get_extra_hooks())

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self.control.pre_run(model, percent_to_timestep_function)

    def cleanup(self) -> None:
        super().cleanup()
        self.control.cleanup()

    def get_models(self) -> list[Any]:
        return super().get_models() + self.control.get_models()

    def inference_memory_requirements(self, dtype: torch.dtype) -> float:
        return super().inference_memory_requirements(dtype) + self.control.inference_memory_requirements(dtype)

    def around(self, control: ControlBase) -> "WrappedControl":
        """The same wrapper around another control."""
        raise NotImplementedError

    def copy(self) -> "WrappedControl":
        return self.around(chain(self.control, lambda link: link.copy()))

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> "WrappedControl":
        """A clone on another device, with the whole chain inside, since this control stands in for all of it."""
        clone = self.around(chain(self.control, lambda link: link.deepclone_multigpu(load_device)))
        if autoregister:
            self.multigpu_clones[load_device] = clone
        return clone

    def hand_on(self, x_noisy: Tensor, t: Tensor, cond: dict, per_scene: int, transformer_options: dict) -> Any:
        """What the control adds to latents, with `per_scene` of them in each scene.

        ComfyUI cycles a batch of hints over the batch of latents, and Advanced-ControlNet counts latent keyframes within it. So
        each scene is presented as a batch of its own, and the first hint or keyframe belongs to the first layer of every scene.
        If there are more hints than that, they are for all scenes, one scene after the other.
        """
        runs = transformer_options[RUNS_KEY]
        if max((hints(link) for link in links(self.control)), default=1) > per_scene:
            scenes = 1
        else:
            scenes = len(x_noisy) // per_scene // len(runs)
        options = {**transformer_options, "cond_or_uncond": [run for run in runs for _ in range(scenes)]}
        return self.control.get_control(x_noisy, t, cond, scenes * len(runs), options)


class PictureControl(WrappedControl):
    """Shows a control only the image channels of the latents. layers: the number of layers per scene."""

    def __init__(self, control: ControlBase, channels: int, layers: int):
        super().__init__(control)
        self.channels, self.layers = channels, layers

    def around(self, control: ControlBase) -> "PictureControl":
        return PictureControl(control, self.channels, self.layers)

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict) -> Any:
        options = {**transformer_options, RUNS_KEY: transformer_options["cond_or_uncond"]}
        return self.hand_on(x_noisy[:, : self.channels], t, cond, self.layers, options)


class LayerControl(WrappedControl):
    """Shows a control only some layers: it runs on their rows and adds nothing to the others, in every scene.

    layers: the number of layers per scene. chosen: the numbers of those that the control is for.
    """

    def __init__(self, control: ControlBase, layers: int, chosen: Iterable[int]):
        super().__init__(control)
        self.layers, self.chosen = layers, tuple(sorted(chosen))

    def around(self, control: ControlBase) -> "LayerControl":
        return LayerControl(control, self.layers, self.chosen)

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict) -> Any:
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        count = len(x_noisy)
        if RUNS_KEY not in transformer_options or count % self.layers:
            raise ValueError(f"A control for single layers of a scene of {self.layers} reached a MODEL without layers. Connect a "
                             "MODEL from Load Layered Model or Apply LayerDiff Adapter, or use ComfyUI's Apply ControlNet.")
        rows = torch.tensor([row for row in range(count) if row % self.layers in self.chosen], device=x_noisy.device)
        mine = {key: value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == count else value
                for key, value in cond.items()}
        found = self.hand_on(x_noisy[rows], t[rows], mine, len(self.chosen), transformer_options)
        return previous if found is None else self.control_merge(spread(found, rows, count), previous, None)


def spread(found: dict[str, list[Tensor | None]], rows: Tensor, count: int) -> dict[str, list[Tensor | None]]:
    """Expands what a control adds to some rows of a batch to the whole batch, with zeros in all other rows."""
    def to_all(part: Tensor | None) -> Tensor | None:
        if part is None:
            return None
        every = part.new_zeros(count, *part.shape[1:])
        # A T2I-Adapter with one hint returns one row for all. It also caches its result, even for a batch of another size.
        every[rows] = comfy.utils.repeat_to_batch_size(part, len(rows))
        return every

    return {place: [to_all(part) for part in parts] for place, parts in found.items()}


def links(control: ControlBase | None) -> Iterator[ControlBase]:
    """A control and everything chained to it, the last one applied first."""
    while control is not None:
        yield control
        control = control.previous_controlnet


def hints(control: ControlBase) -> int:
    """The number of hint images of a control; 1 for other kinds of hints, which some packs use."""
    return len(control.cond_hint_original) if isinstance(control.cond_hint_original, Tensor) else 1


def chain(control: ControlBase, remake: Any) -> ControlBase:
    """Applies `remake` to a control and to every control chained to it. Returns the new control."""
    previous = control.previous_controlnet
    made = remake(control)
    made.set_previous_controlnet(None if previous is None else chain(previous, remake))
    return made


def for_layers(controls: Sequence[ControlBase | None]) -> ControlBase | None:
    """Combines the controls of single layers into one. ValueError for a control that changes the model itself."""
    groups: dict[int, list[int]] = {}
    for layer, control in enumerate(controls):
        if control is not None:
            groups.setdefault(id(control), []).append(layer)
    if not groups or len(next(iter(groups.values()))) == len(controls):
        return controls[0] if groups else None
    made: ControlBase | None = None
    for chosen in groups.values():
        control = controls[chosen[0]]
        assert control is not None
        if control.get_extra_hooks():
            raise ValueError(f"The control of layer {chosen[0]} ({type(control).__name__}) changes the MODEL itself, which all "
                             "layers share, so it cannot act on a single layer. Apply it after Stack Layer Conditioning.")
        made = LayerControl(control, len(controls), chosen).set_previous_controlnet(made)
    return made


def as_stacked(control: ControlBase, stacked: Iterable[ControlBase], layers: int) -> ControlBase:
    """Restricts the control of a plain prompt to the layers that the same control has in a layered prompt.

    If Apply ControlNet (Advanced) gets the positive prompt of one layer and the negative prompt of all layers, it gives both
    the same hint. The control is recognised by that hint, and must act only on that layer in the negative prompt, too.
    """
    owners: dict[int, set[int]] = {}
    for whole in stacked:
        if isinstance(whole, LayerControl) and whole.control is control and whole.previous_controlnet is None:
            # The same object for both, so that ComfyUI samples both prompts in one batch.
            return whole
        for link in links(whole):
            if isinstance(link, LayerControl):
                for inner in links(link.control):
                    owners.setdefault(id(inner.cond_hint_original), set()).update(link.chosen)
    if not any(id(link.cond_hint_original) in owners for link in links(control) if link.cond_hint_original is not None):
        return control

    def to_its_layers(link: ControlBase) -> ControlBase:
        chosen = owners.get(id(link.cond_hint_original)) if link.cond_hint_original is not None else None
        return link.copy() if chosen is None else LayerControl(link.copy(), layers, chosen)

    return chain(control, to_its_layers)


def apply_to_layers(conditionings: Sequence[list[Any]], control_net: ControlBase, hint: Tensor, layers: int,
                    strengths: dict[int, float], start: float, end: float, vae: Any) -> list[list[Any]]:
    """Applies a control to some layers of conditionings. Returns new conditionings.

    hint: images [B, H, W, 3], one for all layers, one for each of these layers in their order, or a set of these for each scene.
    strengths: by layer, 0 for none. start, end: the part of sampling, from 0 (its start) to 1 (its end). vae: for controls that
    need one. ValueError for any other number of images.
    """
    if len(hint) > 1 and len(hint) % len(strengths):
        raise ValueError(f"There are {len(hint)} hint images for {len(strengths)} layers. Connect one image for all of them, or "
                         "one for each layer that is listed, in the same order.")
    # Layers with the same strength run together.
    alike: dict[float, list[int]] = {}
    for layer, strength in strengths.items():
        if strength > 0:
            alike.setdefault(strength, []).append(layer)
    made: dict[Any, ControlBase | None] = {}

    def after(previous: ControlBase | None) -> ControlBase | None:
        whole = previous
        for strength, chosen in alike.items():
            chosen = sorted(chosen)
            first = control_net.copy().set_cond_hint(hint_of(chosen), strength, (start, end), vae=vae)
            if len(chosen) == layers:
                whole = first.set_previous_controlnet(whole)
            elif first.get_extra_hooks():
                raise ValueError(f"The CONTROL_NET ({type(first).__name__}) changes the MODEL itself, which all layers share, so "
                                 "it cannot act on some of them alone. Use ComfyUI's Apply ControlNet.")
            else:
                whole = LayerControl(first, layers, chosen).set_previous_controlnet(whole)
        return whole

    def hint_of(chosen: list[int]) -> Tensor:
        order = list(strengths)
        places = [scene + order.index(layer) for scene in range(0, len(hint), len(order)) for layer in chosen]
        return (hint if len(hint) == 1 else hint[places]).movedim(-1, 1)

    def applied(conditioning: list[Any]) -> list[Any]:
        out = []
        for tokens, options in conditioning:
            previous = options.get("control")
            if previous not in made:
                made[previous] = after(previous)
            out.append([tokens, {**options, "control": made[previous], "control_apply_to_uncond": False}])
        return out

    return [applied(conditioning) if alike else conditioning for conditioning in conditionings]
