"""Self-Mask Guidance: the masks that the model predicts while it denoises steer the denoising.

LayerDiff (section 3, "Self-Mask Guidance") names the strategy and publishes no formula. This one is ours, after
Self-Attention Guidance (Hong et al. 2023), with the predicted masks in the place of the attention map.
"""

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

KERNEL = 9


def coverage_of_latent(mask: Tensor, black: Tensor, white: Tensor) -> Tensor:
    """Coverage from a mask latent, without decoding it: its place on the line from the latent of black to white.

    mask [N, C, h, w]; black and white [C]. Returns [N, 1, h, w] in 0..1. Ours.
    """
    line = (white - black).to(mask)
    along = ((mask - black.to(mask)[:, None, None]) * line[:, None, None]).sum(1, keepdim=True)
    return (along / line.square().sum()).clamp(0, 1)


def guided_region(coverage: Tensor, layers: int) -> Tensor:
    """Where a layer is steered: a foreground inside its own mask, the background where foregrounds hide it.

    coverage [scenes * layers, 1, h, w], layers innermost. Returns the same shape. The background has to be completed
    there unseen, which is where models leave traces of the objects. A single layer is steered everywhere.
    """
    if layers == 1:
        return torch.ones_like(coverage)
    region = coverage.unflatten(0, (-1, layers)).clone()
    region[:, 0] = region[:, 1:].amax(1)
    return region.flatten(0, 1)


def degrade(x0: Tensor, region: Tensor, blur_sigma: float) -> Tensor:
    """The prediction with its pictures blurred inside the region; masks as they are. x0 [N, 2C, h, w]."""
    picture, mask = x0.chunk(2, dim=1)
    blurred = gaussian_blur2d(picture, (KERNEL, KERNEL), (blur_sigma, blur_sigma), border_type="replicate")
    return torch.cat([torch.lerp(picture, blurred, region), mask], dim=1)
