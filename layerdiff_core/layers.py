"""Layers and documents as typed objects, converted from and to ComfyUI's LAYERS document.

The only module that knows ComfyUI's format, in particular that 1 in its masks means transparent.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .blend import check_mode
from .layer_fields import FIELDS, check_sides, describe, is_numbers, item_name, read_canvas, read_fields, read_number

MAX_LAYERS = 50
"""ComfyUI's own limit."""


@dataclass(frozen=True, eq=False)
class Layer:
    """An image with its mask and its placement on a canvas.

    pixels: [1,H,W,3] straight colours 0..1, or [1,H,W,4] with alpha. mask: [1,h,w] of any size, 1 = transparent, or None if
    nothing is masked. Both are kept as they came, so that no layer is copied just to be passed on; read image, coverage or
    transparency instead. x, y: the upper left corner, w, h: the displayed size, in canvas pixels, before rotation.
    opacity: 0..1. blend_mode: one of blend.MODES. rotation: radians clockwise about the centre, after the flips. extra:
    anything else that a LAYERS document says about the layer. ValueError for a number out of range.
    """

    pixels: Tensor
    mask: Tensor | None
    name: str
    w: int
    h: int
    x: int = 0
    y: int = 0
    opacity: float = 1.0
    blend_mode: str = "normal"
    rotation: float = 0.0
    visible: bool = True
    flip_h: bool = False
    flip_v: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_mode(self.blend_mode)
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"The layer {self.name!r} has opacity {self.opacity}; it must be between 0 and 1.")
        if not math.isfinite(self.rotation):
            raise ValueError(f"The layer {self.name!r} has rotation = {self.rotation}, expected a number.")

    @classmethod
    def of(cls, image: Tensor, coverage: Tensor, number: int = 1, **facts: Any) -> "Layer":
        """A layer from an image [1,H,W,3] and its coverage [1,H,W], both 0..1.

        facts: FIELDS as read from a file, of any type; missing ones get their defaults. number: the layer's number, from 1, for
        messages and if it has no name. ValueError for invalid facts.
        """
        return cls(image, 1 - coverage, **read_fields(facts, number, image))

    @property
    def image(self) -> Tensor:
        """Straight colours [1,H,W,3], 0..1."""
        return self.pixels[..., :3]

    @property
    def coverage(self) -> Tensor:
        """The layer's coverage before placement, without opacity: [1,H,W], 0..1, 1 = covered.

        The image's alpha is multiplied in. A mask of another size is scaled to the image's, as in ComfyUI.
        """
        alpha = self.pixels[..., 3].clamp(0, 1) if self.pixels.shape[-1] == 4 else None
        if self.mask is None:
            return torch.ones_like(self.pixels[..., 0]) if alpha is None else alpha
        mask = self.mask.to(self.pixels)
        if mask.shape != self.pixels.shape[:3]:
            mask = F.interpolate(mask[:, None], size=self.pixels.shape[1:3], mode="bilinear")[:, 0]
        coverage = (1 - mask).clamp_(0, 1)
        return coverage if alpha is None else coverage.mul_(alpha)

    @property
    def transparency(self) -> Tensor | None:
        """The inverse of coverage: [1,H,W], or None if the layer is opaque everywhere.

        If possible this is ComfyUI's own mask, so that nothing has to be computed. Then its dtype may differ from the image's,
        and its values may lie outside 0..1.
        """
        return self.mask if self.is_plain else 1 - self.coverage

    @property
    def is_plain(self) -> bool:
        """Whether the layer has no alpha, and no mask or one of the image's size."""
        return self.pixels.shape[-1] == 3 and (self.mask is None or self.mask.shape == self.pixels.shape[:3])

    @property
    def is_upright(self) -> bool:
        """Whether the layer's pixels are canvas pixels: not scaled, rotated or flipped."""
        return not (self.rotation or self.flip_h or self.flip_v) and (self.h, self.w) == self.pixels.shape[1:3]

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom (the last two exclusive) of the pixels that the layer touches, on or off the canvas."""
        cos, sin = abs(math.cos(self.rotation)), abs(math.sin(self.rotation))
        half_width, half_height = (self.w * cos + self.h * sin) / 2, (self.w * sin + self.h * cos) / 2
        x, y = self.x + self.w / 2, self.y + self.h / 2
        return (
            math.floor(x - half_width), math.floor(y - half_height),
            math.ceil(x + half_width), math.ceil(y + half_height),
        )  # fmt: skip

    def with_pixels(self, image: Tensor, coverage: Tensor, **fields: Any) -> "Layer":
        """The layer with another image [1,H,W,3] and coverage [1,H,W], both 0..1, and with the given fields changed."""
        return replace(self, pixels=image, mask=1 - coverage, **fields)

    def crop(self, left: int, top: int, width: int, height: int) -> "Layer":
        """Crop an upright, plain layer. left, top: in pixels of its image. The content keeps its position on the canvas."""
        box = slice(None), slice(top, top + height), slice(left, left + width)
        mask = None if self.mask is None else self.mask[box]
        return replace(self, pixels=self.pixels[box], mask=mask, x=self.x + left, y=self.y + top, w=width, h=height)


@dataclass(frozen=True, eq=False)
class Document:
    """Layers on a canvas, bottom first and including hidden ones.

    fixed_canvas: width and height, or None for a canvas that extends as far as the layers. extra: anything else in the LAYERS
    document. ValueError unless there are 1 to 50 layers and each side of the canvas has 1 to 16384 pixels.
    """

    layers: list[Layer]
    fixed_canvas: tuple[int, int] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise ValueError(f"The LAYERS document has {len(self.layers)} layers; it must have 1 to {MAX_LAYERS}.")
        check_sides(*self.canvas)

    @classmethod
    def from_socket(cls, value: Any) -> "Document":
        """Read ComfyUI's LAYERS document without copying tensors. Each frame of a batch becomes a separate layer.

        ValueError for an invalid document. The values in the tensors are not checked; see check_finite.
        """
        if not isinstance(value, dict) or not isinstance(value.get("layers"), (list, tuple)):
            raise ValueError(f"Expected a LAYERS document, got {type(value).__name__}. Connect a node's layers output.")
        if value.get("version", 1) not in (None, 1):
            raise ValueError(f"This LAYERS document has version {value['version']!r}; only version 1 is supported.")
        frames = [frame for number, item in enumerate(value["layers"], 1) for frame in _read_item(item, number)]
        layers = [layer for _, layer in sorted(frames, key=lambda frame: frame[0])]
        extra = {key: part for key, part in value.items() if key not in ("version", "canvas", "layers")}
        return cls(layers, read_canvas(value.get("canvas")), extra)

    def to_socket(self) -> dict[str, Any]:
        """Convert the layers to ComfyUI's LAYERS document, without copying tensors."""
        layers = [
            {**layer.extra, "type": "raster", "image": layer.pixels, "mask": layer.mask, "z_index": z,
             **{name: getattr(layer, name) for name in FIELDS}}
            for z, layer in enumerate(self.layers)
        ]  # fmt: skip
        canvas = {} if self.fixed_canvas is None else {"canvas": self.fixed_canvas}
        return {**self.extra, "version": 1, **canvas, "layers": layers}

    @property
    def canvas(self) -> tuple[int, int]:
        """Width and height. If the document has none, the extent of its layers, as in ComfyUI."""
        if self.fixed_canvas is not None:
            return self.fixed_canvas
        bounds = [layer.bounds for layer in self.layers]
        return max(1, *(right for _, _, right, _ in bounds)), max(1, *(bottom for *_, bottom in bounds))

    def check_finite(self) -> None:
        """ValueError, with the layer's name, if an image or a mask contains values that are not finite."""
        for layer in self.layers:
            for part, values in (("image", layer.pixels), ("mask", layer.mask)):
                # A sum is finite only if all its terms are, and it takes one pass and no memory.
                if values is not None and not math.isfinite(values.sum(dtype=torch.float32)):
                    raise ValueError(
                        f"The {part} of layer {layer.name!r} contains values that are not finite (NaN or infinity). Check the "
                        "node that created it."
                    )


