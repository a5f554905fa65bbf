"""The host's LAYERS document: made, checked, read, changed, and its layers placed on the canvas."""

import math
from numbers import Real
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .blend import check_mode

MAX_LAYERS = 50
MAX_SIDE = 16384
"""The host's own limits."""


class Placed(NamedTuple):
    """The part of a layer that lies on the canvas: colours [1,h,w,3], coverage [1,h,w] (opacity not applied)."""

    image: Tensor
    coverage: Tensor
    left: int
    top: int


def make_document(images: Tensor, coverage: Tensor, names: list[str]) -> dict[str, Any]:
    """Make a LAYERS document of layers that fill the canvas.

    images: [K,H,W,3], 0..1, layer 0 the bottom. coverage: [K,H,W], 0..1, 1 = the layer is there. names: K texts.
    Returns the document; the canvas is H x W. ValueError for wrong shapes, numbers that are not finite, K not 1 to 50.
    """
    if images.dim() != 4 or images.shape[-1] != 3:
        raise ValueError(f"Layer pictures have shape {list(images.shape)}, expected [layers, height, width, 3].")
    if coverage.shape != images.shape[:3]:
        raise ValueError(
            f"Layer masks have shape {list(coverage.shape)}, expected {list(images.shape[:3])} to match the pictures."
        )
    if len(names) != len(images):
        raise ValueError(f"There are {len(names)} layer names for {len(images)} layers. Give one name for each layer.")
    mask = 1 - coverage.clamp(0, 1)
    layers = [
        {"type": "raster", "image": images[k : k + 1], "mask": mask[k : k + 1], "name": names[k], "x": 0, "y": 0,
         "w": images.shape[2], "h": images.shape[1], "z_index": k, "opacity": 1.0, "blend_mode": "normal",
         "rotation": 0.0, "visible": True, "flip_h": False, "flip_v": False}
        for k in range(len(images))
    ]  # fmt: skip
    document = {"version": 1, "canvas": (images.shape[2], images.shape[1]), "layers": layers}
    check_document(document)
    return document


def check_document(doc: Any) -> None:
    """ValueError, in plain words, unless doc is a LAYERS document with 1 to 50 sound layers of finite numbers."""
    for layer in ordered(doc):
        for part in ("image", "mask"):
            # A sum is finite only if everything in it is, and it costs one pass and no memory.
            if layer[part] is not None and not math.isfinite(layer[part].sum(dtype=torch.float32)):
                raise ValueError(
                    f"The {part} of layer {layer['name']!r} holds numbers that are not finite (NaN or infinite). "
                    "Look at the node that made it."
                )


def ordered(doc: Any) -> list[dict[str, Any]]:
    """The document's layers, bottom first, hidden ones included; each frame of a batch is a layer of its own.

    Each layer is a new dict with every field of the document's format set: image [1,H,W,3|4], mask [1,h,w] or None
    (1 = transparent), name, x, y, w, h (displayed size in pixels), z_index, opacity 0..1, blend_mode, rotation in
    radians clockwise about the centre, visible, flip_h, flip_v, type. ValueError if the document is not sound; what is
    in the tensors is not looked at (see check_document).
    """
    if not isinstance(doc, dict) or not isinstance(doc.get("layers"), (list, tuple)):
        raise ValueError(f"Expected a LAYERS document, got {type(doc).__name__}. Connect a node's layers output.")
    if doc.get("version", 1) not in (None, 1):
        raise ValueError(f"This LAYERS document has version {doc['version']!r}; only version 1 is known.")
    layers: list[dict[str, Any]] = []
    for number, item in enumerate(doc["layers"], 1):
        layers.extend(_frames(item, number))
    if not 1 <= len(layers) <= MAX_LAYERS:
        raise ValueError(f"The LAYERS document has {len(layers)} layers; it must have 1 to {MAX_LAYERS}.")
    return sorted(layers, key=lambda layer: layer["z_index"])


