"""The Laplacian pyramid, with which several losses compare edges without a network that would have to be downloaded."""

import torch.nn.functional as F
from torch import Tensor

LEVELS = 3


def laplacian(image: Tensor) -> list[Tensor]:
    """The first three levels of a Laplacian pyramid of [N, C, H, W], finest first."""
    levels = []
    for _ in range(LEVELS):
        small = F.avg_pool2d(image, 2)
        levels.append(image - F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False))
        image = small
    return levels
