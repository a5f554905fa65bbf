"""Procedurally painted places, in the soft style of the object images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import interiors, tended, wild
from .paint import Canvas

OUTDOORS = ("day", "sunset", "night")
INDOORS = ("day",)


@dataclass(frozen=True)
class Place:
    """prompts: noun phrases, the canonical one first. preposition: the word before them. lights: the lights it can have."""

    prompts: tuple[str, ...]
    preposition: str
    lights: tuple[str, ...]
    paint: Callable[[Canvas], None]


PLACES: dict[str, Place] = {
    "meadow": Place(("a green meadow", "a meadow with soft hills", "a grassy field"), "in", OUTDOORS, wild.meadow),
    "beach": Place(("a sandy beach", "a beach by the sea", "a tropical beach"), "on", OUTDOORS, wild.beach),
    "sea": Place(("the open sea", "the sea with gentle waves", "the blue ocean"), "on", OUTDOORS, wild.sea),
    "misty hills": Place(("misty hills", "blue hills in the mist", "rolling misty hills"), "in", OUTDOORS, wild.hills),
    "snowy mountains": Place(
        ("snowy mountains", "high mountains with snow", "snow-capped peaks"), "in", OUTDOORS, wild.mountains
    ),
    "desert": Place(("a sandy desert", "a desert with dunes", "golden sand dunes"), "in", OUTDOORS, wild.desert),
    "pine forest": Place(("a pine forest", "a forest of fir trees", "a green forest"), "in", OUTDOORS, wild.forest),
    "autumn forest": Place(
        ("an autumn forest", "an autumn wood", "a forest in autumn colours"), "in", OUTDOORS, wild.autumn
    ),
    "flower field": Place(
        ("a flower field", "a field of tulips", "rows of colourful flowers"), "in", OUTDOORS, tended.flowers
    ),
    "mountain lake": Place(
        ("a mountain lake", "a lake with mountains", "a calm lake below mountains"), "at", OUTDOORS, wild.lake
    ),
    "canyon": Place(("a red canyon", "a canyon with red rocks", "red rock mesas"), "in", OUTDOORS, wild.canyon),
    "snowy field": Place(
        ("a snowy field", "a winter field with falling snow", "a winter landscape"), "in", OUTDOORS, wild.winter
    ),
    "city": Place(("a city skyline", "a big city", "a city with tall buildings"), "in front of", OUTDOORS, tended.city),
    "country road": Place(("a country road", "a road through fields", "an open road"), "on", OUTDOORS, tended.road),
    "rice terraces": Place(
        ("rice terraces", "green rice terraces", "terraced rice fields"), "on", OUTDOORS, tended.terraces
    ),
    "candy land": Place(("a candy land", "pink candy hills", "a land of sweets"), "in", OUTDOORS, tended.candy),
    "outer space": Place(
        ("outer space", "outer space with a nebula", "a starry nebula"), "in", INDOORS, interiors.space
    ),
    "underwater": Place(
        ("an underwater scene", "the bottom of the sea", "a seabed with seaweed"), "in", INDOORS, interiors.underwater
    ),
    "wooden table": Place(("a wooden table", "a table of wood", "a wooden tabletop"), "on", INDOORS, interiors.table),
    "studio": Place(
        ("a pastel studio", "a plain studio background", "a soft pastel backdrop"), "in", INDOORS, interiors.studio
    ),
    "living room": Place(
        ("a living room", "a cosy room", "a living room with a window"), "in", INDOORS, interiors.room
    ),
    "stage": Place(
        ("a theatre stage", "a stage with red curtains", "a stage in a spotlight"), "on", INDOORS, interiors.stage
    ),
}


def render_background(place: str, light: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """Paint a place: uint8 [size, size, 3]. ValueError for an unknown place or a light that it cannot have."""
    if place not in PLACES:
        raise ValueError(f"no place named '{place}'; there are: {', '.join(PLACES)}")
    if light not in PLACES[place].lights:
        raise ValueError(f"'{place}' has no light '{light}'; it has: {', '.join(PLACES[place].lights)}")
    canvas = Canvas(light, rng, size)
    PLACES[place].paint(canvas)
    return canvas.finish()
