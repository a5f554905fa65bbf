"""How well an image autoencoder reconstructs held-out renders: PSNR, and sharpness, which PSNR hardly measures."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..evaluator import overlap
from ..world.renderer import Renderer
from .judge import mean
from .renders import SEED, scene_layers
from .requests import held_out_requests

LAYERS = 2
BATCH = 8
SOLID = 0.5


@torch.no_grad()
def reconstruction_figures(through: Callable[[Tensor], Tensor], renderer: Renderer, count: int = 120) -> dict[str, float]:
    """Measure the reconstruction of `count` scenes with one object each.

    through: encodes and decodes images [N, 3, H, W] in 0..1. psnr_inside: of the object's image, inside its mask.
    psnr_composites, psnr_places: of whole images. gradient_energy: the squared differences of neighbouring pixels inside the
    mask, relative to the original's; a blurred face loses them at hardly any cost in PSNR (ours). mask_iou: of masks, with a
    threshold of 0.5.
    """
    asked = held_out_requests(renderer.objects, LAYERS, count, SEED)
    sums: dict[str, list[float]] = {name: [] for name in ("inside", "composites", "places", "energy", "true_energy", "iou")}
    for start in range(0, count, BATCH):
        layers = scene_layers(renderer, [request.scene for request in asked[start:start + BATCH]])
        picture, mask = layers.foregrounds[:, 0], layers.masks[:, 0]
        composite = layers.composite()
        drawn = through(torch.cat([picture, composite, layers.background, mask.expand(-1, 3, -1, -1)])).float().clamp(0, 1)
        picture_drawn, composite_drawn, place_drawn, mask_drawn = drawn.chunk(4)
        solid = (mask > SOLID).float()
        sums["inside"] += psnr(picture_drawn, picture, solid)
        sums["composites"] += psnr(composite_drawn, composite)
        sums["places"] += psnr(place_drawn, layers.background)
        sums["energy"] += energy(picture_drawn, solid)
        sums["true_energy"] += energy(picture, solid)
        sums["iou"] += overlap(mask_drawn.mean(1, keepdim=True), mask).tolist()
    return {"psnr_inside": mean(sums["inside"]), "psnr_composites": mean(sums["composites"]),
            "psnr_places": mean(sums["places"]), "gradient_energy": round(sum(sums["energy"]) / sum(sums["true_energy"]), 4),
            "mask_iou": mean(sums["iou"])}


def psnr(drawn: Tensor, wanted: Tensor, where: Tensor | None = None) -> list[float]:
    """The PSNR of each image [N, 3, H, W] in decibels, where a mask [N, 1, H, W] is 1."""
    error = (drawn - wanted).square()
    if where is None:
        return (-10 * error.mean((1, 2, 3)).clamp_min(1e-12).log10()).tolist()
    inside = (error * where).sum((1, 2, 3)) / (where.sum((1, 2, 3)) * error.shape[1]).clamp_min(1)
    return (-10 * inside.clamp_min(1e-12).log10()).tolist()


def energy(picture: Tensor, where: Tensor) -> list[float]:
    """For each image, the sum of squared differences of neighbouring pixels that are both inside the mask."""
    across = (picture.diff(dim=3).square() * where[..., 1:] * where[..., :-1]).sum((1, 2, 3))
    down = (picture.diff(dim=2).square() * where[..., 1:, :] * where[..., :-1, :]).sum((1, 2, 3))
    return (across + down).tolist()