def make_document(images: Tensor, coverage: Tensor, names: list[str]) -> Document:
    """A document of layers that fill the canvas.

    images: [K,H,W,3], 0..1, bottom layer first. coverage: [K,H,W], 0..1, 1 = covered. names: K strings. The canvas is W x H.
    ValueError for wrong shapes, for values that are not finite, and if K is not 1 to 50.
    """
    if images.dim() != 4 or images.shape[-1] != 3 or 0 in images.shape[1:]:
        raise ValueError(f"Layer images have shape {list(images.shape)}, expected [layers, height, width, 3].")
    if coverage.shape != images.shape[:3]:
        raise ValueError(
            f"Layer masks have shape {list(coverage.shape)}, expected {list(images.shape[:3])} to match the images."
        )
    if len(names) != len(images):
        raise ValueError(f"There are {len(names)} layer names for {len(images)} layers. Enter one name per layer.")
    height, width = images.shape[1:3]
    masks = 1 - coverage.clamp(0, 1)
    layers = [Layer(*parts, width, height) for parts in zip(images.split(1), masks.split(1), names)]
    document = Document(layers, (width, height))
    document.check_finite()
    return document


def change_layer(
    document: Document,
    index: int,
    name: str = "",
    position: int | None = None,
    opacity: float = 1.0,
    blend_mode: str = "normal",
    visible: bool = True,
    right: int = 0,
    down: int = 0,
    scale: float = 1.0,
    degrees: float = 0.0,
) -> Document:
    """A copy of the document with one layer changed; the document itself is not modified.

    index: the layer's number, from 0 at the bottom. name: "" keeps the name. position: its new number, where anything above
    the top means the top, and None keeps it. opacity, blend_mode, visible: the new values. right, down: distance to move, in
    pixels. scale: factor on the displayed size, above 0. degrees: clockwise rotation. Both are about the layer's centre.
    ValueError if the layer does not exist or a value is invalid.
    """
    layers = list(document.layers)
    if not 0 <= index < len(layers):
        raise ValueError(f"There is no layer {index}. The document has {len(layers)} layers, numbered 0 to {len(layers) - 1}.")
    if not 0 < scale < math.inf:
        raise ValueError(f"The scale is {scale}; it must be a number above 0.")
    layer = layers.pop(index)
    width, height = max(1, round(layer.w * scale)), max(1, round(layer.h * scale))
    changed = replace(
        layer, name=name or layer.name, opacity=float(opacity), blend_mode=blend_mode, visible=visible,
        x=layer.x + right + (layer.w - width) // 2, y=layer.y + down + (layer.h - height) // 2, w=width, h=height,
        rotation=layer.rotation + math.radians(degrees),
    )  # fmt: skip
    layers.insert(index if position is None else position, changed)
    return replace(document, layers=layers)


