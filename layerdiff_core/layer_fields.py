"""Checks and converts the properties of layers in LAYERS documents and layered files."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeGuard

import torch
from torch import Tensor

MAX_SIDE = 16384
"""ComfyUI's own limit of a canvas, in pixels."""

FIELDS = ("name", "x", "y", "w", "h", "opacity", "blend_mode", "rotation", "visible", "flip_h", "flip_v")
"""The properties of a layer other than its pixels. ComfyUI's names, which are also those of Layer's attributes."""


def read_fields(facts: Mapping[str, Any], index: int, image: Tensor) -> dict[str, Any]:
    """The FIELDS of a layer with this image, checked and converted to their types."""
    where = item_name(index)
    name = facts.get("name")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"{where} has the name {name!r}, expected a string.")
    width, height = int(read_number(facts, "w", 0, where)), int(read_number(facts, "h", 0, where))
    return {
        "name": name or f"Layer {index}",
        "x": int(read_number(facts, "x", 0, where)),
        "y": int(read_number(facts, "y", 0, where)),
        "w": width if width > 0 else image.shape[2],
        "h": height if height > 0 else image.shape[1],
        "opacity": read_number(facts, "opacity", 1.0, where),
        "blend_mode": facts.get("blend_mode") or "normal",
        "rotation": read_number(facts, "rotation", 0.0, where),
        "visible": read_flag(facts, "visible", True, where),
        "flip_h": read_flag(facts, "flip_h", False, where),
        "flip_v": read_flag(facts, "flip_v", False, where),
    }


def read_canvas(value: Any) -> tuple[int, int] | None:
    """Width and height of a document's canvas; None if it has none."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(isinstance(side, Real) for side in value):
        raise ValueError(f"The LAYERS document has the canvas {value!r}, expected (width, height).")
    check_sides(*value)
    return int(value[0]), int(value[1])


def check_sides(width: Any, height: Any) -> None:
    """ValueError unless each side of a canvas has 1 to 16384 pixels."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"The canvas is {width} x {height} pixels; each side must be 1 to {MAX_SIDE}.")


def read_number(facts: Mapping[str, Any], key: str, default: float, where: str) -> float:
    """A finite number; the default if it is missing. where: the start of the error message."""
    value = facts.get(key)
    if value is None:
        return default
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{where} has {key} = {value!r}, expected a number.")
    return float(value)


def read_flag(facts: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    """True or false, also as 1 or 0; the default if it is missing. where: the start of the error message."""
    value = facts.get(key)
    if value is None:
        return default
    if not isinstance(value, Real) or value not in (0, 1):
        raise ValueError(f"{where} has {key} = {value!r}, expected true or false.")
    return bool(value)


def item_name(index: int) -> str:
    """What messages call an item of a document, counted from 1."""
    return f"Item {index} of the LAYERS document"


def is_numbers(value: Any, dimensions: int) -> TypeGuard[Tensor]:
    """Whether this is an ordinary floating-point tensor with this number of dimensions. Its values are not checked."""
    return (isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided and not value.is_nested
            and not value.is_meta and value.dim() == dimensions)


def describe(value: Any) -> str:
    """What a value is, for messages."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__}"
    if value.is_nested or value.layout != torch.strided or value.is_meta:
        return "a nested, sparse or meta tensor"
    return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
