"""A pool of encoded layers from which training scenes are put together, so that the VAE does not run at every step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .render import Drawings, Renderer
from .vae import encode


class LatentPool:
    """Layered latents of every drawing and of the bank's places, each place also mirrored.

    Layers of a scene share only what the scene says (style, light, slots, sizes), so a scene can be put together from
    layers that were drawn and encoded apart.
    """

    def __init__(self, renderer: Renderer, drawings: Drawings, vae: nn.Module, mean: Tensor, std: Tensor):
        self.vae, self.shape = vae, drawings.shape
        self.mean, self.std = (t.to(renderer.device).view(1, -1, 1, 1) for t in (mean, std))
        places = renderer.bank.permute(0, 3, 1, 2)
        self.place_latents = torch.stack([self._encode(places), self._encode(places.flip(-1))])
        self.white = self._encode(torch.full_like(places[:1], 255))
        self.latents = torch.cat([self._encode(drawings.pictures), self._encode(drawings.coverages)], dim=1)
        side = self.latents.shape[-1]
        self.coverage = F.adaptive_avg_pool2d(drawings.coverages.float() / 255, side)

    def scenes(self, place: Tensor, foregrounds: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and coverage of scenes, layers innermost.

        place [B] numbers the bank's pictures; foregrounds [B, K - 1, 5] holds object, style, light, slot and size.
        Returns [B * K, 2C, h, w] normalised, and [B * K, 1, h, w] in 0..1, 1 everywhere for the background.
        """
        index = torch.randint(self.shape[0], foregrounds.shape[:2], device=foregrounds.device)
        for axis, size in enumerate(self.shape[1:]):
            index = index * size + foregrounds[..., axis]
        mirrored = torch.randint(2, place.shape, device=place.device)
        background = self.place_latents[mirrored, place]
        background = torch.cat([background, self.white.expand_as(background)], dim=1)[:, None]
        cover = torch.ones_like(background[:, :, :1])
        latents = torch.cat([background, self.latents[index]], dim=1).flatten(0, 1)
        return latents.float(), torch.cat([cover, self.coverage[index]], dim=1).flatten(0, 1)

    def _encode(self, pictures: Tensor) -> Tensor:
        """uint8 [N, 1 or 3, H, W] -> normalised latents [N, C, h, w], kept in bf16."""
        parts = [encode(self.vae, part.float().expand(-1, 3, -1, -1) / 255) for part in pictures.split(64)]
        return ((torch.cat(parts) - self.mean) / self.std).to(torch.bfloat16)
