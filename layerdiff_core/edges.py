"""Edges of layers: coverage from a predicted mask image, and colours without a halo."""

import torch
import torch.nn.functional as F
from torch import Tensor

EDGE_RADIUS = 2
"""In pixels. If coverage falls off within this distance, it is treated as an edge, whose colours are mixed with the
background's. A slower fall-off is treated as a translucent layer, whose colours are its own."""

EDGE_START, EDGE_END = 0.94, 0.995
"""Coverage, as a share of the highest coverage nearby, from which a pixel's colour begins to be trusted, and is fully."""

TRUSTED = 1 / 8
"""Coverage from which straight colours that a model gave are kept as they are."""

EMPTY = 1 / 512
"""A layer that never reaches this coverage would be invisible in 8 bits, so it has no colours to extend."""


def soft_threshold(mask_rgb: Tensor, centre: float = 0.5, softness: float = 0.2) -> Tensor:
    """Turn a mask that was decoded as an RGB image into coverage.

    mask_rgb: [N,H,W,3], 0..1. centre: the grey value that becomes coverage 0.5. softness: the width of the step in grey
    values; 0 gives a hard mask. Returns [N,H,W], 0..1. Source: ours; LayerDiff does not say how a predicted RGB mask is
    converted. A smooth step keeps soft edges and removes the decoder's noise from black and white areas.
    """
    step = (mask_rgb.mean(dim=-1) - centre) / max(softness, 1e-6) + 0.5
    step = step.clamp(0, 1)
    return step * step * (3 - 2 * step)


def bleed_colours(image: Tensor, coverage: Tensor) -> Tensor:
    """Extend a layer's colours to its edge and beyond, so that it shows no halo over another layer.

    image: [N,3,H,W]. coverage: [N,1,H,W], 0..1. Returns [N,3,H,W]: unchanged where coverage is (nearly) the highest nearby,
    that is inside the layer and in translucent layers; elsewhere the colours of the nearest inside, smoother with distance.
    A layer without any coverage is returned unchanged. Source: ours; push-pull interpolation over an image pyramid, because
    it is cheap on any device and has no maximum radius.
    """
    # Half precision would round the smallest weights to 0.
    kind, image, coverage = image.dtype, image.float(), coverage.float()
    around = F.max_pool2d(coverage, 2 * EDGE_RADIUS + 1, stride=1, padding=EDGE_RADIUS)
    share = coverage / around.clamp_min(EMPTY)
    weight = ((share - EDGE_START) / (EDGE_END - EDGE_START)).clamp(0, 1) ** 8
    empty = coverage.amax(dim=(2, 3), keepdim=True) < EMPTY
    return push_pull(image, torch.where(empty, torch.ones_like(weight), weight)).to(kind)


def fill_colours(image: Tensor, coverage: Tensor) -> Tensor:
    """Fill in a layer's straight colours where they cannot be seen, for when it is scaled or turned.

    image: [N,3,H,W]. coverage: [N,1,H,W], 0..1. Returns [N,3,H,W]: unchanged from a coverage of 1/8 on; below it increasingly the
    colours of the nearest inside. A layer without any coverage is returned unchanged. Source: ours.
    """
    empty = coverage.amax(dim=(2, 3), keepdim=True) < EMPTY
    weight = (coverage / TRUSTED).clamp(0, 1)
    return push_pull(image, torch.where(empty, torch.ones_like(weight), weight))


def push_pull(image: Tensor, weight: Tensor) -> Tensor:
    """Fill in an image by push-pull interpolation. image: [N,3,H,W]. weight: [N,1,H,W], 0..1, how far each pixel is trusted.
    Both float32."""
    height, width = image.shape[-2:]
    if height == 1 and width == 1:
        return image
    pad = (0, width % 2, 0, height % 2)
    half_weight = F.avg_pool2d(F.pad(weight, pad), 2)
    half_image = F.avg_pool2d(F.pad(image * weight, pad), 2) / half_weight.clamp_min(1e-12)
    coarse = push_pull(half_image, (4 * half_weight).clamp_max(1))
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(coarse, image, weight)
