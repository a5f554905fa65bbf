"""The rendered world: reproducible from a seed, without held-out pairs in training, with correct captions and clean images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerdiff_core.world.backgrounds import PLACES, render_background
from layerdiff_core.world.objects import ObjectSet, load_objects, read_list
from layerdiff_core.world.render import SHADING, compose, draw_foregrounds
from layerdiff_core.world.scenes import (
    HOMES,
    LIGHTS,
    SIZES,
    SLOTS,
    holds_held_out,
    in_depth_order,
    is_held_out,
    sample_scene,
)
from layerdiff_core.world.words import captions
from tests.world import discs

COUNT, SIDE = 40, 64


@pytest.fixture(scope="module")
def objects() -> ObjectSet:
    return discs(COUNT, SIDE)


def draw(
    objects: ObjectSet, count: int = 24, light: int = 0, size: int = 1, slot: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Index, home, image and coverage of the first objects, drawn on canvases of 64 pixels."""
    index = torch.arange(count) % len(objects)
    home = torch.tensor([HOMES.index(objects.homes[i]) for i in index])
    style, lights, sizes, slots = (torch.full_like(index, value) for value in (0, light, size, slot))
    generator = torch.Generator().manual_seed(0)
    picture, coverage = draw_foregrounds(objects.images, index, style, lights, sizes, slots, home, generator, 64)
    return index, home, picture, coverage


