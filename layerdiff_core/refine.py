"""The last convolutions of the starter's decoder, which turn patches into pixels without a grid pattern."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class PixelHead(nn.Module):
    """Overlapping convolutions across the patches that the decoder predicts independently of each other.

    Ours: if the last layer outputs whole patches, their borders do not match, which shows as a grid pattern. Here that layer
    outputs `features` for patches of 2 x 2 pixels, and each pixel is computed from neighbouring patches as well. Few and
    narrow convolutions at half the size cost little. operations: torch.nn or ComfyUI's replacement for it.
    """

    def __init__(self, features: int, width: int, operations: Any = nn):
        super().__init__()
        self.first = operations.Conv2d(features, width, 3, padding=1)
        self.second = operations.Conv2d(width, width, 3, padding=1)
        self.last = operations.Conv2d(width, 3 * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, features, H / 2, W / 2] -> images [N, 3, H, W], in about -1..1."""
        h = self.first(F.silu(x))
        h = h + self.second(F.silu(h))
        return F.pixel_shuffle(self.last(F.silu(h)), 2)
