"""Trains the starter's autoencoder on images, masks and composites of rendered scenes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..world.render import compose
from ..world.renderer import Drawings, Renderer, Ring
from . import losses
from .pyramid import laplacian

KL_WEIGHT = 2e-4
PERCEPTUAL_WEIGHT = 0.5
OUTSIDE, INSIDE = 0.25, 2.0
DECODER_NOISE = 0.25
CELL = 16


@dataclass
class Pictures:
    """Images for an autoencoder to reconstruct: pixels [N, 3, H, W] in 0..1, and the weight of each, [N, 1, H, W]."""

    pixels: Tensor
    weight: Tensor


def pictures(renderer: Renderer, drawings: Drawings | Ring, count: int) -> Iterator[Pictures]:
    """Endless batches of `count` images: layers with colours extended outwards, their masks, composites and places.

    The inside of objects has eight times the weight of their surroundings, because that is where the faces are (ours). Masks
    and places have weight 1 everywhere.
    """
    quarter = count // 4
    while True:
        picture, coverage, _ = drawings.pick(2 * quarter)
        place, _ = renderer.places(count - 3 * quarter)
        composed = compose(place[:quarter], [picture[quarter:]], [coverage[quarter:]])
        half = quarter // 2
        within = OUTSIDE + (INSIDE - OUTSIDE) * coverage
        even = torch.ones_like(within)
        yield Pictures(
            torch.cat([picture, coverage[:quarter].expand(-1, 3, -1, -1), composed[:half], place[half:]]),
            torch.cat([within, even[:quarter], within[quarter:quarter + half], even[: len(place) - half]]))


def crop(batch: Pictures, side: int, generator: torch.Generator) -> Pictures:
    """Crop a square from each image, `side` pixels wide, centred where the weights are high.

    Ours: an object covers a tenth of a canvas, and the rest costs as much time. Crops show three times as many faces in the same
    time. The last part of training uses whole canvases.
    """
    height, width = batch.pixels.shape[-2:]
    cells = F.avg_pool2d(batch.weight, CELL).flatten(1)
    cell = torch.multinomial(cells, 1, generator=generator)[:, 0]
    middle = torch.stack([cell // (width // CELL), cell % (width // CELL)], 1) * CELL
    middle = middle + torch.randint(CELL, middle.shape, device=middle.device, generator=generator)
    limit = torch.tensor([height - side, width - side], device=middle.device)
    corner = torch.minimum((middle - side // 2).clamp_min(0), limit).tolist()
    pixels, weight = (torch.stack([each[:, y : y + side, x : x + side] for each, (y, x) in zip(part, corner)])
                      for part in (batch.pixels, batch.weight))
    return Pictures(pixels, weight)


@dataclass
class Step:
    """The results of one step: the loss, its metrics, and the images, 0..1, for the discriminator."""

    loss: Tensor
    figures: dict[str, Tensor]
    real: Tensor
    fake: Tensor


class AutoencoderObjective:
    """L1, L1 of a Laplacian pyramid, a perceptual term on random features and a light KL term; later also an adversarial term.

    vae: ComfyUI's AutoencoderKL over patches. Ours: the SD autoencoder's loss with weights per pixel, and with a perceptual
    term on fixed random features, because LPIPS would have to be downloaded. latent_std: [1, C, 1, 1], to train only the
    decoder: latents get noise of up to DECODER_NOISE times their standard deviation, like that left by a diffusion model.
    """

    def __init__(self, vae: Any, discriminator: nn.Module, features: nn.Module, latent_std: Tensor | None = None):
        self.vae, self.discriminator, self.features, self.latent_std = vae, discriminator, features, latent_std

    def generator(self, batch: Pictures, adversarial: bool) -> Step:
        """The autoencoder's loss for a batch."""
        wanted, weight = batch.pixels * 2 - 1, batch.weight / batch.weight.mean()
        mean, logvar = self.vae.moments(wanted).float().chunk(2, dim=1)
        logvar = logvar.clamp(-20, 10)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        if self.latent_std is not None:
            share = DECODER_NOISE * torch.rand(len(z), 1, 1, 1, device=z.device)
            z = z + share * self.latent_std * torch.randn_like(z)
        out = self.vae.decode(z).float()
        l1 = ((out - wanted).abs() * weight).mean()
        edges = torch.zeros_like(l1)
        for level, (a, b) in enumerate(zip(laplacian(out), laplacian(wanted))):
            edges = edges + 2**level * ((a - b).abs() * F.avg_pool2d(weight, 2**level)).mean()
        fake = out / 2 + 0.5
        perceptual = losses.perceptual_loss(self.features, fake, batch.pixels)
        reconstruction = l1 + edges + PERCEPTUAL_WEIGHT * perceptual
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = reconstruction + KL_WEIGHT * kl
        if adversarial:
            self.discriminator.requires_grad_(False)
            term = losses.adversarial_loss(self.discriminator(fake))
            loss = loss + losses.adaptive_weight(reconstruction, term, [self.vae.refine.last.weight]) * term
        error = (fake.clamp(0, 1) - batch.pixels).square()
        figures = {"l1": l1, "edges": edges, "perceptual": perceptual, "kl": kl, "psnr": -10 * error.mean().log10(),
                   "psnr_weighted": -10 * (error * weight).mean().log10()}
        return Step(loss, {name: value.detach() for name, value in figures.items()}, batch.pixels, fake.detach())

    def critic(self, step: Step) -> Tensor:
        """The discriminator's loss on the same images."""
        self.discriminator.requires_grad_(True)
        return losses.discriminator_loss(self.discriminator(step.real), self.discriminator(step.fake))


@torch.no_grad()
def latent_statistics(vae: Any, batches: Iterator[Pictures], count: int = 16) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over `count` batches, for the latent format."""
    z = torch.cat([encode(vae, next(batches).pixels).cpu() for _ in range(count)])
    return z.mean((0, 2, 3)).tolist(), z.std((0, 2, 3)).tolist()


@torch.no_grad()
def preview_factors(vae: Any, pixels: Tensor, mean: Tensor, std: Tensor) -> tuple[list[list[float]], list[float]]:
    """Fit the linear map from normalised latents to colours in -1..1, for ComfyUI's live preview.

    pixels: [N, 3, H, W] in 0..1. mean, std: [C]. Returns factors [C][3] and bias [3].
    """
    z = (encode(vae, pixels) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    inputs = torch.cat([z.movedim(1, -1).flatten(0, 2), torch.ones(z[:, 0].numel(), 1)], dim=1)
    colours = (F.adaptive_avg_pool2d(pixels, z.shape[-1]) * 2 - 1).movedim(1, -1).flatten(0, 2)
    solution = torch.linalg.lstsq(inputs, colours).solution
    return solution[:-1].tolist(), solution[-1].tolist()


@torch.no_grad()
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """Encode like ComfyUI's VAE: [N, 3, H, W] in 0..1 -> [N, C, h, w], not normalised."""
    return vae.encode(pixels * 2 - 1).float()
