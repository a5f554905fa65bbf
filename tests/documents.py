"""Documents for the tests."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from layerdiff_core.blend import MODES
from layerdiff_core.layer_fields import FIELDS
from layerdiff_core.layers import Document, Layer

NAMES = ["background", "Katze im Regen", "猫", "déjà vu/..\\", "<&\"'>\n\t", "🦊 fox", "عنوان", "x" * 300]


def alter(document: Document, index: int, **fields: Any) -> None:
    """Change a layer of a document in place, its image and coverage too."""
    layer = document.layers[index]
    if "image" in fields or "coverage" in fields:
        layer = layer.with_pixels(fields.pop("image", layer.image), fields.pop("coverage", layer.coverage))
    document.layers[index] = replace(layer, **fields)


def mixed_document(count: int = 8, side: int = 40, modes: tuple[str, ...] = MODES) -> Document:
    """Layers of bytes: odd sizes, partly off the canvas, names of all scripts, hidden ones, hidden colours, all modes."""
    generator = torch.Generator().manual_seed(count)

    def some(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, generator=generator) / 255

    layers = []
    for number in range(count):
        height, width = (side - 7, side) if number == 0 else (side // 2 + number % 9, side // 2 + 10 - number % 7)
        coverage = 1 - (some(1, height, width) * 3 - 1).clamp(0, 1).mul(255).round() / 255 * (number > 0)
        layers.append(Layer.of(
            some(1, height, width, 3), coverage, name=NAMES[number % len(NAMES)],
            x=(number * 7) % side - 9 if number else 0, y=(number * 5) % side - 8 if number else 0,
            opacity=1.0 if number < 2 else number / count, blend_mode=modes[number % len(modes)], visible=number % 5 != 3,
        ))  # fmt: skip
    return Document(layers, (side, side - 7))


def same(one: Document, other: Document) -> None:
    """Assert that two documents have the same canvas, attributes and pixels in 8 bits, hidden colours too."""
    assert one.canvas == other.canvas
    for a, b in zip(one.layers, other.layers, strict=True):
        assert fields(a) == fields(b)
        assert torch.equal(_bytes(a.image), _bytes(b.image))
        assert torch.equal(_bytes(a.coverage), _bytes(b.coverage))


def fields(layer: Layer) -> dict[str, Any]:
    """What is said of a layer beside its pixels."""
    return {name: getattr(layer, name) for name in FIELDS}


def _bytes(values: Tensor) -> Tensor:
    return (values * 255).round().byte()
