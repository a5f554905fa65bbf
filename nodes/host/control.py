"""Lets ComfyUI's control models, made for one picture, work on layers."""

from typing import Any

import torch
from comfy.controlnet import ControlBase
from torch import Tensor


class PictureControl(ControlBase):
    """A control that shows another one, with all that is chained to it, the picture channels of the latents alone.

    Hint batches are cycled over the batch by ComfyUI, so a batch of K hints gives each of K layers its own. Strength,
    range of steps and hints stay the control's own; what ComfyUI asks of a control is handed on to it.
    """

    def __init__(self, control: ControlBase, channels: int):
        super().__init__()
        self.control, self.channels = control, channels

    def get_control(self, x_noisy: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.control.get_control(x_noisy[:, : self.channels], *args, **kwargs)

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        self.control.pre_run(model, percent_to_timestep_function)

    def cleanup(self) -> None:
        super().cleanup()
        self.control.cleanup()

    def get_models(self) -> list[Any]:
        return super().get_models() + self.control.get_models()

    def get_extra_hooks(self) -> list[Any]:
        return self.control.get_extra_hooks()

    def inference_memory_requirements(self, dtype: torch.dtype) -> float:
        return self.control.inference_memory_requirements(dtype)

    def copy(self) -> "PictureControl":
        return PictureControl(chain(self.control, lambda link: link.copy()), self.channels)

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> "PictureControl":
        """The same on another device: of the whole chain, since this control stands in for all of it."""
        clone = PictureControl(chain(self.control, lambda link: link.deepclone_multigpu(load_device)), self.channels)
        if autoregister:
            self.multigpu_clones[load_device] = clone
        return clone


def chain(control: ControlBase, remake: Any) -> ControlBase:
    """A control made anew by `remake`, and likewise every one that it was chained to."""
    previous = control.previous_controlnet
    made = remake(control)
    made.set_previous_controlnet(None if previous is None else chain(previous, remake))
    return made
