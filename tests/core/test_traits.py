"""Size and light of objects: measured correctly in the world's own renders, and counted if the prompt mentions them."""

import pytest
import torch

from layerdiff_core.evaluation.judge import Drawn
from layerdiff_core.evaluation.renders import scene_layers
from layerdiff_core.evaluation.requests import Request, held_out_requests
from layerdiff_core.evaluation.traits import Traits, references, trait_figures, traits_of
from layerdiff_core.world.backgrounds import PLACES
from layerdiff_core.world.render import TINTS
from layerdiff_core.world.renderer import Renderer
from layerdiff_core.world.scenes import LIGHTS
from layerdiff_core.world.words import Told
from tests.world import discs

SIDE = 64


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    """Places that are grey, in the tint of their light."""
    pairs = torch.tensor([(p, light) for p, place in enumerate(PLACES.values()) for light in range(len(place.lights))])
    pictures = (torch.tensor(TINTS)[pairs[:, 1]] * 200).byte()[:, None, None].expand(-1, SIDE, SIDE, -1)
    objects = discs(40, SIDE)
    objects.images = objects.images[:, :1]
    return Renderer(objects, {"pictures": pictures, "place": pairs[:, 0], "light": pairs[:, 1]}, SIDE, torch.device("cpu"), 1)


def shown(renderer: Renderer, requests: list[Request]) -> Drawn:
    layers = scene_layers(renderer, [request.scene for request in requests])
    every = torch.cat([layers.background[:, None], layers.foregrounds], 1).flatten(0, 1)
    cover = torch.cat([torch.ones_like(layers.masks[:, :1]), layers.masks], 1).flatten(0, 1)
    return Drawn(layers.masks.shape[1] + 1, every, every, cover, layers.composite())


def test_the_worlds_own_renders_have_their_traits(renderer: Renderer) -> None:
    asked = held_out_requests(renderer.objects, 3, 60, seed=2)
    found = traits_of(references(renderer.objects, renderer), asked, shown(renderer, asked))
    sizes = [seen == thing.size for each in found for seen, thing in zip(each.sizes, each.request.scene.foregrounds)]
    lights = [seen == each.request.scene.light for each in found for seen in (*each.lights, each.place_light)]
    assert sum(sizes) / len(sizes) > 0.98 and sum(lights) / len(lights) > 0.98
    assert {each.request.scene.light for each in found} == set(range(len(LIGHTS)))
    assert trait_figures({3: found})["light_agreement"]["3"] > 0.97


def test_empty_masks_have_no_traits(renderer: Renderer) -> None:
    asked = held_out_requests(renderer.objects, 2, 3, seed=2)
    drawn = shown(renderer, asked)
    drawn.coverage[3] = 0
    found = traits_of(references(renderer.objects, renderer), asked, drawn)
    assert found[1].sizes == found[1].lights == [None] and found[0].sizes != [None]


def test_only_what_is_told_counts_and_what_is_not_has_to_agree() -> None:
    scene = held_out_requests(discs(40, 8), 3, 1, seed=0)[0].scene
    scene.place = "meadow"
    told = Request(scene, "", [], Told([None, None], [2, None], 1))
    silent = Request(scene, "", [], Told([None, None], [None, None], None))
    indoors = Request(type(scene)("studio", 0, 0, scene.foregrounds), "", [], Told([None] * 2, [None] * 2, None))
    found = [Traits(told, [2, 0], [1, 0], 1), Traits(told, [1, 0], [1, 1], 2), Traits(silent, [0, 0], [2, 1], 2),
             Traits(indoors, [0, 0], [1, 1], 0)]
    figures = trait_figures({3: found})
    assert figures["size_accuracy"] == {"3": 0.5}
    assert figures["light_accuracy"] == {"3": pytest.approx(4 / 6, abs=1e-4)}
    assert figures["light_agreement"] == {"3": 0.5}
    assert trait_figures({3: []})["size_accuracy"] == {"3": 1.0}