def _frames(item: Any, number: int) -> list[dict[str, Any]]:
    where = f"Item {number} of the LAYERS document"
    if not isinstance(item, dict):
        raise ValueError(f"{where} is a {type(item).__name__}, expected a layer (a dict).")
    if item.get("type", "raster") != "raster":
        raise ValueError(f"{where} is of type {item['type']!r}; only 'raster' layers are known.")
    image, mask = item.get("image"), item.get("mask")
    if not isinstance(image, Tensor) or image.dim() != 4 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        raise ValueError(f"{where} has {_describe(image)} for a picture, expected a tensor [1, height, width, 3 or 4].")
    if mask is not None and (
        not isinstance(mask, Tensor) or mask.dim() != 3 or 0 in mask.shape or len(mask) not in (1, len(image))
    ):
        raise ValueError(f"{where} has {_describe(mask)} for a mask, expected a tensor [{len(image)}, height, width].")
    name = item.get("name")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"{where} has the name {name!r}, expected a text.")
    mode = item.get("blend_mode") or "normal"
    check_mode(mode)
    opacity = _number(item, "opacity", 1.0, where)
    if not 0 <= opacity <= 1:
        raise ValueError(f"{where} has opacity {opacity}; it must lie between 0 and 1.")
    width, height = int(_number(item, "w", 0, where)), int(_number(item, "h", 0, where))
    shared = {
        "type": "raster",
        "name": name or f"Layer {number}",
        "x": int(_number(item, "x", 0, where)),
        "y": int(_number(item, "y", 0, where)),
        "w": width if width > 0 else image.shape[2],
        "h": height if height > 0 else image.shape[1],
        "z_index": int(_number(item, "z_index", 0, where)),
        "opacity": opacity,
        "blend_mode": mode,
        "rotation": _number(item, "rotation", 0.0, where),
        "visible": bool(item.get("visible", True)),
        "flip_h": bool(item.get("flip_h", False)),
        "flip_v": bool(item.get("flip_v", False)),
    }
    masks = [None] * len(image) if mask is None else mask.expand(len(image), -1, -1).split(1)
    return [{"image": frame, "mask": frame_mask, **shared} for frame, frame_mask in zip(image.split(1), masks)]


def _number(item: dict[str, Any], key: str, default: float, where: str) -> float:
    value = item.get(key)
    if value is None:
        return default
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{where} has {key} = {value!r}, expected a number.")
    return float(value)


def _describe(value: Any) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"


def canvas_size(doc: dict[str, Any]) -> tuple[int, int]:
    """Width and height of the document's canvas; without one, the extent of its layers, as the host takes it."""
    bounds = [_bounds(layer) for layer in ordered(doc)]
    canvas = doc.get("canvas")
    if canvas is None:
        canvas = max(1, *(right for _, _, right, _ in bounds)), max(1, *(bottom for *_, bottom in bounds))
    if not isinstance(canvas, (list, tuple)) or len(canvas) != 2 or not all(isinstance(n, Real) for n in canvas):
        raise ValueError(f"The LAYERS document has the canvas {canvas!r}, expected (width, height).")
    if not all(1 <= side <= MAX_SIDE for side in canvas):
        raise ValueError(f"The canvas is {canvas[0]} x {canvas[1]} pixels; each side must be 1 to {MAX_SIDE}.")
    return int(canvas[0]), int(canvas[1])


def layer_coverage(layer: dict[str, Any]) -> Tensor:
    """Coverage of a layer as it is stored, before it is placed: [1,H,W], 0..1, 1 = the layer is there.

    The one place where the host's mask (1 = transparent) changes its sign. A fourth channel of the picture is
    multiplied in; a mask of another size is stretched to the picture's, as the host does.
    """
    image, mask = layer["image"], layer.get("mask")
    alpha = image[..., 3].clamp(0, 1) if image.shape[-1] == 4 else None
    if mask is None:
        return torch.ones_like(image[..., 0]) if alpha is None else alpha
    mask = mask.to(image)
    if mask.shape != image.shape[:3]:
        mask = F.interpolate(mask[:, None], size=image.shape[1:3], mode="bilinear")[:, 0]
    coverage = (1 - mask).clamp_(0, 1)
    return coverage if alpha is None else coverage.mul_(alpha)


