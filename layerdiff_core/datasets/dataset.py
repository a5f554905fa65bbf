"""A folder of shards as a list of samples: pages, validation, statistics and a contact sheet."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..edges import EMPTY
from ..export import SHEET_GREY, contact_sheet, layer_previews
from ..files.safe import FileError
from ..whole import is_unfinished
from .sample import FACTS, Sample, read_facts, unpack
from .shards import ENDING, Entry, Fault, read_index

SHEET_SIDE = 192
"""The longest side of an image in a contact sheet, in pixels."""


def shards_of(folder: Path) -> list[Path]:
    """The shards in a folder, by name."""
    return sorted(path for path in folder.glob(f"*{ENDING}") if path.is_file() and not is_unfinished(path))


class Dataset:
    """The samples in a folder of shards, in the order of the shards' names.

    entries: the complete samples. faults: what was set aside when the shards were listed, samples with a key that is there
    already among them. step: called after each shard. FileError if the folder has no shards.
    """

    def __init__(self, folder: Path, step: Callable[[], None] = lambda: None) -> None:
        shards = shards_of(folder)
        if not shards:
            raise FileError(f"There are no {ENDING} files in the folder {folder.name!r}. Save scenes to it first.")
        found: dict[str, Entry] = {}
        self.faults: list[Fault] = []
        for shard in shards:
            entries, faults = read_index(shard)
            self.faults += faults
            for entry in entries:
                if entry.key in found:
                    self.faults.append(Fault(shard.name, entry.key, f"{found[entry.key].shard.name} has a sample of the same "
                                                                    "name, which is used"))
                else:
                    found[entry.key] = entry
            step()
        self.entries = list(found.values())

    def __len__(self) -> int:
        return len(self.entries)

    def load(self, number: int) -> Sample:
        """A sample. FileError says what is wrong with it."""
        entry = self.entries[number]
        return unpack(entry.read(), entry.what)

    def page(self, page: int, size: int, step: Callable[[], None] = lambda: None) -> tuple[list[Sample], list[Fault]]:
        """The samples of a page, from 0, and what is wrong with those that are left out. step: called after each sample."""
        samples, faults = [], []
        for number in range(page * size, min((page + 1) * size, len(self))):
            try:
                samples.append(self.load(number))
            except ValueError as error:
                faults.append(Fault(self.entries[number].shard.name, self.entries[number].key, str(error)))
            step()
        return samples, faults

    def check(self, step: Callable[[], None] = lambda: None) -> list[Fault]:
        """Read everything and say what is wrong, and in samples that can be used, what a training will not like."""
        faults = list(self.faults)
        for number, entry in enumerate(self.entries):
            try:
                faults += [Fault(entry.shard.name, entry.key, reason, usable=True) for reason in remarks(self.load(number))]
            except ValueError as error:
                faults.append(Fault(entry.shard.name, entry.key, str(error)))
            step()
        return faults

    def statistics(self, step: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Counts of samples by layers, canvas, licence and source's host, means of the scores, and shares of the canvas.

        Reads only the facts, not the images. layer_area: the mean share of the canvas that a layer's box takes, background
        first. unreadable: samples without valid facts, which are not counted elsewhere.
        """
        layers, canvases, licences = Counter[str](), Counter[str](), Counter[str]()
        scores: dict[str, list[float]] = {}
        areas: dict[int, list[float]] = {}
        unreadable = incomplete = 0
        for entry in self.entries:
            try:
                facts = read_facts(entry.read([FACTS])[FACTS], entry.what)
            except ValueError:
                unreadable += 1
                continue
            width, height = facts["canvas"]
            layers[str(len(facts["layers"]))] += 1
            canvases[f"{width} x {height}"] += 1
            licences[facts["licence"] or "none"] += 1
            incomplete += not facts["background_complete"]
            for name, value in facts["scores"].items():
                scores.setdefault(name, []).append(value)
            for number, layer in enumerate(facts["layers"]):
                left, top, right, bottom = layer["box"]
                areas.setdefault(number, []).append((right - left) * (bottom - top) / max(1, width * height))
            step()
        return {"samples": len(self), "set_aside": len(self.faults), "unreadable": unreadable,
                "layers": dict(sorted(layers.items())),
                "canvases": dict(canvases.most_common(10)), "licences": dict(licences.most_common(10)),
                "background_to_be_inpainted": incomplete,
                "scores": {name: round(sum(values) / len(values), 4) for name, values in sorted(scores.items())},
                "layer_area": {str(n): round(sum(values) / len(values), 4) for n, values in sorted(areas.items())}}


def remarks(sample: Sample) -> list[str]:
    """What a training will not like about a sample that can be loaded."""
    found = [] if sample.prompt.strip() else ["the prompt is empty"]
    canvas_width, canvas_height = sample.document.canvas
    for number, (layer, prompt) in enumerate(zip(sample.document.layers, sample.layer_prompts)):
        if not prompt.strip():
            found.append(f"the prompt of layer {number} is empty")
        if layer.coverage.amax() < EMPTY:
            found.append(f"nothing is visible in layer {number}")
        left, top, right, bottom = layer.bounds
        if right <= 0 or bottom <= 0 or left >= canvas_width or top >= canvas_height:
            found.append(f"layer {number} is outside the canvas")
    if sample.document.layers[0].coverage.amin() < 1 - EMPTY:
        found.append("the background has holes")
    return found


def sheet(samples: list[Sample]) -> Tensor:
    """A contact sheet [1,H,W,3], one row per sample: the composite, then the layers, on a checkerboard, bottom layer first.

    Images are scaled down to 192 pixels.
    """
    columns = 1 + max(len(sample.document.layers) for sample in samples)
    rows = []
    for sample in samples:
        pictures = layer_previews(sample.document)
        height, width = pictures.shape[1:3]
        scale = min(1.0, SHEET_SIDE / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        rows.append(F.interpolate(pictures.movedim(-1, 1), size=size, mode="bilinear", antialias=True).roll(1, 0))
    side = max(max(row.shape[2:]) for row in rows)
    cells = rows[0].new_full((len(rows) * columns, 3, side, side), SHEET_GREY)
    for number, row in enumerate(rows):
        count, _, height, width = row.shape
        top, left = (side - height) // 2, (side - width) // 2
        cells[number * columns : number * columns + count, :, top : top + height, left : left + width] = row
    return contact_sheet(cells.movedim(1, -1), columns)
