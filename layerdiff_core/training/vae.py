"""Trains the starter's autoencoder on pictures, masks and composites of rendered scenes."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.render import compose
from .render import Drawings, Renderer

KL_WEIGHT = 2e-4
PYRAMID_LEVELS = 3


def pictures(renderer: Renderer, drawings: Drawings, count: int) -> Iterator[Tensor]:
    """Endless batches [count, 3, H, W] in 0..1: layers with colours bled outwards, their masks, composites, places."""
    quarter = count // 4
    while True:
        picture, coverage, _ = drawings.pick(2 * quarter)
        place, _ = renderer.places(count - 3 * quarter)
        composed = compose(place[:quarter], [picture[quarter:]], [coverage[quarter:]])
        yield torch.cat([picture, coverage[:quarter].expand(-1, 3, -1, -1), composed[: quarter // 2],
                         place[quarter // 2 :]])


def autoencoder_loss(vae: Any, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """L1, L1 of a Laplacian pyramid (crisp edges without a network to be fetched), a light KL term.

    `vae` is the host's AutoencoderKL over patches; pixels [N, 3, H, W] in 0..1. Ours: the SD autoencoder's loss with its
    perceptual term replaced and without the adversarial one, which the smooth starter world did not need.
    """
    x = pixels * 2 - 1
    mean, logvar = vae.moments(x).float().chunk(2, dim=1)
    logvar = logvar.clamp(-20, 10)
    z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
    out, wanted = vae.decode(z).float(), x
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    l1 = (out - wanted).abs().mean()
    edges = sum(2**level * (a - b).abs().mean() for level, (a, b) in enumerate(zip(laplacian(out), laplacian(wanted))))
    psnr = -10 * ((out.clamp(-1, 1) - wanted) / 2).square().mean().log10()
    return l1 + edges + KL_WEIGHT * kl, {"l1": l1.detach(), "kl": kl.detach(), "psnr": psnr.detach()}


def laplacian(image: Tensor) -> list[Tensor]:
    """The first levels of a Laplacian pyramid of [N, 3, H, W], the finest first."""
    levels = []
    for _ in range(PYRAMID_LEVELS):
        small = F.avg_pool2d(image, 2)
        levels.append(image - F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False))
        image = small
    return levels


@torch.no_grad()
def latent_statistics(vae: Any, batches: Iterator[Tensor], count: int = 16) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over `count` batches, for the latent format."""
    z = torch.cat([encode(vae, next(batches)).cpu() for _ in range(count)])
    return z.mean((0, 2, 3)).tolist(), z.std((0, 2, 3)).tolist()


@torch.no_grad()
def preview_factors(vae: Any, pixels: Tensor, mean: Tensor, std: Tensor) -> tuple[list[list[float]], list[float]]:
    """The linear map from normalised latents to colours in -1..1 that fits best, for the host's live preview.

    pixels [N, 3, H, W] in 0..1; mean and std [C]. Returns factors [C][3] and bias [3].
    """
    z = (encode(vae, pixels) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    inputs = torch.cat([z.movedim(1, -1).flatten(0, 2), torch.ones(z[:, 0].numel(), 1)], dim=1)
    colours = (F.adaptive_avg_pool2d(pixels, z.shape[-1]) * 2 - 1).movedim(1, -1).flatten(0, 2)
    solution = torch.linalg.lstsq(inputs, colours).solution
    return solution[:-1].tolist(), solution[-1].tolist()


@torch.no_grad()
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """The latent that the host's VAE would give: [N, 3, H, W] in 0..1 -> [N, C, h, w], not normalised."""
    return vae.encode(pixels * 2 - 1).float()
