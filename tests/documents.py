"""LAYERS documents for the tests of files."""

from typing import Any

import torch
from torch import Tensor

from layerdiff_core.blend import MODES
from layerdiff_core.layers import layer_coverage, ordered

NAMES = ["background", "Katze im Regen", "猫", "déjà vu/..\\", "<&\"'>\n\t", "🦊 fox", "عنوان", "x" * 300]


def mixed_document(count: int = 8, side: int = 40, modes: tuple[str, ...] = MODES) -> dict[str, Any]:
    """Layers of bytes: odd sizes, partly off the canvas, names of all scripts, hidden ones, hidden colours, all modes."""
    generator = torch.Generator().manual_seed(count)

    def some(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, generator=generator) / 255

    layers = []
    for number in range(count):
        height, width = (side - 7, side) if number == 0 else (side // 2 + number % 9, side // 2 + 10 - number % 7)
        mask = (some(1, height, width) * 3 - 1).clamp(0, 1).mul(255).round() / 255
        layers.append({
            "type": "raster", "image": some(1, height, width, 3), "mask": mask * (number > 0),
            "name": NAMES[number % len(NAMES)], "x": (number * 7) % side - 9, "y": (number * 5) % side - 8,
            "w": width, "h": height, "z_index": number, "opacity": 1.0 if number < 2 else number / count,
            "blend_mode": modes[number % len(modes)], "visible": number % 5 != 3,
        })  # fmt: skip
        layers[0] |= {"x": 0, "y": 0}
    return {"version": 1, "canvas": (side, side - 7), "layers": layers}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Assert that two documents have the same canvas, attributes and pixels in 8 bits, hidden colours too."""
    assert tuple(one["canvas"]) == tuple(other["canvas"])
    pairs = list(zip(ordered(one), ordered(other)))
    assert len(pairs) == len(one["layers"]) == len(other["layers"])
    for a, b in pairs:
        assert _attributes(a) == _attributes(b)
        assert torch.equal(_bytes(a["image"][..., :3]), _bytes(b["image"]))
        assert torch.equal(_bytes(layer_coverage(a)), _bytes(layer_coverage(b)))


def _attributes(layer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if key not in ("image", "mask", "z_index")}


def _bytes(values: Tensor) -> Tensor:
    return (values * 255).round().byte()
