"""Lets the host's control models, made for one picture, work on layers."""

from typing import Any

from torch import Tensor


class PictureControl:
    """Stands in for a control of the host's while sampling and shows it the picture channels of the latents.

    Everything else is the control's own. Hint batches are cycled over the batch by the host, so a batch of K hints
    gives each of K layers its own.
    """

    def __init__(self, control: Any, channels: int):
        self.control, self.channels = control, channels

    def get_control(self, x_noisy: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.control.get_control(x_noisy[:, : self.channels], *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.control, name)
