"""The world: which place, which things, where and how big, and the words for it (ours; the papers' data is closed)."""

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
HOMES = ("ground", "sky", "any")

# where a slot's middle is, and from how small to how big a size is, in parts of the canvas
SLOT_X = (0.21, 0.5, 0.79)
EXTENTS = ((0.26, 0.32), (0.38, 0.46), (0.52, 0.62))
OVERLAP = 0.34

HELD_OUT_ONE_IN = 20
TRIES = 20_000


@dataclass
class Foreground:
    """One thing: indices into the object set, SLOTS and SIZES."""

    object: int
    slot: int
    size: int


@dataclass
class Scene:
    """A place in a light (index into LIGHTS) with things in a style (index into STYLES), the farthest first."""

    place: str
    light: int
    style: int
    foregrounds: list[Foreground]


def is_held_out(first: str, second: str) -> bool:
    """Whether the pair (place and object name, or two object names, in any order) is kept out of training."""
    return crc32("|".join(sorted((first, second))).encode()) % HELD_OUT_ONE_IN == 0


def holds_held_out(scene: Scene, objects: ObjectSet) -> bool:
    """Whether any two of the scene's place and objects are a held-out pair."""
    words = [scene.place] + [objects.names[foreground.object] for foreground in scene.foregrounds]
    return any(is_held_out(*pair) for pair in combinations(words, 2))


def sample_scene(rng: np.random.Generator, objects: ObjectSet, layers: int, heldout: bool = False) -> Scene:
    """Rolls a scene of `layers` (1 to 4) layers, the background included.

    Without `heldout` no pair in it is held out; with it, at least one is (a bare background has no pairs).
    ValueError for another number of layers, and when the object set is too small for what is asked.
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
    # what is far is mostly small; not always, or the order of layers would give the size away
    depth = {id(foreground): foreground.size + rng.uniform(0, 1.5) for foreground in foregrounds}
    foregrounds.sort(key=lambda foreground: depth[id(foreground)])
    return Scene(place, light, int(rng.integers(objects.images.shape[1])), foregrounds)


def _is_crowded(scene: Scene) -> bool:
    """Whether a thing would hide more than OVERLAP of its smaller neighbour's width."""
    for one, other in combinations(scene.foregrounds, 2):
        gap = abs(SLOT_X[one.slot] - SLOT_X[other.slot])
        widths = [sum(EXTENTS[thing.size]) / 2 for thing in (one, other)]
        if sum(widths) / 2 - gap > OVERLAP * min(widths):
            return True
    return False


STYLE_WORDS = (("3d render of", "3d illustration of"), ("flat drawing of", "flat illustration of"))
LIGHT_WORDS = (("by day", "in daylight"), ("at sunset",), ("at night",))
SLOT_WORDS = (("on the left",), ("in the centre", "in the middle"), ("on the right",))
SIZE_WORDS = (("small", "little"), ("medium-sized",), ("big", "large"))


def captions(scene: Scene, objects: ObjectSet, rng: np.random.Generator, shuffled: bool = True) -> tuple[str, list[str]]:
    """Words for a scene: the global prompt and one prompt a layer, the background's first.

    A layer prompt knows its own thing only. The global prompt also tells style, light, place and size; what it
    leaves out is 3D, day, and anywhere at any size. It names the things in any order, or not `shuffled` in that of
    the layers, the farthest first, for models that know which layer is which from the global prompt alone.
    """
    place = PLACES[scene.place]
    prompts = [_bare(_pick(rng, place.prompts), rng)]
    prompts += [_bare(objects.prompts[foreground.object], rng) for foreground in scene.foregrounds]
    related = rng.random() > 0.15
    things = [_thing(foreground, objects, rng, related) for foreground in scene.foregrounds]
    if shuffled:
        rng.shuffle(things)
    return _sentence(scene, things, rng), prompts


def _sentence(scene: Scene, things: list[str], rng: np.random.Generator) -> str:
    place = PLACES[scene.place]
    where = _pick(rng, place.prompts)
    told = scene.light > 0 or (len(place.lights) > 1 and rng.random() < 0.5)
    light = _pick(rng, LIGHT_WORDS[scene.light]) if told else ""
    style = _pick(rng, STYLE_WORDS[scene.style]) if scene.style or rng.random() < 0.5 else ""
    listed = " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)
    shape = rng.integers(4) if things else 3
    if shape == 1 and " with " in where:
        shape = 3
    if shape == 0:
        body = f"{listed} {place.preposition} {where} {light}"
    elif shape == 1:
        body = f"{where} {light} with {listed}"
    elif shape == 2:
        body = f"{listed}, {where}, {light}" if light else f"{listed}, {where}"
    else:
        body = f"{where} {light}" + (f", {listed}" if things else "")
    return " ".join(f"{style} {body}".split()).replace(" ,", ",")


def _thing(foreground: Foreground, objects: ObjectSet, rng: np.random.Generator, related: bool) -> str:
    words = objects.prompts[foreground.object]
    if not related:
        return words
    if rng.random() < 0.5:
        words = _sized(words, _pick(rng, SIZE_WORDS[foreground.size]))
    if rng.random() < 0.5:
        words += " " + _pick(rng, SLOT_WORDS[foreground.slot])
    return words


def _sized(words: str, size: str) -> str:
    article, _, rest = words.partition(" ")
    if article in ("a", "an", "the"):
        return f"a {size} {rest}" if article != "the" else f"the {size} {rest}"
    return f"{size} {words}"


def _bare(words: str, rng: np.random.Generator) -> str:
    article, _, rest = words.partition(" ")
    return rest if article in ("a", "an", "the") and rng.random() < 0.3 else words


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]
