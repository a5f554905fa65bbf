"""Random renderings of the starter world on the training device."""

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..whole import write_tensors
from .backgrounds import PLACES, render_background
from .objects import ObjectSet
from .render import draw_foregrounds
from .scenes import HOMES, LIGHTS, SIDES, SIZES, SLOTS


@dataclass
class Items:
    """Foregrounds to draw, as long tensors [N] of indices. If side is None, the light comes from the left."""

    object: Tensor
    style: Tensor
    light: Tensor
    slot: Tensor
    size: Tensor
    side: Tensor | None = None


@dataclass
class Drawings:
    """Foregrounds drawn once and kept: uint8 images [N, 3, H, W] and coverage [N, 1, H, W].

    shape: the layout of N: variants, objects, styles, lights, slots, sizes.
    """

    shape: tuple[int, ...]
    pictures: Tensor
    coverages: Tensor
    generator: torch.Generator

    def pick(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random foregrounds: pictures and coverage in 0..1, and their objects' numbers."""
        index = torch.randint(len(self.pictures), (count,), device=self.pictures.device, generator=self.generator)
        return (self.pictures[index].float() / 255, self.coverages[index].float() / 255,
                torch.unravel_index(index, self.shape)[1])


class Ring:
    """Like `Drawings`, but with random foregrounds that are redrawn one after another during training.

    Ours: at 256 pixels all objects in all states take gigabytes, and an autoencoder benefits from images it has not seen before.
    """

    def __init__(self, renderer: "Renderer", size: int):
        self.renderer, self.cursor = renderer, 0
        self.thing, self.pictures, self.coverages = (torch.cat(parts) for parts in zip(
            *(renderer.random_foregrounds(min(64, size - start)) for start in range(0, size, 64))))

    def renew(self, count: int) -> None:
        """Redraw the `count` oldest foregrounds."""
        index = torch.arange(self.cursor, self.cursor + count, device=self.thing.device) % len(self.thing)
        self.thing[index], self.pictures[index], self.coverages[index] = self.renderer.random_foregrounds(count)
        self.cursor += count

    def pick(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random foregrounds: pictures and coverage in 0..1, and their objects' numbers."""
        index = torch.randint(len(self.thing), (count,), device=self.thing.device, generator=self.renderer.generator)
        return self.pictures[index].float() / 255, self.coverages[index].float() / 255, self.thing[index]


class Renderer:
    """Object images and a bank of painted places on one device."""

    def __init__(self, objects: ObjectSet, bank: dict[str, Tensor], canvas: int, device: torch.device, seed: int = 0):
        self.objects, self.canvas, self.device = objects, canvas, device
        self.images = smaller(objects.images.to(device), canvas)
        self.homes = torch.tensor([HOMES.index(home) for home in objects.homes], device=device)
        self.bank = bank["pictures"].to(device)
        self.bank_place, self.bank_light = bank["place"].to(device), bank["light"].to(device)
        self.generator = torch.Generator(device).manual_seed(seed)

    def draw_all(self, variants: int) -> "Drawings":
        """Every object in every style, light, slot and size, `variants` times each."""
        shape = (variants, len(self.objects), self.images.shape[1], len(LIGHTS), len(SLOTS), len(SIZES))
        index = torch.arange(math.prod(shape), device=self.device)
        pictures, coverages = [], []
        for part in index.split(64):
            _, *fields = torch.unravel_index(part, shape)
            picture, coverage = self.foregrounds(Items(*fields))
            pictures.append((picture * 255).round().to(torch.uint8))
            coverages.append((coverage * 255).round().to(torch.uint8))
        return Drawings(shape, torch.cat(pictures), torch.cat(coverages), self.generator)

    def random_foregrounds(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """`count` random objects in random states: their numbers, images uint8 [N, 3, H, W], coverage uint8 [N, 1, H, W]."""
        sizes = (len(self.objects), self.images.shape[1], len(LIGHTS), len(SLOTS), len(SIZES), len(SIDES))
        fields = [torch.randint(size, (count,), device=self.device, generator=self.generator) for size in sizes]
        picture, coverage = self.foregrounds(Items(*fields))
        return fields[0], (picture * 255).round().to(torch.uint8), (coverage * 255).round().to(torch.uint8)

    @torch.no_grad()
    def foregrounds(self, items: Items) -> tuple[Tensor, Tensor]:
        """Images [N, 3, canvas, canvas], with colours extended outwards, and coverage [N, 1, canvas, canvas], both 0..1.

        Always computed in full precision, even within autocast, which would lose half of a colour's bits.
        """
        with torch.autocast(self.device.type, enabled=False):
            return draw_foregrounds(self.images, items.object, items.style, items.light, items.size, items.slot,
                                    self.homes[items.object], self.generator, self.canvas, items.side)

    def places(self, count: int) -> tuple[Tensor, Tensor]:
        """Random places, [count, 3, canvas, canvas] in 0..1, lit from either side, and their numbers."""
        index = torch.randint(len(self.bank), (count,), device=self.device, generator=self.generator)
        side = torch.randint(len(SIDES), (count,), device=self.device, generator=self.generator)
        return self.place_pictures(index, side), self.bank_place[index]

    def place_pictures(self, index: Tensor, side: Tensor) -> Tensor:
        """Places of the bank by number, mirrored if the light comes from the right."""
        picture = self.bank[index].permute(0, 3, 1, 2).float() / 255
        return torch.where(side.bool()[:, None, None, None], picture.flip(-1), picture)


def smaller(images: Tensor, side: int) -> Tensor:
    """Halve images uint8 [N, S, H, W, RGBA] until they are no larger than the canvas, weighted by alpha."""
    while images.shape[2] > side:
        alpha = images[..., 3:].float()
        both = torch.cat([images[..., :3] * alpha, alpha], dim=-1).unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
        images = torch.cat([both[..., :3] / both[..., 3:].clamp_min(1), both[..., 3:]], dim=-1).round().to(torch.uint8)
    return images


def place_bank(path: Path, variants: int, canvas: int, seed: int = 0, workers: int | None = None) -> dict[str, Tensor]:
    """Paint `variants` images of each place in each of its lights, or load them from the file `path`, which caches them.

    workers: number of processes, default one per core. Returns pictures uint8 [N, canvas, canvas, 3], and place and light, long
    [N], indices into PLACES and LIGHTS.
    """
    if not path.exists():
        jobs = [(place, light, [seed, p, LIGHTS.index(light), v], canvas)
                for p, place in enumerate(PLACES) for light in PLACES[place].lights for v in range(variants)]
        with ProcessPoolExecutor(workers) as pool:
            pictures = list(pool.map(_paint, jobs, chunksize=32))
        names = list(PLACES)
        bank = {"pictures": torch.from_numpy(np.stack(pictures)),
                "place": torch.tensor([names.index(job[0]) for job in jobs]),
                "light": torch.tensor([LIGHTS.index(job[1]) for job in jobs])}
        write_tensors(path, bank, {})
    return load_file(path)


def _paint(job: tuple[str, str, list[int], int]) -> np.ndarray:
    place, light, seed, canvas = job
    return render_background(place, light, np.random.default_rng(seed), canvas)
