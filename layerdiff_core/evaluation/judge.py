"""The judge's verdicts on generated scenes, and the metrics computed from them."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..evaluator import Evaluator, agreement
from ..world.backgrounds import PLACES
from ..world.render import compose
from ..world.scenes import SLOT_X
from .requests import Request

WORST = 10


@dataclass
class Judge:
    """The trained evaluator, in evaluation mode, and the names of the objects and places that it can tell apart."""

    evaluator: Evaluator
    objects: list[str]
    places: list[str]

    @property
    def device(self) -> torch.device:
        return next(self.evaluator.parameters()).device


@dataclass
class Drawn:
    """Generated scenes with the same number of layers K, layers innermost, all in 0..1.

    own: [B * K, 3, H, W], the layers' images as decoded by the VAE. pictures: the same as output by the decode node, with
    colours extended beyond the mask. coverage: [B * K, 1, H, W], 1 where a layer is. composites: [B, 3, H, W].
    """

    layers: int
    own: Tensor
    pictures: Tensor
    coverage: Tensor
    composites: Tensor


@dataclass
class Verdict:
    """The judge's verdict on one scene: the place it sees; and for each foreground, bottom first, the object it sees (None if
    the mask is empty), how well the mask fits the object, as IOU 0..1, with the object found in the composed image and in the
    layer's image alone, and the slot closest to the centre of the mask, as an index into SLOTS (None if the mask is empty)."""

    request: Request
    place: str
    things: list[str | None]
    agreements: list[float]
    agreements_alone: list[float]
    slots: list[int | None]


def load_judge(path: Path, device: torch.device) -> Judge:
    """Read the file written by `export`. ValueError if it is for a different world than this version paints."""
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a handle, not a dict
    objects, places = json.loads(facts["objects"]), json.loads(facts["places"])
    if places != list(PLACES):
        raise ValueError(f"{path.name} was trained on other places than this version paints. Train and export the evaluator "
                         "anew.")
    evaluator = Evaluator(len(objects), len(places))
    evaluator.load_state_dict(tensors)
    return Judge(evaluator.float().train(False).requires_grad_(False).to(device), objects, places)


@torch.no_grad()
def judge_scenes(judge: Judge, requests: list[Request], drawn: Drawn) -> list[Verdict]:
    """One verdict per scene.

    An object is recognised from its layer's image, cut out by the layer's mask; the place from layer 0 alone. The mask is
    compared with the outline that the judge finds in the layer over the scene's background (IOU with a segmentation of the
    composed image, as in Text2Layer; ours: layer by layer, so that nothing is hidden), and with the outline that it finds in
    the layer's own image, without extended colours, which would reveal the mask. A mask that never reaches 0.5 is empty: no
    object, and an agreement of 0.
    """
    own, pictures, coverage = (part.to(judge.device).float().unflatten(0, (len(requests), drawn.layers))
                               for part in (drawn.own, drawn.pictures, drawn.coverage))
    places = judge.evaluator.place_logits(pictures[:, 0]).argmax(1).tolist()
    each = drawn.layers - 1
    backgrounds = pictures[:, 0].repeat_interleave(each, 0)
    own, pictures, coverage = (part[:, 1:].flatten(0, 1) for part in (own, pictures, coverage))
    empty = (coverage <= 0.5).flatten(1).all(1)
    things = judge.evaluator.thing_logits(pictures, coverage).argmax(1)
    composed, alone = (agreement(judge.evaluator, shown, coverage).masked_fill(empty, 0).tolist()
                       for shown in (compose(backgrounds, [pictures], [coverage]), own))
    names = [None if nothing else judge.objects[thing] for nothing, thing in zip(empty.tolist(), things.tolist())]
    slots = [None if nothing else slot for nothing, slot in zip(empty.tolist(), nearest_slots(coverage))]
    parts = [slice(n * each, (n + 1) * each) for n in range(len(requests))]
    return [Verdict(request, judge.places[place], names[part], composed[part], alone[part], slots[part])
            for request, place, part in zip(requests, places, parts)]


def nearest_slots(coverage: Tensor) -> list[int]:
    """The slot closest to each mask's centre of mass. coverage: [N, 1, H, W]."""
    columns = coverage.flatten(1, 2).sum(1)
    x = (torch.arange(columns.shape[1], device=columns.device) + 0.5) / columns.shape[1]
    middle = (columns * x).sum(1) / columns.sum(1).clamp_min(1e-6)
    return (middle[:, None] - middle.new_tensor(SLOT_X)).abs().argmin(1).tolist()


def figures(judge: Judge, verdicts: dict[int, list[Verdict]]) -> dict[str, dict[str, float]]:
    """The metrics for each number of layers: the shares of correct layers and places, the mean agreement of masks, and the share
    of objects in the right position, among those whose position the prompt mentions (1 if there are none)."""
    return {
        "layer_prompt_accuracy": {str(layers): mean(right for verdict in group for right in rights(judge, verdict))
                                  for layers, group in verdicts.items()},
        "background_accuracy": {str(layers): mean(verdict.place == verdict.request.scene.place for verdict in group)
                                for layers, group in verdicts.items()},
        "mask_agreement": {str(layers): mean(value for verdict in group for value in verdict.agreements)
                           for layers, group in verdicts.items()},
        "mask_agreement_alone": {str(layers): mean(value for verdict in group for value in verdict.agreements_alone)
                                 for layers, group in verdicts.items()},
        "slot_accuracy": {str(layers): mean([found == told for verdict in group
                                             for found, told in zip(verdict.slots, verdict.request.told.slots)
                                             if told is not None] or [True])
                          for layers, group in verdicts.items()},
    }


def rights(judge: Judge, verdict: Verdict) -> list[bool]:
    """For each foreground, whether the judge sees the requested object."""
    return [seen == judge.objects[wanted] for seen, wanted in zip(verdict.things, verdict.request.objects)]


def worst_objects(judge: Judge, verdicts: Iterable[Verdict]) -> dict[str, dict[str, Any]]:
    """The objects that are recognised least often when requested, worst first: the accuracy, the number of requests, and what
    was seen most often instead."""
    asked: Counter[str] = Counter()
    seen_instead: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        for wanted, seen in zip(verdict.request.objects, verdict.things):
            name = judge.objects[wanted]
            asked[name] += 1
            if seen != name:
                seen_instead.setdefault(name, Counter())[seen or "nothing"] += 1
    found: dict[str, dict[str, Any]] = {
        name: {"accuracy": round(1 - wrong.total() / asked[name], 4), "asked": asked[name],
               "seen_instead": wrong.most_common(1)[0][0]} for name, wrong in seen_instead.items()}
    return dict(sorted(found.items(), key=lambda entry: entry[1]["accuracy"])[:WORST])


def mean(values: Iterable[float]) -> float:
    """The mean, rounded to four decimal places."""
    numbers = list(values)
    return round(sum(numbers) / len(numbers), 4)
