"""Size and light of generated objects, measured without a network by comparison with their images in the object set."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..world.backgrounds import PLACES
from ..world.objects import ObjectSet
from ..world.render import TINTS
from ..world.renderer import Renderer
from ..world.scenes import EXTENTS
from .judge import Drawn, mean
from .renders import SEED, scene_layers
from .requests import Request, held_out_requests

DARKEST = 0.03
SOLID = 0.5


@dataclass
class References:
    """What objects and places look like: for each object, the share of the square of its longest side that it fills [N] and its
    mean colour by day [N, 3]; for each place in each of its lights, the mean colours of the upper and lower half [6]."""

    fill: Tensor
    colour: Tensor
    places: dict[tuple[str, int], Tensor]


@dataclass
class Traits:
    """What one scene shows: for each foreground, bottom first, its size and light, as indices into SIZES and LIGHTS, None if
    the mask is empty; and the light of the background."""

    request: Request
    sizes: list[int | None]
    lights: list[int | None]
    place_light: int


def references(objects: ObjectSet, renderer: Renderer) -> References:
    """Measure the references, in the first style."""
    images = objects.images[:, 0].to(renderer.device).float() / 255
    alpha = images[..., 3]
    solid = alpha > SOLID
    longest = torch.maximum(_length(solid.any(1)), _length(solid.any(2)))
    colour = (images[..., :3] * alpha[..., None]).sum((1, 2)) / alpha.sum((1, 2)).clamp_min(1)[:, None]
    shown = _halves(renderer.bank.permute(0, 3, 1, 2).float() / 255)
    places = {(name, light): shown[(renderer.bank_place == number) & (renderer.bank_light == light)].mean(0)
              for number, name in enumerate(PLACES) for light in renderer.bank_light.unique().tolist()
              if ((renderer.bank_place == number) & (renderer.bank_light == light)).any()}
    return References(alpha.sum((1, 2)) / longest**2, colour, places)


def traits_of(known: References, requests: list[Request], drawn: Drawn) -> list[Traits]:
    """The traits of generated scenes, assuming that each layer shows the requested object.

    The size follows from the mask's area and the share of its square that the object fills, so that rotation does not change
    it. The light follows from the difference between the object's mean colour and that by day. A place's light is that of
    the closest of the place's paintings, comparing upper and lower half separately.
    """
    device = known.fill.device
    pictures, coverage = (part.to(device).float().unflatten(0, (len(requests), drawn.layers))
                          for part in (drawn.pictures, drawn.coverage))
    seen_places = _halves(pictures[:, 0])
    tints = torch.tensor(TINTS, device=device)
    middles = torch.tensor([sum(ends) / 2 for ends in EXTENTS], device=device)
    found = []
    for request, picture, cover, shown in zip(requests, pictures[:, 1:], coverage[:, 1:], seen_places):
        things = torch.tensor(request.objects, dtype=torch.long, device=device)
        area = cover.mean((1, 2, 3))
        extent = (area / known.fill[things]).sqrt()
        sizes = (extent[:, None] - middles).abs().argmin(1).tolist()
        colour = (picture * cover).sum((2, 3)) / cover.sum((2, 3)).clamp_min(1e-6)
        expected = known.colour[things][:, None] * tints  # [things, lights, 3]
        lights = (_log(colour)[:, None] - _log(expected)).square().sum(-1).argmin(1).tolist()
        empty = (cover <= SOLID).flatten(1).all(1).tolist()
        choices = [light for name, light in known.places if name == request.scene.place]
        distances = torch.stack([(shown - known.places[request.scene.place, light]).abs().sum() for light in choices])
        found.append(Traits(request, _where_there(sizes, empty), _where_there(lights, empty), choices[int(distances.argmin())]))
    return found


def trait_ceilings(known: References, renderer: Renderer, layers: int = 3, count: int = 90) -> dict[str, float]:
    """How often the traits are measured correctly in renders of held-out scenes: the score of a perfect model."""
    asked = held_out_requests(renderer.objects, layers, count, SEED)
    shown = scene_layers(renderer, [request.scene for request in asked])
    pictures = torch.cat([shown.background[:, None], shown.foregrounds], 1).flatten(0, 1)
    coverage = torch.cat([torch.ones_like(shown.masks[:, :1]), shown.masks], 1).flatten(0, 1)
    found = traits_of(known, asked, Drawn(layers, pictures, pictures, coverage, shown.composite()))
    sizes = [seen == thing.size for each in found for seen, thing in zip(each.sizes, each.request.scene.foregrounds)]
    lights = [seen == each.request.scene.light for each in found for seen in (each.place_light, *each.lights)]
    return {"size_heldout_accuracy": mean(sizes), "light_heldout_accuracy": mean(lights)}


def trait_figures(found: dict[int, list[Traits]]) -> dict[str, dict[str, float]]:
    """Metrics for each number of layers, 1 if there is nothing to count.

    size_accuracy: the share of objects with the right size, among those whose size the global prompt mentions.
    light_accuracy: the share of layers, including the background, in the right light, in scenes whose global prompt mentions
    it. light_agreement: the share of objects in the background's light, in scenes whose prompt does not mention it and whose
    place has more than one.
    """
    return {
        "size_accuracy": _by_layers(found, lambda traits: [seen == wanted for seen, wanted in
                                                           zip(traits.sizes, traits.request.told.sizes) if wanted is not None]),
        "light_accuracy": _by_layers(found, lambda traits: [] if traits.request.told.light is None else [
            seen == traits.request.told.light for seen in (traits.place_light, *traits.lights)]),
        "light_agreement": _by_layers(found, lambda traits: [seen == traits.place_light for seen in traits.lights]
                                      if _is_open(traits.request) else []),
    }


def _by_layers(found: dict[int, list[Traits]], count: Callable[[Traits], Iterable[bool]]) -> dict[str, float]:
    return {str(layers): mean([value for traits in group for value in count(traits)] or [True])
            for layers, group in found.items()}


def _is_open(request: Request) -> bool:
    return request.told.light is None and len(PLACES[request.scene.place].lights) > 1


def _where_there(values: list[int], empty: list[bool]) -> list[int | None]:
    return [None if nothing else value for value, nothing in zip(values, empty)]


def _log(colour: Tensor) -> Tensor:
    return colour.clamp_min(DARKEST).log()


def _halves(pictures: Tensor) -> Tensor:
    """Mean colours of the upper and the lower half of [N, 3, H, W]: [N, 6]."""
    return torch.cat([half.mean((2, 3)) for half in pictures.chunk(2, dim=2)], dim=1)


def _length(line: Tensor) -> Tensor:
    """The distance from the first to the last true position of [N, L]."""
    first = line.float().argmax(1)
    return (line.shape[1] - line.flip(1).float().argmax(1) - first).float()
