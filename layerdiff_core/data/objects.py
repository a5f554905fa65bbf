"""The object pictures that training reads: one file of named pictures, which `tools.objects` builds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

LIST = Path(__file__).with_name("objects_list.json")


@dataclass
class ObjectSet:
    """Named pictures: images uint8 [N, 2 styles, H, W, RGBA] not premultiplied, style 0 "3d" and 1 "flat"."""

    images: Tensor
    names: list[str]
    prompts: list[str]
    homes: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def first(self, count: int, styles: int) -> ObjectSet:
        """The first, most iconic `count` objects, in the first `styles` styles."""
        return ObjectSet(self.images[:count, :styles], self.names[:count], self.prompts[:count], self.homes[:count])


def read_list() -> list[dict[str, str]]:
    """The curated objects, the most iconic first: code (hex code points), name, prompt, home."""
    return json.loads(LIST.read_text(encoding="utf-8"))


def load_objects(path: str | Path) -> ObjectSet:
    """Reads the file that `tools.objects` built."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["objects"])
        images = file.get_tensor("images")
    return ObjectSet(images, *([fact[key] for fact in facts] for key in ("name", "prompt", "home")))
