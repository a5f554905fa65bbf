"""The world: which place, which objects, where, how large and in which light (ours; the papers' data is not public).

Layers depend on each other: all layers of a scene share the light and the side it comes from, no two objects share a slot, and
objects farther away are not larger, unless the prompt says so (`words.captions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from zlib import crc32

import numpy as np

from .backgrounds import PLACES
from .objects import ObjectSet

LIGHTS = ("day", "sunset", "night")
STYLES = ("3d", "flat")
SLOTS = ("left", "centre", "right")
SIZES = ("small", "medium", "big")
SIDES = ("left", "right")
"""Where a scene's light comes from. No prompt mentions it, so that the layers have to agree on it."""
HOMES = ("ground", "sky", "any")

# The centre of each slot, and the range of each size, as fractions of the canvas.
SLOT_X = (0.21, 0.5, 0.79)
EXTENTS = ((0.26, 0.32), (0.38, 0.46), (0.52, 0.62))
OVERLAP = 0.34

HELD_OUT_ONE_IN = 20
TRIES = 20_000
ODD_DEPTHS = 0.25
"""The share of scenes in which sizes need not match depths."""


@dataclass
class Foreground:
    """An object: indices into the object set, SLOTS and SIZES."""

    object: int
    slot: int
    size: int


@dataclass
class Scene:
    """A place in a light (index into LIGHTS) from a side (index into SIDES), with objects in a style (index into STYLES),
    farthest first."""

    place: str
    light: int
    style: int
    foregrounds: list[Foreground]
    side: int = 0


def is_held_out(first: str, second: str) -> bool:
    """Whether a pair (place and object, or two objects, by name, in any order) is held out from training."""
    return crc32("|".join(sorted((first, second))).encode()) % HELD_OUT_ONE_IN == 0


def holds_held_out(scene: Scene, objects: ObjectSet) -> bool:
    """Whether any two among the scene's place and objects are a held-out pair."""
    words = [scene.place] + [objects.names[foreground.object] for foreground in scene.foregrounds]
    return any(is_held_out(*pair) for pair in combinations(words, 2))


def in_depth_order(scene: Scene) -> bool:
    """Whether no object is larger than one in front of it."""
    sizes = [foreground.size for foreground in scene.foregrounds]
    return sizes == sorted(sizes)


def sample_scene(rng: np.random.Generator, objects: ObjectSet, layers: int, heldout: bool = False) -> Scene:
    """A random scene with 1 to 4 layers, including the background.

    heldout: whether it has at least one held-out pair (a background alone has none); otherwise it has none. ValueError for
    another number of layers, and if the object set is too small.
    """
    if not 1 <= layers <= len(SLOTS) + 1 or layers > len(objects) + 1:
        raise ValueError(
            f"a scene of {layers} layers from {len(objects)} objects: it can have 1 to {len(SLOTS) + 1}, "
            "and each thing once"
        )
    for _ in range(TRIES):
        scene = _roll(rng, objects, layers)
        if _is_crowded(scene):
            continue
        if layers == 1 or holds_held_out(scene, objects) == heldout:
            return scene
    raise ValueError(
        f"no {'held-out' if heldout else 'training'} scene of {layers} layers found among {len(objects)} objects; "
        "use a larger object set"
    )


def _roll(rng: np.random.Generator, objects: ObjectSet, layers: int) -> Scene:
    place = list(PLACES)[rng.integers(len(PLACES))]
    light = LIGHTS.index(PLACES[place].lights[rng.integers(len(PLACES[place].lights))])
    count = layers - 1
    things = rng.choice(len(objects), count, replace=False)
    slots = rng.permutation(len(SLOTS))[:count]
    sizes = rng.choice(len(SIZES), count, p=(0.2, 0.5, 0.3))
    foregrounds = [Foreground(int(o), int(s), int(z)) for o, s, z in zip(things, slots, sizes)]
    if rng.random() >= ODD_DEPTHS:
        foregrounds.sort(key=lambda foreground: foreground.size)
    return Scene(place, light, int(rng.integers(objects.images.shape[1])), foregrounds, int(rng.integers(len(SIDES))))


def _is_crowded(scene: Scene) -> bool:
    """Whether an object would hide more than OVERLAP of its smaller neighbour's width."""
    for one, other in combinations(scene.foregrounds, 2):
        gap = abs(SLOT_X[one.slot] - SLOT_X[other.slot])
        widths = [sum(EXTENTS[thing.size]) / 2 for thing in (one, other)]
        if sum(widths) / 2 - gap > OVERLAP * min(widths):
            return True
    return False
