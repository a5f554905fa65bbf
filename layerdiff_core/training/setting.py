"""What all stages of a training share: the world's images and words, on one device."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..world.objects import ObjectSet
from ..world.renderer import Renderer
from .layerdiff import LAYER_SHARES, Batch, Scenes
from .run import has_bfloat16
from .text import Vocabulary

WORKERS = 8


@dataclass
class Setting:
    """Objects, painted places (as from place_bank), words, the canvas' side in pixels, and the device."""

    objects: ObjectSet
    bank: dict[str, Tensor]
    vocabulary: Vocabulary
    canvas: int
    device: torch.device

    def renderer(self, seed: int) -> Renderer:
        return Renderer(self.objects, self.bank, self.canvas, self.device, seed)

    def placed(self, network: Any) -> Any:
        """The network on the device, with the memory layout that Run needs."""
        return network.to(self.device, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Autocast to bfloat16 if the device supports it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device))

    def scenes(self, layers: int, seed: int, shares: Mapping[int, float] = LAYER_SHARES, styles: int = 2) -> Iterator[Batch]:
        """Endless training batches of about this many layers, on the device. If the device is so fast that it would have to wait,
        they are drawn in other processes. styles: the first styles that they have, if the world has so many."""
        scenes = self.scene_source(layers, seed, shares, styles)
        source: Iterable[Batch] = scenes
        if self.device.type != "cpu":
            source = DataLoader(scenes, batch_size=None, num_workers=WORKERS)
        return (batch.to(self.device) for batch in source)

    def scene_source(self, layers: int, seed: int, shares: Mapping[int, float] = LAYER_SHARES, styles: int = 2) -> Scenes:
        """The source of these batches."""
        objects = self.objects.first(len(self.objects), styles)
        return Scenes(objects, self.bank["place"], self.bank["light"], self.vocabulary, layers, seed, shares)
