"""Held-out scenes in which boxes say where objects are to be, and how well drawn masks fit boxes."""

import numpy as np
import torch
from torch import Tensor

from ..evaluator import overlap
from ..world.boxes import box_hints, box_of
from ..world.objects import ObjectSet
from ..world.renderer import Items, Renderer
from .requests import Request, held_out_requests

TRIES = 12
"""How many scenes are drawn for each that is used."""


def open_scenes(objects: ObjectSet, layers: int, hinted: int, count: int, seed: int) -> list[tuple[Request, list[int]]]:
    """`count` held-out scenes of `layers` layers, each with the numbers of `hinted` of its layers whose place and size the prompt
    does not say."""
    rng = np.random.default_rng([seed, layers, hinted])
    found: list[tuple[Request, list[int]]] = []
    for request in held_out_requests(objects, layers, TRIES * count, seed):
        said = zip(request.told.slots, request.told.sizes)
        untold = [layer for layer, both in enumerate(said, 1) if both == (None, None)]
        if len(untold) >= hinted and len(found) < count:
            found.append((request, sorted(rng.choice(untold, hinted, replace=False).tolist())))
    return found


def rendered_box(renderer: Renderer, request: Request, layer: int, slot: int, size: int) -> tuple[Tensor, float]:
    """The box [4], as in `box_of`, of a render of a layer's object in another slot and size, and the IOU of the render's
    mask with its box, the most that a drawing of the object can be expected to reach."""
    scene = request.scene
    fields = (scene.foregrounds[layer - 1].object, scene.style, scene.light, slot, size, scene.side)
    _, coverage = renderer.foregrounds(Items(*(torch.tensor([field], device=renderer.device) for field in fields)))
    box = box_of(coverage)[0]
    return box, float(overlap(coverage, filled_box(box, coverage.shape[-1])))


def filled_box(box: Tensor, side: int) -> Tensor:
    """A box [4] as a mask [1, 1, side, side]."""
    return box_hints(box[None], side)[:, :1]


def fits(coverage: Tensor, box: Tensor) -> tuple[float, float]:
    """How well a drawn mask [1, 1, H, W] fits a box [4], as IOU 0..1: its own bounding box, and the mask itself. Both are 0 for
    an empty mask."""
    if not (coverage > 0.5).any():
        return 0.0, 0.0
    wanted = filled_box(box, coverage.shape[-1])
    around = filled_box(box_of(coverage)[0], coverage.shape[-1])
    return float(overlap(around, wanted)), float(overlap(coverage, wanted))
