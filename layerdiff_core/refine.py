"""The last convolutions of the starter's decoder: from squares of pixels to pixels, without a weave."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class PixelHead(nn.Module):
    """Convolutions that overlap the squares which a decoder over patches draws apart from each other.

    Ours: a decoder whose last layer gives whole squares leaves their borders to chance, which shows as a weave. Here that
    layer gives `features` for squares of 2 x 2 pixels, and what becomes a pixel has seen its neighbours' squares. So few
    and narrow convolutions at half the size cost little. `operations` is torch.nn or ComfyUI's drop-in for it.
    """

    def __init__(self, features: int, width: int, operations: Any = nn):
        super().__init__()
        self.first = operations.Conv2d(features, width, 3, padding=1)
        self.second = operations.Conv2d(width, width, 3, padding=1)
        self.last = operations.Conv2d(width, 3 * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, features, H / 2, W / 2] -> pictures [N, 3, H, W], in about -1..1."""
        h = self.first(F.silu(x))
        h = h + self.second(F.silu(h))
        return F.pixel_shuffle(self.last(F.silu(h)), 2)
