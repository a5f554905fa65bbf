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
    return torch.cat([blur_inside(picture, region, blur_sigma), mask], dim=1)


def blur_inside(x: Tensor, region: Tensor, blur_sigma: float) -> Tensor:
    """x [N, C, h, w] blurred where region [N, 1, h, w] is 1; blur_sigma in latent pixels."""
    blurred = gaussian_blur2d(x, (KERNEL, KERNEL), (blur_sigma, blur_sigma), border_type="replicate")
    return torch.lerp(x, blurred, region)


def union_of_masks(x0: Tensor, factors: Tensor, bias: Tensor) -> Tensor:
    """Where any foreground of a Text2Layer latent is, without decoding it. x0 [N, C, h, w], normalised.

    factors [C, F] and bias [F]: the linear maps to the masks of F foregrounds that fit best, from the model's file.
    Returns [N, 1, h, w] in 0..1. Ours: that family's latents hold all layers mixed, so no channels are the mask's.
    """
    masks = torch.einsum("nchw,cf->nfhw", x0, factors.to(x0)) + bias.to(x0)[:, None, None]
    return masks.amax(1, keepdim=True).clamp(0, 1)