def test_scenes_repeat_from_a_seed(objects: ObjectSet) -> None:
    def roll() -> list:
        rng = np.random.default_rng(5)
        scenes = [sample_scene(rng, objects, 1 + i % 4) for i in range(20)]
        return [(scene, captions(scene, objects, rng)) for scene in scenes]

    assert roll() == roll()


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_held_out_pairs_never_mix(objects: ObjectSet, layers: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        assert not holds_held_out(sample_scene(rng, objects, layers), objects)
        assert holds_held_out(sample_scene(rng, objects, layers, heldout=True), objects)


def test_held_out_share_and_order() -> None:
    pairs = [(place, entry["name"]) for place in PLACES for entry in read_list()]
    share = sum(is_held_out(*pair) for pair in pairs) / len(pairs)
    assert 0.03 < share < 0.07
    assert all(is_held_out(a, b) == is_held_out(b, a) for a, b in pairs)


def test_scene_has_distinct_things_in_distinct_slots(objects: ObjectSet) -> None:
    rng = np.random.default_rng(1)
    for i in range(200):
        scene = sample_scene(rng, objects, 1 + i % 4)
        things = scene.foregrounds
        assert len(things) == i % 4
        assert len({thing.object for thing in things}) == len({thing.slot for thing in things}) == len(things)
        assert LIGHTS[scene.light] in PLACES[scene.place].lights


def test_scene_that_cannot_be_is_refused(objects: ObjectSet) -> None:
    lone = ObjectSet(objects.images[:1], ["x"], ["an x"], ["any"])
    with pytest.raises(ValueError, match="4 layers"):
        sample_scene(np.random.default_rng(0), lone, 4)


def test_what_is_farther_is_no_larger_but_in_some_scenes(objects: ObjectSet) -> None:
    rng = np.random.default_rng(4)
    scenes = [sample_scene(rng, objects, 4) for _ in range(400)]
    assert 0.7 < sum(map(in_depth_order, scenes)) / len(scenes) < 0.95
    assert {scene.side for scene in scenes} == {0, 1}


def test_light_comes_from_the_side_that_is_asked_for(objects: ObjectSet) -> None:
    index = torch.arange(8)
    zeros = torch.zeros_like(index)

    def lit(side: int) -> torch.Tensor:
        picture, coverage = draw_foregrounds(objects.images, index, zeros, zeros, zeros + 2, zeros + 1, zeros,
                                             torch.Generator().manual_seed(0), 64, zeros + side)
        half = (picture * coverage).sum(1)
        return half[..., 32:].sum((1, 2)) - half[..., :32].sum((1, 2))

    assert (lit(1) - lit(0) > 50).all()


@pytest.mark.parametrize("place", PLACES)
def test_places_are_lit_from_the_left(place: str) -> None:
    pictures = np.stack([render_background(place, "day", np.random.default_rng(seed), 64) for seed in range(12)]).astype(float)
    assert pictures[:, :, :32].mean() > pictures[:, :, 32:].mean()


@pytest.mark.parametrize("place", PLACES)
def test_background_repeats_varies_and_shows_its_light(place: str) -> None:
    seen = []
    for light in PLACES[place].lights:
        first, again, other = (render_background(place, light, np.random.default_rng(s), 64) for s in (1, 1, 2))
        assert first.shape == (64, 64, 3) and first.dtype == np.uint8
        assert (first == again).all() and (first != other).any()
        seen.append(first.mean((0, 1)))
    if len(seen) == 3:
        day, sunset, night = seen
        assert day.sum() > 1.5 * night.sum()
        assert sunset[0] / sunset[2] > 1.3 * day[0] / day[2]


def test_background_at_an_odd_size() -> None:
    assert render_background("city", "night", np.random.default_rng(0), 97).shape == (97, 97, 3)


@pytest.mark.parametrize(("place", "light"), [("mars", "day"), ("studio", "night")])
def test_background_that_is_not_known_is_refused(place: str, light: str) -> None:
    with pytest.raises(ValueError, match=place):
        render_background(place, light, np.random.default_rng(0), 32)


def test_drawing_repeats_and_stays_in_range(objects: ObjectSet) -> None:
    _, _, picture, coverage = draw(objects)
    _, _, again, _ = draw(objects)
    assert picture.shape == (24, 3, 64, 64) and coverage.shape == (24, 1, 64, 64)
    assert torch.equal(picture, again)
    for values in (picture, coverage):
        assert values.min() >= 0 and values.max() <= 1
    assert (coverage.amax((1, 2, 3)) > 0.99).all()


def test_colours_go_on_outside_without_a_halo(objects: ObjectSet) -> None:
    _, _, picture, coverage = draw(objects)
    middle = (picture * (coverage > 0.99)).sum((2, 3)) / (coverage > 0.99).sum((2, 3))
    share = picture / middle[:, :, None, None]
    assert share.min() > 1 - SHADING - 0.04 and share.max() < 1 + SHADING + 0.04  # one side is lit


@pytest.mark.parametrize("size", range(len(SIZES)))
@pytest.mark.parametrize("slot", range(len(SLOTS)))
def test_placement(objects: ObjectSet, size: int, slot: int) -> None:
    _, home, _, coverage = draw(objects, count=40, size=size, slot=slot)
    area = coverage.sum((1, 2, 3))
    steps = (torch.arange(64) + 0.5) / 64
    x = (coverage.sum((1, 2)) * steps).sum(1) / area
    y = (coverage.sum((1, 3)) * steps).sum(1) / area
    assert (x.mean() - (0.22, 0.5, 0.78)[slot]).abs() < 0.09
    full = torch.pi / 4 * torch.tensor((0.26, 0.38, 0.52)[size]) ** 2 * 64**2
    assert (area > 0.88 * full).all()
    assert y[home == 1].max() < 0.45 < y[home == 0].min()


def test_night_is_darker_and_sunset_warmer(objects: ObjectSet) -> None:
    day, sunset, night = (draw(objects, light=light)[2].mean((2, 3)) for light in range(3))
    assert (night.sum(1) < 0.75 * day.sum(1)).all()
    assert (sunset[:, 0] / sunset[:, 2] > 1.3 * day[:, 0] / day[:, 2]).all()


def test_compose_lays_the_last_on_top() -> None:
    background = torch.zeros(1, 3, 2, 2)
    pictures = [torch.full((1, 3, 2, 2), 0.5), torch.ones(1, 3, 2, 2)]
    coverages = [torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)]
    assert torch.allclose(compose(background, pictures, coverages), torch.full((1, 3, 2, 2), 0.75))


def test_the_list_is_sound() -> None:
    entries = read_list()
    assert len(entries) >= 320
    for key in ("code", "name", "prompt"):
        assert len({entry[key] for entry in entries}) == len(entries)
    for entry in entries:
        assert entry["home"] in HOMES and entry["name"] in entry["prompt"]
        assert entry["prompt"] == entry["prompt"].lower()


def test_objects_are_read_as_written(objects: ObjectSet, tmp_path: Path) -> None:
    facts = [{"name": "fox", "prompt": "a fox", "home": "ground"}]
    save_file({"images": objects.images[:1].contiguous()}, tmp_path / "o.safetensors", {"objects": json.dumps(facts)})
    read = load_objects(tmp_path / "o.safetensors")
    assert torch.equal(read.images, objects.images[:1])
    assert (read.names, read.prompts, read.homes) == (["fox"], ["a fox"], ["ground"])
