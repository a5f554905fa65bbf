"""Imports parquet files with a row per scene and its images inside, such as PrismLayers, SynLayers and Crello.

They differ only in the names of their fields, so one map of fields describes each.
"""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from functools import partial
from pathlib import Path
from typing import Any

from ..files.safe import MAX_TEXT, SHOWN, FileError, Limits
from ..layer_fields import read_fields
from ..layers import MAX_LAYERS, Document, Layer
from .appending import key_of
from .importing import Item
from .parquet import items_of
from .pictures import read_picture
from .sample import Sample

BACKGROUND = "background"


@dataclass(frozen=True)
class FieldMap:
    """Where the parts of a scene are in a row.

    A field is a column, or a path into it with periods: "layers.{n}.caption" is the caption of the n-th entry of the list in
    the column layers. {n} is a layer's number from 0, {n:02} the same with two digits. An empty field does not exist.

    count: the number of layers, or a list with an entry for each. image, prompt: of a layer. left, top, right, bottom: its box;
    width, height can take the place of right and bottom. relative: the box is in shares of the canvas, not in pixels.
    background, background_prompt: below all layers. canvas_width, canvas_height: needed if there is no background.
    """

    scene_prompt: str
    count: str
    image: str
    prompt: str = ""
    left: str = ""
    top: str = ""
    right: str = ""
    bottom: str = ""
    width: str = ""
    height: str = ""
    relative: bool = False
    background: str = ""
    background_prompt: str = ""
    canvas_width: str = ""
    canvas_height: str = ""
    source: str = ""
    licence: str = ""

    @classmethod
    def read(cls, path: Path) -> "FieldMap":
        """Read a map from a JSON file with the fields' names as keys. FileError if it is none."""
        known = {field.name for field in fields_of(cls)}
        try:
            with path.open("rb") as file:
                found = json.loads(file.read(MAX_TEXT))
            if not isinstance(found, dict) or found.keys() - known:
                raise FileError(f"{path.name} has to be an object with some of {', '.join(sorted(known))}.")
            return cls(**found)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise FileError(f"{path.name} is not a map of fields: {str(error)[:SHOWN]}") from error


MAPS = {
    "prismlayers": FieldMap("whole_caption", "layer_count", "layer_{n:02}", "layer_{n:02}_caption", "layer_{n:02}_box.0",
                            "layer_{n:02}_box.1", width="layer_{n:02}_width_dst", height="layer_{n:02}_height_dst",
                            background="base_image", background_prompt="base_caption"),
    "synlayers": FieldMap("whole_caption", "layers", "layers.{n}.image", "layers.{n}.caption", "layers.{n}.box.0",
                          "layers.{n}.box.1", "layers.{n}.box.2", "layers.{n}.box.3", background="base_image"),
    "crello": FieldMap("title", "image", "image.{n}", "", "left.{n}", "top.{n}", width="width.{n}", height="height.{n}",
                       relative=True, canvas_width="canvas_width", canvas_height="canvas_height", source="id",
                       licence="CDLA-Permissive-2.0"),
}
"""The maps of published data sets. Source: their cards; SynLayers' card does not name the fields within layers, so these are the
ones that PrismLayers has."""


def tables(source: Path, fields: FieldMap, licence: str = "") -> Iterator[Item]:
    """The rows of parquet files. source: one of them, or a folder with them. licence: if the map does not name one."""
    return items_of(source, lambda what, row: Item(key_of("table", what), what, partial(read_row, row, fields, what, licence)))


def read_row(row: Mapping[str, Any], fields: FieldMap, what: str, licence: str = "") -> Sample:
    """The scene of a row. ValueError says what is wrong with it. what: its name, for the messages."""
    limits = Limits(what)
    count = _get(row, fields.count)
    count = len(count) if isinstance(count, list) else count
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_LAYERS - bool(fields.background):
        raise FileError(f"{fields.count} is {str(count)[:SHOWN]}, expected 1 to {MAX_LAYERS - bool(fields.background)} layers")
    layers, prompts = [], []
    if fields.background:
        layers.append(_layer(_get(row, fields.background), f"{what}, {fields.background}", limits, {"name": BACKGROUND}))
        prompts.append(_text(row, fields.background_prompt) or BACKGROUND)
        width, height = layers[0].w, layers[0].h
    else:
        width, height = (_side(_get(row, name), name) for name in (fields.canvas_width, fields.canvas_height))
    limits.canvas(width, height)
    for number in range(count):
        name = fields.image.format(n=number)
        prompt = _text(row, fields.prompt.format(n=number))
        box = _box(row, fields, number, width, height)
        layers.append(_layer(_get(row, name), f"{what}, {name}", limits, {"name": prompt[:60] or f"layer {number}"} | box))
        prompts.append(prompt)
    return Sample(Document(layers, (width, height)), _text(row, fields.scene_prompt), prompts,
                  f"{what} {_text(row, fields.source)}".strip(), fields.licence or licence)


def _get(row: Any, path: str) -> Any:
    """The value at a path. FileError if it is missing."""
    value = row
    for part in path.split("."):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise FileError(f"there is no field {path!r}") from None
    if value is None:
        raise FileError(f"the field {path!r} is empty")
    return value


def _text(row: Mapping[str, Any], path: str) -> str:
    if not path:
        return ""
    value = _get(row, path)
    if not isinstance(value, str):
        raise FileError(f"the field {path!r} is {str(value)[:SHOWN]}, expected text")
    return value.strip()


def _side(value: Any, path: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise FileError(f"the field {path!r} is {str(value)[:SHOWN]}, expected a number of pixels") from None


def _box(row: Mapping[str, Any], fields: FieldMap, number: int, width: int, height: int) -> dict[str, int]:
    """Where a layer is placed: x, y, w, h in pixels; nothing if the map has no boxes."""
    if not fields.left:
        return {}
    sides = {}
    for side, across in (("left", True), ("top", False), ("right", True), ("bottom", False), ("width", True), ("height", False)):
        path = getattr(fields, side).format(n=number)
        if path:
            value = _get(row, path)
            if not isinstance(value, (int, float)) or not abs(value) < 1e6:
                raise FileError(f"the field {path!r} is {str(value)[:SHOWN]}, expected a number")
            sides[side] = value * ((width if across else height) if fields.relative else 1)
    x, y = round(sides["left"]), round(sides["top"])
    w = round(sides["width"] if "width" in sides else sides["right"] - sides["left"])
    h = round(sides["height"] if "height" in sides else sides["bottom"] - sides["top"])
    if w < 1 or h < 1:
        raise FileError(f"layer {number} is {w} x {h} pixels")
    return {"x": x, "y": y, "w": w, "h": h}


def _layer(value: Any, what: str, limits: Limits, facts: dict[str, Any]) -> Layer:
    """A layer from an image in a row: its bytes, or {"bytes", "path"} as the package datasets stores images."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise FileError(f"{what} has no image inside. Only images that are stored in the parquet file are read.")
    image, coverage = read_picture(io.BytesIO(data), what, limits)
    return Layer(image, 1 - coverage, **read_fields(facts, limits.layers, image))
