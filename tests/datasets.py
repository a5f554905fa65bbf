"""Layered scenes, and files as published data sets have them, for the tests."""

import io
import json
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from layerdiff_core.datasets.sample import Sample
from layerdiff_core.layers import Document, Layer

SIDE = 24


def scene(number: int, layers: int = 3, side: int = SIDE) -> Sample:
    """A scene of bytes: a background and discs, always the same for a number."""
    generator = torch.Generator().manual_seed(number)
    stack = []
    for index in range(layers):
        image = torch.randint(0, 256, (1, side, side, 3), generator=generator) / 255
        coverage = disc(side, 6 + 5 * index, 8 + number % 7, 5)[None] if index else torch.ones(1, side, side)
        stack.append(Layer.of(image, coverage, name=f"thing {index}"))
    return Sample(Document(stack, (side, side)), f"scene {number}", [f"a thing {index}" for index in range(layers)],
                  f"source {number}", "CC0-1.0", {"mask": 0.5 + number / 1000})


def disc(side: int, x: float, y: float, radius: float) -> Tensor:
    """A mask [side,side] of 0 and 1."""
    steps = torch.arange(side) + 0.5
    return ((steps - x) ** 2 + (steps[:, None] - y) ** 2 <= radius**2).float()


def run_lengths(mask: Tensor) -> list[int]:
    """A mask [H,W] as COCO's plain run lengths."""
    column = mask.T.flatten().bool().tolist()
    edges = [0, *(k for k, (a, b) in enumerate(pairwise(column), 1) if a != b), len(column)]
    return [0] * column[0] + [b - a for a, b in pairwise(edges)]


def run_text(mask: Tensor) -> str:
    """A mask [H,W] as COCO's text."""
    lengths, text = run_lengths(mask), ""
    for number, length in enumerate(lengths):
        value, more = length - (lengths[number - 2] if number > 2 else 0), True
        while more:
            part, value = value & 31, value >> 5
            more = value != (-1 if part & 16 else 0)
            text += chr(48 + part + 32 * more)
    return text


def png(side: int = SIDE, number: int = 0, mode: str = "RGB") -> bytes:
    """An image of noise."""
    buffer = io.BytesIO()
    bands = len(mode)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, bands), dtype=np.uint8), mode).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> None:
    """A tar file with these members; a TarInfo stands for a link or a device."""
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            facts = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            content = b"" if isinstance(data, tarfile.TarInfo) else data
            facts.size = len(content)
            file.addfile(facts, io.BytesIO(content))


def mlcid_row(number: int, folder: Path) -> dict[str, Any]:
    """A row as MLCID has it, and its image in a folder as img2dataset writes it."""
    url = f"https://example.org/pictures/{number}.png?size=large"
    (folder / f"{number:09}.png").write_bytes(png(number=number))
    (folder / f"{number:09}.json").write_text(json.dumps({"url": url, "status": "success"}))
    masks = [disc(SIDE, 8, 8, 5), disc(SIDE, 16, 15, 4 + number % 3)][: 1 + number % 2]
    return {
        "URL": url, "TEXT": "alt text", "HEIGHT": SIDE, "WIDTH": SIDE, "similarity": 0.3,
        "mask": [{"counts": run_text(mask), "size": [SIDE, SIDE]} for mask in masks],
        "xyxy": [[3.0, 3.0, 13.0, 13.0], [12.0, 11.0, 20.0, 19.0]][: len(masks)],
        "layer_prompts": ["a ball", "a plate"][: len(masks)], "global_prompt": f"a ball on a table, {number}",
    }  # fmt: skip


def broken(row: dict[str, Any], kind: int, folder: Path) -> tuple[dict[str, Any], str]:
    """The row with one error of ten kinds, and what the reason has to say."""
    mask, first = row["mask"], row["mask"][0]
    number = row["URL"].rpartition("/")[2].partition(".")[0]
    file = folder / f"{int(number):09}.png"
    if kind == 3:
        file.unlink()
    elif kind == 4:
        file.write_bytes(file.read_bytes()[:-40])
    elif kind == 5:
        file.write_bytes(b"<html>Not found</html>")
    changes, reason = [
        ({"URL": None}, "URL is None"),
        ({"global_prompt": "  "}, "global_prompt is"),
        ({"layer_prompts": []}, "0 layer_prompts"),
        ({}, "was not fetched"),
        ({}, "cannot be read"),
        ({}, "cannot be read"),
        ({"mask": [{**first, "size": [SIDE, SIDE + 1]}, *mask[1:]]}, "add up to"),
        ({"mask": [{**first, "counts": first["counts"][:-1] + "\u00ff"}, *mask[1:]]}, "run lengths"),
        ({"mask": [{**first, "size": [200_000, 200_000]}, *mask[1:]]}, "million"),
        ({"mask": [{**first, "counts": run_text(torch.zeros(SIDE, SIDE))}, *mask[1:]]}, "mask is empty"),
    ][kind]  # fmt: skip
    return row | changes, reason
