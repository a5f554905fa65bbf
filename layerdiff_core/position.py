"""Position features, which tell a convolutional UNet where in the image it is."""

import math

import torch
from torch import Tensor

POSITION_DIM = 12


def position_features(height: int, width: int, device: torch.device | str = "cpu",
                      dtype: torch.dtype = torch.float32) -> Tensor:
    """Sine and cosine with one and two periods over the image, the coordinate and its square, for x and for y.

    Returns [1, 12, height, width], in -1..1: six features of x (from left to right), then six of y. Ours: a convolutional UNet
    knows its position only from zero padding, and SD 1.5 is known to ignore "on the left". With these features it is learnt
    in minutes.
    """
    along = [_along(count, device) for count in (width, height)]
    x = along[0][:, None, :].expand(-1, height, -1)
    y = along[1][:, :, None].expand(-1, -1, width)
    return torch.cat([x, y])[None].to(dtype)


def _along(count: int, device: torch.device | str) -> Tensor:
    t = (torch.arange(count, device=device) + 0.5) / count * 2 - 1
    turn = math.pi * t
    return torch.stack([turn.sin(), turn.cos(), (2 * turn).sin(), (2 * turn).cos(), t, t.square()])
