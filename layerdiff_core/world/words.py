"""Captions for scenes, what they tell about each layer, and other names for objects.

Ours; the papers' captions are from a captioning model. A layer prompt only mentions its own object. The global prompt also
mentions some or all of style, light, position and size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .backgrounds import PLACES
from .objects import ObjectSet
from .scenes import Foreground, Scene, in_depth_order

STYLE_WORDS = (("3d render of", "3d illustration of"), ("flat drawing of", "flat illustration of"))
LIGHT_WORDS = (("by day", "in daylight", "at noon"), ("at sunset", "at dusk", "in the evening"), ("at night", "by night"))
SLOT_WORDS = (
    ("on the left", "on the left side", "to the left"),
    ("in the centre", "in the middle", "in the center"),
    ("on the right", "on the right side", "to the right"),
)
SIZE_WORDS = (("small", "little", "tiny"), ("medium-sized", "middle-sized"), ("big", "large", "huge"))
# Other names that users may have for an object, by its name in the object list.
OTHER_NAMES = {
    "cat": ("a kitty", "a kitten"), "rabbit": ("a bunny",), "dog": ("a puppy",), "teddy bear": ("a bear", "a teddy"),
    "red car": ("a car",), "airplane": ("a plane", "an aeroplane"), "sailboat": ("a boat",), "bicycle": ("a bike",),
    "steam locomotive": ("a train",), "fire engine": ("a fire truck",), "hamburger": ("a burger",),
    "ice cream cone": ("an ice cream",), "doughnut": ("a donut",), "birthday cake": ("a cake",), "fir tree": ("a pine tree",),
    "leafy tree": ("a tree", "a green tree"), "red mushroom": ("a mushroom",), "house": ("a cottage",),
    "soccer ball": ("a football",), "red balloon": ("a balloon",), "gift box": ("a present",), "golden crown": ("a crown",),
    "halloween pumpkin": ("a pumpkin",), "yellow star": ("a star",), "red apple": ("an apple",), "red rose": ("a rose",),
    "slice of watermelon": ("a watermelon",), "slice of pizza": ("a pizza",),
}
OTHER_NAME_SHARE, UNRELATED_SHARE, TOLD_SHARE, LIGHT_TOLD_SHARE, AT_SHARE = 0.25, 0.15, 0.5, 0.6, 0.2


@dataclass
class Told:
    """What a global prompt tells: for each object, bottom first, its slot and size, as indices into SLOTS and SIZES, and the
    light, as an index into LIGHTS; None if it does not say."""

    slots: list[int | None]
    sizes: list[int | None]
    light: int | None


def names_of(objects: ObjectSet, index: int) -> tuple[str, ...]:
    """All noun phrases for an object, the canonical one first."""
    return objects.prompts[index], *OTHER_NAMES.get(objects.names[index], ())


def places_of(name: str) -> tuple[str, ...]:
    """All noun phrases for a place, the canonical one first."""
    return *PLACES[name].prompts, f"the {name}"


def captions(scene: Scene, objects: ObjectSet, rng: np.random.Generator, shuffled: bool = True,
             placed: bool = True) -> tuple[str, list[str]]:
    """Captions for a scene: the global prompt and one prompt per layer, background first.

    Unless the global prompt says otherwise, objects are 3D, anywhere, in any light that the place has, and of any size that
    fits their depth. If an object is larger than one in front of it, the global prompt mentions all sizes. shuffled: it names
    the objects in any order; otherwise in the order of the layers, farthest first, for models that know only from it which
    layer is which. placed: it may mention slots and sizes.
    """
    prompts = [_bare(_pick(rng, places_of(scene.place)), rng)]
    prompts += [_bare(_name(rng, objects, foreground), rng) for foreground in scene.foregrounds]
    ordered = in_depth_order(scene)
    related = placed and (not ordered or rng.random() > UNRELATED_SHARE)
    things = [_thing(foreground, objects, rng, related, not ordered) for foreground in scene.foregrounds]
    if shuffled:
        rng.shuffle(things)
    return _sentence(scene, things, rng), prompts


def told(scene: Scene, objects: ObjectSet, global_prompt: str) -> Told:
    """What a global prompt from `captions` tells about its scene."""
    slots: list[int | None] = []
    sizes: list[int | None] = []
    for foreground in scene.foregrounds:
        nouns = [_without_article(name) for name in names_of(objects, foreground.object)]
        slot_told = any(f"{noun} {words}" in global_prompt for noun in nouns for words in SLOT_WORDS[foreground.slot])
        size_told = any(f"{words} {noun}" in global_prompt for noun in nouns for words in SIZE_WORDS[foreground.size])
        slots.append(foreground.slot if slot_told else None)
        sizes.append(foreground.size if size_told else None)
    light_told = any(words in global_prompt for words in LIGHT_WORDS[scene.light])
    return Told(slots, sizes, scene.light if light_told else None)


def _sentence(scene: Scene, things: list[str], rng: np.random.Generator) -> str:
    place = PLACES[scene.place]
    where = _pick(rng, places_of(scene.place))
    preposition = "at" if rng.random() < AT_SHARE else place.preposition
    light_told = len(place.lights) > 1 and rng.random() < LIGHT_TOLD_SHARE
    light = _pick(rng, LIGHT_WORDS[scene.light]) if light_told else ""
    style = _pick(rng, STYLE_WORDS[scene.style]) if scene.style or rng.random() < 0.5 else ""
    listed = " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)
    shape = rng.integers(4) if things else 3
    if shape == 1 and " with " in where:
        shape = 3
    if shape == 0:
        body = f"{listed} {preposition} {where} {light}"
    elif shape == 1:
        body = f"{where} {light} with {listed}"
    elif shape == 2:
        body = f"{listed}, {where}, {light}" if light else f"{listed}, {where}"
    else:
        body = f"{where} {light}" + (f", {listed}" if things else "")
    return " ".join(f"{style} {body}".split()).replace(" ,", ",")


def _thing(foreground: Foreground, objects: ObjectSet, rng: np.random.Generator, related: bool, size_told: bool) -> str:
    words = _name(rng, objects, foreground)
    if not related:
        return words
    if size_told or rng.random() < TOLD_SHARE:
        words = _sized(words, _pick(rng, SIZE_WORDS[foreground.size]))
    if rng.random() < TOLD_SHARE:
        words += " " + _pick(rng, SLOT_WORDS[foreground.slot])
    return words


def _name(rng: np.random.Generator, objects: ObjectSet, foreground: Foreground) -> str:
    canonical, *others = names_of(objects, foreground.object)
    return _pick(rng, tuple(others)) if others and rng.random() < OTHER_NAME_SHARE else canonical


def _sized(words: str, size: str) -> str:
    article, _, rest = words.partition(" ")
    if article in ("a", "an", "the"):
        return f"a {size} {rest}" if article != "the" else f"the {size} {rest}"
    return f"{size} {words}"


def _without_article(words: str) -> str:
    article, _, rest = words.partition(" ")
    return rest if article in ("a", "an", "the") else words


def _bare(words: str, rng: np.random.Generator) -> str:
    return _without_article(words) if rng.random() < 0.3 else words


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]