def place(layer: dict[str, Any], canvas: tuple[int, int]) -> Placed | None:
    """Put a layer (as ordered gives it) on the canvas by its x, y, w, h, rotation and flips.

    canvas: width, height. Returns the part that lies on the canvas, None if there is none. Colours are straight and
    are interpolated bilinearly together with the coverage, so that hidden colours never show; a smaller displayed size
    averages. The border is smooth when rotated and exact when not: an enlarged layer still fills its box.
    """
    left, top, right, bottom = _bounds(layer)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, canvas[0]), min(bottom, canvas[1])
    if left >= right or top >= bottom:
        return None
    image, coverage = layer["image"], layer_coverage(layer)
    width, height = layer["w"], layer["h"]
    if is_upright(layer):
        rows = slice(top - layer["y"], bottom - layer["y"])
        columns = slice(left - layer["x"], right - layer["x"])
        return Placed(image[:, rows, columns, :3], coverage[:, rows, columns], left, top)
    rgba = torch.cat([image[..., :3] * coverage[..., None], coverage[..., None]], dim=-1).float().movedim(-1, 1)
    if height < rgba.shape[2] or width < rgba.shape[3]:
        size = (min(height, rgba.shape[2]), min(width, rgba.shape[3]))
        rgba = F.interpolate(rgba, size=size, mode="bilinear", antialias=True)
    # Where is each pixel of the canvas in the layer? u, v: from the layer's centre, in canvas pixels, along its sides.
    down = torch.arange(top, bottom, device=image.device)[:, None] + 0.5 - layer["y"] - height / 2
    across = torch.arange(left, right, device=image.device) + 0.5 - layer["x"] - width / 2
    cos, sin = math.cos(layer["rotation"]), math.sin(layer["rotation"])
    u, v = across * cos + down * sin, down * cos - across * sin
    border = (width / 2 - u.abs() + 0.5).clamp(0, 1) * (height / 2 - v.abs() + 0.5).clamp(0, 1)
    grid = torch.stack([u * (-2 if layer["flip_h"] else 2) / width, v * (-2 if layer["flip_v"] else 2) / height], -1)
    rgba = F.grid_sample(rgba, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    straight = rgba[:, :3] / rgba[:, 3:].clamp_min(1e-6)
    return Placed(straight.movedim(1, -1), rgba[:, 3] * border, left, top)


def is_upright(layer: dict[str, Any]) -> bool:
    """Whether a layer's pixels are the canvas' own: neither scaled, nor rotated, nor flipped."""
    turned = layer["rotation"] or layer["flip_h"] or layer["flip_v"]
    return not turned and (layer["h"], layer["w"]) == layer["image"].shape[1:3]


def upright(layer: dict[str, Any], canvas: tuple[int, int]) -> dict[str, Any] | None:
    """A layer (as ordered gives it) as pixels of the canvas: a picture [1,h,w,3] and a mask of its size, or none.

    canvas: width, height. The layer itself where it is that already, also its parts beyond the canvas; else a new one:
    alpha of the picture in the mask, and of what is scaled, turned or flipped what place shows. None if that is nothing.
    """
    image, mask = layer["image"], layer["mask"]
    if not is_upright(layer):
        placed = place(layer, canvas)
        if placed is None:
            return None
        return layer | {"image": placed.image, "mask": 1 - placed.coverage, "x": placed.left, "y": placed.top,
                        "w": placed.image.shape[2], "h": placed.image.shape[1],
                        "rotation": 0.0, "flip_h": False, "flip_v": False}  # fmt: skip
    if image.shape[-1] == 4 or (mask is not None and mask.shape != image.shape[:3]):
        return layer | {"image": image[..., :3], "mask": 1 - layer_coverage(layer)}
    return layer


def _bounds(layer: dict[str, Any]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (the last two exclusive) of the pixels that the layer touches, also off the canvas."""
    cos, sin = abs(math.cos(layer["rotation"])), abs(math.sin(layer["rotation"]))
    half_width = (layer["w"] * cos + layer["h"] * sin) / 2
    half_height = (layer["w"] * sin + layer["h"] * cos) / 2
    x, y = layer["x"] + layer["w"] / 2, layer["y"] + layer["h"] / 2
    return (
        math.floor(x - half_width), math.floor(y - half_height),
        math.ceil(x + half_width), math.ceil(y + half_height),
    )  # fmt: skip


def change_layer(
    doc: dict[str, Any],
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
) -> dict[str, Any]:
    """A copy of the document with one layer changed; the document itself stays as it is.

    index: the layer, counted from 0 at the bottom, as ordered gives it. name: empty keeps the name. position: where in
    the stack it goes, counted likewise, beyond the top means the top; None keeps it. opacity, blend_mode, visible: set.
    right, down: pixels it moves. scale: factor on its displayed size, above 0. degrees: turned clockwise; both about
    its centre. ValueError for a layer that is not there or a value that the document does not allow.
    """
    layers = ordered(doc)
    if not 0 <= index < len(layers):
        raise ValueError(f"There is no layer {index}: the document has {len(layers)}, numbered 0 to {len(layers) - 1}.")
    if not 0 < scale < math.inf:
        raise ValueError(f"The scale is {scale}; it must be a number above 0.")
    layer = layers.pop(index)
    width, height = max(1, round(layer["w"] * scale)), max(1, round(layer["h"] * scale))
    layer |= {
        "name": name or layer["name"],
        "opacity": opacity,
        "blend_mode": blend_mode,
        "visible": visible,
        "x": layer["x"] + right + (layer["w"] - width) // 2,
        "y": layer["y"] + down + (layer["h"] - height) // 2,
        "w": width,
        "h": height,
        "rotation": layer["rotation"] + math.radians(degrees),
    }
    layers.insert(index if position is None else position, layer)
    changed = {**doc, "layers": [one | {"z_index": z} for z, one in enumerate(layers)]}
    ordered(changed)
    return changed
