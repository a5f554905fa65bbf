"""Self-Mask Guidance: guides sampling by the masks that the model predicts in each step.

LayerDiff (section 3, "Self-Mask Guidance") describes the idea but gives no formula. This one is ours, based on
Self-Attention Guidance (Hong et al. 2023), with the predicted masks instead of the attention map.
"""

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

KERNEL = 9


def coverage_of_latent(mask: Tensor, black: Tensor, white: Tensor) -> Tensor:
    """Coverage from a mask latent without decoding it: its position between the latents of black and white.

    mask: [N, C, h, w]. black, white: [C]. Returns [N, 1, h, w] in 0..1. Ours.
    """
    line = (white - black).to(mask)
    along = ((mask - black.to(mask)[:, None, None]) * line[:, None, None]).sum(1, keepdim=True)
    return (along / line.square().sum()).clamp(0, 1)


def guided_region(coverage: Tensor, layers: int) -> Tensor:
    """Where a layer is guided: a foreground inside its own mask, the background where foregrounds hide it.

    coverage: [scenes * layers, 1, h, w], layers innermost. Returns the same shape. Behind the foregrounds the model has to
    invent the background, and tends to leave traces of the objects there. A single layer is guided everywhere.
    """
    if layers == 1:
        return torch.ones_like(coverage)
    region = coverage.unflatten(0, (-1, layers)).clone()
    region[:, 0] = region[:, 1:].amax(1)
    return region.flatten(0, 1)


def degrade(x0: Tensor, region: Tensor, blur_sigma: float) -> Tensor:
    """The prediction with its images blurred inside the region and its masks unchanged. x0: [N, 2C, h, w]."""
    picture, mask = x0.chunk(2, dim=1)
    return torch.cat([blur_inside(picture, region, blur_sigma), mask], dim=1)


def blur_inside(x: Tensor, region: Tensor, blur_sigma: float) -> Tensor:
    """x [N, C, h, w], blurred where region [N, 1, h, w] is 1. blur_sigma: in latent pixels."""
    blurred = gaussian_blur2d(x, (KERNEL, KERNEL), (blur_sigma, blur_sigma), border_type="replicate")
    return torch.lerp(x, blurred, region)


def union_of_masks(x0: Tensor, factors: Tensor, bias: Tensor) -> Tensor:
    """The union of the foregrounds of a Text2Layer latent, without decoding it. x0: [N, C, h, w], normalised.

    factors: [C, F], bias: [F], the fitted linear map to the masks of F foregrounds, from the model's file. Returns [N, 1, h, w]
    in 0..1. Ours: a Text2Layer latent mixes all layers, so it has no separate mask channels.
    """
    masks = torch.einsum("nchw,cf->nfhw", x0, factors.to(x0)) + bias.to(x0)[:, None, None]
    return masks.amax(1, keepdim=True).clamp(0, 1)
