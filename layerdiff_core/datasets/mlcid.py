"""Imports MLCID, the data set of LayerDiff's authors (arXiv 2403.11929, section on data), as they published it.

A parquet file has a row per image: URL, global_prompt, layer_prompts, xyxy, and mask, a list of COCO run lengths. The images are
not in it. The background still has to be inpainted: layer 0 is the whole image.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..cut import FIRST_BELOW, layers_from_masks
from ..files.safe import MAX_TEXT, SHOWN, FileError, Limits
from .appending import key_of
from .importing import Item
from .parquet import items_of
from .pictures import ENDINGS, read_picture
from .run_lengths import read_mask
from .sample import Sample

COLUMNS = ("URL", "global_prompt", "layer_prompts", "xyxy", "mask")
LICENCE = "CC-BY-SA-4.0"
SOFTNESS = 1.0
BACKGROUND = "background"
NAME_LENGTH = 60


class Pictures:
    """The images that the user fetched, by URL.

    folder: as img2dataset writes it with output_format="files", with a json beside each image that has its "url"; or images
    under the names that they have in their URLs. Links to other folders are not followed.
    """

    def __init__(self, folder: Path) -> None:
        self.by_url: dict[str, Path] = {}
        self.by_name: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in ENDINGS and path.is_file() and not path.is_symlink():
                self.by_name.setdefault(path.name, []).append(path)
                url = _url_of(path.with_suffix(".json"))
                if url:
                    self.by_url[url] = path

    def find(self, url: str) -> Path:
        """The image of a URL. FileError if it is not there, or only its name is and several images have it."""
        if url in self.by_url:
            return self.by_url[url]
        name = file_name_of(url)
        found = self.by_name.get(name, [])
        if len(found) != 1:
            why = f"{len(found)} files have its name" if found else "it was not fetched"
            raise FileError(f"the image {url[:SHOWN]!r} is not in the folder: {why}")
        return found[0]


def file_name_of(url: str) -> str:
    """The name of the file that a URL points to, without percent encoding."""
    path = url.partition("#")[0].partition("?")[0].encode("utf-8")
    decoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), path)
    return decoded.decode("utf-8", "replace").rpartition("/")[2]


def mlcid(source: Path, pictures: Pictures) -> Iterator[Item]:
    """The rows of MLCID's parquet files. source: one of them, or a folder with them."""
    return items_of(source, lambda what, row: Item(
        # The URL alone is not enough: an image may be cut into layers in several ways.
        key_of("mlcid", *(json.dumps(row.get(name), default=str) for name in COLUMNS)), what, partial(read_row, row, pictures)))


def read_row(row: dict[str, Any], pictures: Pictures) -> Sample:
    """The scene of a row. ValueError says what is wrong with it."""
    url, prompt, prompts, boxes, masks = (_column(row, name) for name in COLUMNS)
    for name, value in (("URL", url), ("global_prompt", prompt)):
        if not isinstance(value, str) or not value.strip():
            raise FileError(f"{name} is {value!r}, expected text")
    if not all(isinstance(each, list) for each in (prompts, boxes, masks)) or not masks:
        raise FileError("layer_prompts, xyxy and mask are not lists with an entry for each layer")
    if len(boxes) != len(masks) or len(prompts) not in (len(masks), len(masks) + 1):
        raise FileError(f"there are {len(prompts)} layer_prompts and {len(boxes)} xyxy for {len(masks)} masks")
    if not all(isinstance(each, str) and each.strip() for each in prompts):
        raise FileError("a layer prompt is empty")
    if not all(isinstance(box, list) and len(box) == 4 and all(_is_number(side) for side in box) for box in boxes):
        raise FileError("xyxy is not four numbers for each layer")
    shapes = [read_mask(mask) for mask in masks]
    if len({shape.shape for shape in shapes}) > 1:
        raise FileError("the masks have different sizes")
    path = pictures.find(url)
    with path.open("rb") as file:
        image, _ = read_picture(file, path.name, Limits(path.name))
    document = layers_from_masks(image, torch.stack(shapes), None, "", FIRST_BELOW, SOFTNESS)
    titles = [BACKGROUND] * (len(prompts) == len(masks)) + [each.strip() for each in prompts]
    layers = [replace(layer, name=title[:NAME_LENGTH]) for layer, title in zip(document.layers, titles)]
    return Sample(replace(document, layers=layers), prompt.strip(), titles, url, LICENCE, complete=False)


def _column(row: dict[str, Any], name: str) -> Any:
    if name not in row:
        raise FileError(f"there is no column {name!r}. Is this MLCID's parquet file?")
    return row[name]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _url_of(path: Path) -> str:
    """The URL in the json that img2dataset writes beside an image; "" if there is none."""
    try:
        with path.open("rb") as file:
            facts = json.loads(file.read(MAX_TEXT))
    except (OSError, ValueError, RecursionError):
        return ""
    url = facts.get("url") if isinstance(facts, dict) else None
    return url if isinstance(url, str) else ""
