"""A pool of encoded layers from which training scenes are assembled, so that the VAE does not have to run in every step."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..whole import write_tensors
from ..world.boxes import box_of
from ..world.renderer import Items, Renderer
from ..world.scenes import LIGHTS, SIZES, SLOTS
from .vae import encode

PART = 32


class LatentPool:
    """Layered latents of every object in every state and of the bank's places, lit from the left, and mirrored.

    Layers of a scene share only properties of the scene (style, light and its side, slots, sizes), so a scene can be assembled
    from layers that were drawn and encoded separately. Tensors, with normalised latents in bf16: `things` [2, N, 2C, h, w] and
    `coverage` [2, N, 1, h, w], where N is laid out as `shape` (variants, objects, styles, lights, slots, sizes); `boxes`
    [2, N, 4], left, top, right and bottom of each object, 0..1; `places` [2, pictures, C, h, w]; `white` [1, C, h, w]. The
    first axis is the side that the light comes from.
    """

    def __init__(self, tensors: dict[str, Tensor], shape: tuple[int, ...]):
        self.tensors, self.shape = tensors, shape

    @classmethod
    def build(cls, renderer: Renderer, variants: int, vae: nn.Module, mean: Tensor, std: Tensor) -> LatentPool:
        """Draw and encode everything, `variants` times each, a few images at a time to save memory."""
        mean, std = (t.to(renderer.device).view(1, -1, 1, 1) for t in (mean, std))

        def encoded(pictures: Tensor) -> Tensor:
            both = torch.stack([pictures, pictures.flip(-1)]).expand(-1, -1, 3, -1, -1)
            latents = (encode(vae, both.flatten(0, 1)) - mean) / std
            return latents.unflatten(0, both.shape[:2]).to(torch.bfloat16)

        shape = (variants, len(renderer.objects), renderer.images.shape[1], len(LIGHTS), len(SLOTS), len(SIZES))
        things, coverages, boxes = [], [], []
        for part in torch.arange(math.prod(shape), device=renderer.device).split(PART):
            _, *fields = torch.unravel_index(part, shape)
            picture, coverage = renderer.foregrounds(Items(*fields))
            latents = torch.cat([encoded(picture), encoded(coverage)], dim=2)
            small = F.adaptive_avg_pool2d(coverage, latents.shape[-1])
            things.append(latents)
            boxes.append(torch.stack([box_of(coverage), box_of(coverage.flip(-1))]))
            coverages.append(torch.stack([small, small.flip(-1)]).to(torch.bfloat16))
        places = [encoded(part.permute(0, 3, 1, 2).float() / 255) for part in renderer.bank.split(PART)]
        white = encoded(torch.ones(1, 3, renderer.canvas, renderer.canvas, device=renderer.device))[0]
        tensors = {"things": torch.cat(things, 1), "coverage": torch.cat(coverages, 1), "boxes": torch.cat(boxes, 1),
                   "places": torch.cat(places, 1), "white": white}
        return cls(tensors, shape)

    @classmethod
    def load(cls, path: Path, key: str, device: torch.device) -> LatentPool | None:
        """The pool saved under this key; None if there is none."""
        if not path.exists():
            return None
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
        if facts["key"] != key:
            return None
        shape = tuple(int(size) for size in facts["shape"].split())
        return cls({name: tensor.to(device) for name, tensor in load_file(path).items()}, shape)

    def save(self, path: Path, key: str) -> None:
        """Save the pool to a file. key: identifies the autoencoder and the world it was made with."""
        write_tensors(path, self.tensors, {"key": key, "shape": " ".join(map(str, self.shape))})

    def scenes(self, place: Tensor, side: Tensor, foregrounds: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and coverage of scenes, layers innermost.

        place: [B], indices into the bank's images. side: [B], where the light comes from. foregrounds: [B, K - 1, 5], object,
        style, light, slot and size. Returns normalised latents [B * K, 2C, h, w], and coverage [B * K, 1, h, w] in 0..1, which
        is 1 everywhere for the background.
        """
        return self.boxed_scenes(place, side, foregrounds)[:2]

    def boxed_scenes(self, place: Tensor, side: Tensor, foregrounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and the box of each layer [B * K, 4]. The box of the background is the whole canvas."""
        *fields, slot, size = foregrounds.unbind(-1)
        lit = side[:, None].expand_as(slot)
        slot = torch.where(lit == 1, len(SLOTS) - 1 - slot, slot)  # mirrored layers were drawn on the other side
        index = torch.randint(self.shape[0], slot.shape, device=slot.device)
        for axis, field in zip(self.shape[1:], (*fields, slot, size)):
            index = index * axis + field
        background = self.tensors["places"][side, place]
        background = torch.cat([background, self.tensors["white"].expand_as(background)], dim=1)[:, None]
        cover = torch.ones_like(background[:, :, :1])
        latents = torch.cat([background, self.tensors["things"][lit, index]], dim=1).flatten(0, 1)
        whole = torch.tensor([0.0, 0.0, 1.0, 1.0], device=place.device).expand(len(place), 1, 4)
        boxes = torch.cat([whole, self.tensors["boxes"][lit, index]], dim=1).flatten(0, 1)
        return latents.float(), torch.cat([cover, self.tensors["coverage"][lit, index]], dim=1).flatten(0, 1), boxes
