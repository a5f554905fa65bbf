"""Edges of layers: from a predicted mask picture to coverage, and colours without a halo."""

import torch
import torch.nn.functional as F
from torch import Tensor

EDGE_RADIUS = 2
"""Pixels. Coverage that falls off within this distance is taken for an edge, whose own colours are mixed with the
background's; a slower fall-off is taken for a translucent layer, whose colours are its own."""

EDGE_START, EDGE_END = 0.94, 0.995
"""Coverage, as a share of the highest coverage near by, from which and at which a pixel's own colour is trusted."""

EMPTY = 1 / 512
"""A layer that nowhere reaches this coverage would be invisible in 8 bits: it has no colours to carry."""


def soft_threshold(mask_rgb: Tensor, centre: float = 0.5, softness: float = 0.2) -> Tensor:
    """Turn a mask that was decoded as an RGB picture into coverage.

    mask_rgb: [N,H,W,3], 0..1. centre: the grey that becomes coverage 0.5. softness: width of the step in grey levels,
    0 gives a hard mask. Returns [N,H,W], 0..1. Source: ours; LayerDiff does not say how a predicted RGB mask becomes
    a mask, and a smooth step keeps soft edges while it removes the decoder's noise in black and white.
    """
    step = (mask_rgb.mean(dim=-1) - centre) / max(softness, 1e-6) + 0.5
    step = step.clamp(0, 1)
    return step * step * (3 - 2 * step)


def bleed_colours(image: Tensor, coverage: Tensor) -> Tensor:
    """Carry a layer's colours outwards under and beyond its edge, so that no halo shows when it is laid on another.

    image: [N,3,H,W]. coverage: [N,1,H,W], 0..1. Returns [N,3,H,W]: unchanged where coverage is (nearly) the highest
    near by, so inside the layer and in translucent layers; elsewhere the colours of the nearest inside, ever smoother
    with distance. A layer without any coverage comes back unchanged. Source: ours; push-pull interpolation over an
    image pyramid, since it is cheap on any device and has no radius beyond which colours end.
    """
    # In half precision the smallest weights would be 0.
    kind, image, coverage = image.dtype, image.float(), coverage.float()
    around = F.max_pool2d(coverage, 2 * EDGE_RADIUS + 1, stride=1, padding=EDGE_RADIUS)
    share = coverage / around.clamp_min(EMPTY)
    weight = ((share - EDGE_START) / (EDGE_END - EDGE_START)).clamp(0, 1) ** 8
    empty = coverage.amax(dim=(2, 3), keepdim=True) < EMPTY
    return push_pull(image, torch.where(empty, torch.ones_like(weight), weight)).to(kind)


def push_pull(image: Tensor, weight: Tensor) -> Tensor:
    """Fill a picture from where it is trusted: [N,3,H,W] by weight [N,1,H,W], 0..1, float32, by push-pull interpolation."""
    height, width = image.shape[-2:]
    if height == 1 and width == 1:
        return image
    pad = (0, width % 2, 0, height % 2)
    half_weight = F.avg_pool2d(F.pad(weight, pad), 2)
    half_image = F.avg_pool2d(F.pad(image * weight, pad), 2) / half_weight.clamp_min(1e-12)
    coarse = push_pull(half_image, (4 * half_weight).clamp_max(1))
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(coarse, image, weight)
