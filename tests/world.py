"""A world of discs instead of the object images, which the tests do not download."""

import torch

from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.scenes import HOMES


def discs(count: int, side: int) -> ObjectSet:
    """Discs, each of one colour, on transparent black, so that colours leaking in at the edge are visible."""
    steps = (torch.arange(side) + 0.5) / side - 0.5
    disc = ((0.45 - torch.hypot(steps[None], steps[:, None])) * side + 0.5).clamp(0, 1)
    colours = torch.randint(90, 255, (count, 1, 1, 1, 3), generator=torch.Generator().manual_seed(0))
    images = torch.zeros(count, 2, side, side, 4)
    images[..., :3] = colours * (disc > 0)[..., None]
    images[..., 3] = disc * 255
    names = [f"thing{i}" for i in range(count)]
    homes = [HOMES[i % 3] for i in range(count)]
    return ObjectSet(images.round().byte(), names, [f"a {name}" for name in names], homes)