def _read_item(item: Any, number: int) -> list[tuple[int, Layer]]:
    """The frames of one layer of a LAYERS document, each with its z_index."""
    where = item_name(number)
    if not isinstance(item, dict):
        raise ValueError(f"{where} is a {type(item).__name__}, expected a layer (a dict).")
    if item.get("type", "raster") != "raster":
        raise ValueError(f"{where} is of type {item['type']!r}; only 'raster' layers are supported.")
    image, mask = item.get("image"), item.get("mask")
    if not is_numbers(image, 4) or image.shape[-1] not in (3, 4) or 0 in image.shape:
        raise ValueError(f"{where} has {describe(image)} for an image, expected a tensor [1, height, width, 3 or 4] of "
                         "floating-point numbers.")
    if mask is not None and (not is_numbers(mask, 3) or 0 in mask.shape or len(mask) not in (1, len(image))):
        raise ValueError(f"{where} has {describe(mask)} for a mask, expected a tensor [{len(image)}, height, width] of "
                         "floating-point numbers.")
    fields, z_index = read_fields(item, number, image), int(read_number(item, "z_index", 0, where))
    extra = {key: part for key, part in item.items() if key not in ("type", "image", "mask", "z_index", *FIELDS)}
    masks = [None] * len(image) if mask is None else mask.expand(len(image), -1, -1).split(1)
    return [(z_index, Layer(*parts, **fields, extra=extra)) for parts in zip(image.split(1), masks)]
