"""Makes ComfyUI's ControlNets, which expect plain image latents, work on layered latents."""

from typing import Any

import torch
from comfy.controlnet import ControlBase
from torch import Tensor


class PictureControl(ControlBase):
    """Wraps a control, and all controls chained to it, so that they see only the image channels of the latents.

    ComfyUI repeats a batch of hints over the latents, so with K hints each of K layers gets its own. Strength, step range
    and hints remain those of the wrapped control, and ComfyUI's calls are passed on to it.
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
        """Clones the whole chain for another device, since this control stands in for all of it."""
        clone = PictureControl(chain(self.control, lambda link: link.deepclone_multigpu(load_device)), self.channels)
        if autoregister:
            self.multigpu_clones[load_device] = clone
        return clone


def chain(control: ControlBase, remake: Any) -> ControlBase:
    """Applies `remake` to a control and to every control chained to it. Returns the new control."""
    previous = control.previous_controlnet
    made = remake(control)
    made.set_previous_controlnet(None if previous is None else chain(previous, remake))
    return made
