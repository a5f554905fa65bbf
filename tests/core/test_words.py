"""Captions: their contents, what they tell about each layer, and their words."""

import re

import numpy as np
import pytest

from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.scenes import LIGHTS, Foreground, Scene, in_depth_order, sample_scene
from layerdiff_core.world.words import LIGHT_WORDS, OTHER_NAMES, SIZE_WORDS, SLOT_WORDS, captions, names_of, told
from tests.world import discs


@pytest.fixture(scope="module")
def objects() -> ObjectSet:
    return discs(40, 8)


def test_captions_hold_what_they_must(objects: ObjectSet) -> None:
    rng = np.random.default_rng(2)
    scene = Scene("meadow", LIGHTS.index("night"), 1, [Foreground(3, 0, 0), Foreground(5, 2, 2)])
    told, silent = set(), 0
    for _ in range(60):
        words, prompts = captions(scene, objects, rng)
        assert words == words.lower() and "  " not in words and len(words.split()) < 45
        assert words.startswith("flat ")
        assert "thing3" in words and "thing5" in words and re.search("meadow|grassy field", words)
        assert "right" not in words.split("thing3")[1].split("thing5")[0]
        assert len(prompts) == 3
        assert re.search("meadow|grassy field", prompts[0])
        assert prompts[1] in ("a thing3", "thing3") and prompts[2] in ("a thing5", "thing5")
        told |= {word for word in ("left", "right", "small", "big", "night") if word in words}
        silent += not re.search("night", words)
    assert told == {"left", "right", "small", "big", "night"}
    assert 10 < silent < 40  # of 60: the light is told in six of ten


@pytest.mark.parametrize("shuffled", [True, False])
def test_things_are_told_in_the_order_of_their_layers_unless_shuffled(objects: ObjectSet, shuffled: bool) -> None:
    rng = np.random.default_rng(2)
    scene = Scene("meadow", 0, 0, [Foreground(5, 2, 2), Foreground(3, 0, 0), Foreground(4, 1, 0)])
    orders = {tuple(re.findall(r"thing\d", captions(scene, objects, rng, shuffled)[0])) for _ in range(60)}
    assert ("thing5", "thing3", "thing4") in orders
    assert (len(orders) > 1) == shuffled


def test_indoors_has_no_light_in_words(objects: ObjectSet) -> None:
    rng = np.random.default_rng(3)
    scene = Scene("studio", 0, 0, [Foreground(0, 1, 1)])
    assert not any("day" in captions(scene, objects, rng)[0] for _ in range(40))


def test_what_is_told_is_read_back(objects: ObjectSet) -> None:
    scene = Scene("meadow", LIGHTS.index("sunset"), 0, [Foreground(3, 0, 0), Foreground(5, 2, 2)], 1)
    said = told(scene, objects, "a green meadow at dusk, a huge thing5 and a thing3 on the left side")
    assert (said.slots, said.sizes, said.light) == ([0, None], [None, 2], 1)
    said = told(scene, objects, "a big thing5 on the right and a tiny thing3, a green meadow")
    assert (said.slots, said.sizes, said.light) == ([None, 2], [0, 2], None)


def test_half_is_told_and_all_sizes_where_they_do_not_fit_the_depth(objects: ObjectSet) -> None:
    rng = np.random.default_rng(1)
    slots, odd = [], 0
    for _ in range(300):
        scene = sample_scene(rng, objects, 4)
        said = told(scene, objects, captions(scene, objects, rng)[0])
        slots += said.slots
        if not in_depth_order(scene):
            odd += 1
            assert said.sizes == [foreground.size for foreground in scene.foregrounds]
    assert odd > 10
    assert 0.35 < sum(slot is not None for slot in slots) / len(slots) < 0.5


def test_other_names_come_with_what_is_told() -> None:
    cats = ObjectSet(discs(1, 8).images, ["cat"], ["a cat"], ["ground"])
    assert names_of(cats, 0) == ("a cat", *OTHER_NAMES["cat"])
    rng, scene, seen = np.random.default_rng(0), Scene("meadow", 0, 0, [Foreground(0, 1, 1)]), set()
    for _ in range(200):
        words, prompts = captions(scene, cats, rng)
        seen.add(prompts[1].removeprefix("a "))
        said = told(scene, cats, words)
        assert (said.slots[0] is None) == (not any(phrase in words for phrase in SLOT_WORDS[1]))
    assert seen == {"cat", "kitty", "kitten"}


def test_no_phrase_means_two_things() -> None:
    for group in (LIGHT_WORDS, SLOT_WORDS, SIZE_WORDS):
        phrases = [phrase for words in group for phrase in words]
        assert len(set(phrases)) == len(phrases)
    others = [name for names in OTHER_NAMES.values() for name in names]
    assert len(set(others)) == len(others)
