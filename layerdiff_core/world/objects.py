"""The object images for training: one file of named images, built by `tools.objects`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

LIST = Path(__file__).with_name("objects_list.json")


@dataclass
class ObjectSet:
    """Named images: uint8 [N, 2 styles, H, W, RGBA], not premultiplied; style 0 is "3d" and 1 is "flat"."""

    images: Tensor
    names: list[str]
    prompts: list[str]
    homes: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def first(self, count: int, styles: int) -> ObjectSet:
        """The `count` most iconic objects, in the first `styles` styles."""
        return ObjectSet(self.images[:count, :styles], self.names[:count], self.prompts[:count], self.homes[:count])


def read_list() -> list[dict[str, str]]:
    """The curated objects, most iconic first: code (hexadecimal code points), name, prompt and home."""
    return json.loads(LIST.read_text(encoding="utf-8"))


def load_objects(path: str | Path) -> ObjectSet:
    """Read the file built by `tools.objects`."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["objects"])
        images = file.get_tensor("images")
    return ObjectSet(images, *([fact[key] for fact in facts] for key in ("name", "prompt", "home")))
