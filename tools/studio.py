"""Shared by the evaluations of both families: running the pack's nodes, and showing progress."""

import time
from typing import Any

from torch import Tensor

BATCH = 10
"""Scenes sampled at once."""


class Progress:
    """Prints the progress and the remaining time after each batch."""

    def __init__(self, total: int):
        self.total, self.done, self.since = total, 0, time.monotonic()

    def add(self, count: int, layers: int) -> None:
        """Report another `count` scenes as done. layers: their number of layers."""
        self.done += count
        spent = time.monotonic() - self.since
        print(f"  {self.done} of {self.total} scenes, the last {count} with {layers} layers; {spent / self.done:.1f} s per "
              f"scene, {spent / self.done * (self.total - self.done) / 60:.1f} minutes left", flush=True)


def defaults(node: Any) -> dict[str, Any]:
    """The default values of a node's widgets."""
    return {entry.id: entry.default for entry in node.GET_SCHEMA().inputs if getattr(entry, "default", None) is not None}


def channels_first(images: Tensor) -> Tensor:
    """ComfyUI's [N, H, W, 3] -> [N, 3, H, W]."""
    return images.movedim(-1, 1)
