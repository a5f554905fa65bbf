"""What the evaluations of both families share: how the pack's nodes are asked, and how far the drawing is."""

import time
from typing import Any

from torch import Tensor

BATCH = 10
"""Scenes that are drawn at once."""


class Progress:
    """Says after each batch how far all the drawing is and how long it may still take."""

    def __init__(self, total: int):
        self.total, self.done, self.since = total, 0, time.monotonic()

    def add(self, count: int, layers: int) -> None:
        """So many scenes more are drawn, the last ones of so many layers."""
        self.done += count
        spent = time.monotonic() - self.since
        print(f"  {self.done} of {self.total} scenes, the last {count} with {layers} layers; {spent / self.done:.1f} s per "
              f"scene, {spent / self.done * (self.total - self.done) / 60:.1f} minutes left", flush=True)


def defaults(node: Any) -> dict[str, Any]:
    """The values that a node's widgets have when it is put into a graph."""
    return {entry.id: entry.default for entry in node.GET_SCHEMA().inputs if getattr(entry, "default", None) is not None}


def channels_first(images: Tensor) -> Tensor:
    """ComfyUI's [N, H, W, 3] -> [N, 3, H, W]."""
    return images.movedim(-1, 1)
