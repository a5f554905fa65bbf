"""Edits of held-out scenes that a judge can recognise: another object in a layer, an added layer, another style or light."""

from dataclasses import dataclass, replace

import numpy as np

from ..world.backgrounds import PLACES
from ..world.objects import ObjectSet
from ..world.scenes import LIGHTS, Scene
from ..world.words import captions
from .requests import Request, held_out_requests, request_of

TRIES = 200


@dataclass
class Edit:
    """A scene before an edit, the scene after it, described in the same words as far as possible, and the number of the layer
    that is redrawn."""

    before: Request
    after: Request
    layer: int


def replacements(objects: ObjectSet, layers: int, count: int, seed: int) -> list[Edit]:
    """`count` held-out scenes of `layers` layers in which one object becomes another, in the same slot and size."""
    rng = np.random.default_rng([seed, layers, 1])
    edits = []
    for request in held_out_requests(objects, layers, count, seed):
        layer = int(rng.integers(1, layers))
        others = [thing for thing in range(len(objects)) if thing not in request.objects]
        things = list(request.scene.foregrounds)
        things[layer - 1] = replace(things[layer - 1], object=int(rng.choice(others)))
        edits.append(_edit(request.scene, replace(request.scene, foregrounds=things), objects, layer, rng))
    return edits


def additions(objects: ObjectSet, layers: int, count: int, seed: int) -> list[Edit]:
    """`count` held-out scenes of `layers` layers, one of which is missing at first. It can be any layer above the background."""
    rng = np.random.default_rng([seed, layers, 2])
    edits = []
    for request in held_out_requests(objects, layers, count, seed):
        layer = int(rng.integers(1, layers))
        fewer = [thing for number, thing in enumerate(request.scene.foregrounds, 1) if number != layer]
        edits.append(_edit(replace(request.scene, foregrounds=fewer), request.scene, objects, layer, rng))
    return edits


def restylings(objects: ObjectSet, layers: int, count: int, seed: int) -> list[Edit]:
    """`count` held-out scenes of `layers` layers, and any object that gets another style. The prompts stay as they are."""
    rng = np.random.default_rng([seed, layers, 4])
    return [Edit(request, request, int(rng.integers(1, layers))) for request in held_out_requests(objects, layers, count, seed)]


def relightings(objects: ObjectSet, layers: int, count: int, seed: int) -> list[Edit]:
    """`count` held-out scenes that change to another of the place's lights; the prompts name both. layer: that of any object."""
    rng = np.random.default_rng([seed, layers, 3])
    edits: list[Edit] = []
    for request in held_out_requests(objects, layers, TRIES + 4 * count, seed):
        scene = request.scene
        lights = [LIGHTS.index(light) for light in PLACES[scene.place].lights if light != LIGHTS[scene.light]]
        if not lights or len(edits) == count:
            continue
        after, layer = replace(scene, light=int(rng.choice(lights))), int(rng.integers(1, layers))
        edit = _edit(scene, after, objects, layer, rng)
        while edit.before.told.light is None or edit.after.told.light is None:
            edit = _edit(scene, after, objects, layer, rng)
        edits.append(edit)
    return edits


def _edit(before: Scene, after: Scene, objects: ObjectSet, layer: int, rng: np.random.Generator) -> Edit:
    words = int(rng.integers(1 << 32))

    def asked(scene: Scene) -> Request:
        return request_of(scene, objects, *captions(scene, objects, np.random.default_rng(words)))

    return Edit(asked(before), asked(after), layer)
