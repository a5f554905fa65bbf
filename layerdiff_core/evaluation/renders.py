"""Renders not used in any training, on which the judge's own accuracy and the Frechet distance are measured."""

from pathlib import Path

import torch
from torch import Tensor

from ..autoencoder import Layers
from ..world.backgrounds import PLACES
from ..world.objects import ObjectSet
from ..world.renderer import Items, Renderer, place_bank
from ..world.scenes import Scene
from .fid import frechet_distance, picture_features
from .heldout import heldout_figures
from .judge import Judge
from .requests import held_out_requests

# Far from the seeds of the training stages.
SEED = 7001
PLACE_VARIANTS = 3
BATCH = 32
BATCHES = 60
REFERENCES = 280


def held_out_renderer(objects: ObjectSet, folder: Path, canvas: int, device: torch.device) -> Renderer:
    """A renderer with newly painted places, from a seed that no training used. They are cached in `folder`."""
    bank = place_bank(folder / f"places_{canvas}_{PLACE_VARIANTS}_held_out.safetensors", PLACE_VARIANTS, canvas, SEED)
    return Renderer(objects, bank, canvas, device, SEED)


def ceilings(judge: Judge, renderer: Renderer) -> dict[str, float]:
    """How reliable the judge itself is: its accuracies and IOU on renders."""
    found = heldout_figures(judge.evaluator, renderer, renderer.draw_all(1), BATCHES, BATCH)
    names = {"things": "classifier_heldout_accuracy", "places": "place_heldout_accuracy", "outlines": "outline_heldout_iou",
             "outlines_alone": "outline_heldout_iou_alone", "miscuts_found": "miscut_heldout_iou_found",
             "miscuts_true": "miscut_heldout_iou_true"}
    return {name: round(found[key], 4) for key, name in names.items()}


def distances(judge: Judge, renderer: Renderer, composites: dict[int, Tensor]) -> dict[str, dict[str, float]]:
    """Frechet distances for each number of layers: of generated composites [N, 3, H, W] to held-out renders, and of as many
    other renders to these, which is the lowest value that so few images can reach."""
    drawn, floor = {}, {}
    for layers, pictures in composites.items():
        real = [picture_features(judge.evaluator, render(renderer, layers, count, seed)) for count, seed in
                ((REFERENCES, SEED), (len(pictures), SEED + 1))]
        features = picture_features(judge.evaluator, pictures.to(judge.device).float())
        drawn[str(layers)] = round(frechet_distance(features, real[0]), 4)
        floor[str(layers)] = round(frechet_distance(real[1], real[0]), 4)
    return {"fid_starter_features": drawn, "fid_starter_features_of_renders": floor}


def render(renderer: Renderer, layers: int, count: int, seed: int) -> Tensor:
    """Composites [count, 3, canvas, canvas] of held-out scenes, on the renderer's device."""
    scenes = [request.scene for request in held_out_requests(renderer.objects, layers, count, seed)]
    return torch.cat([scene_layers(renderer, scenes[n:n + BATCH]).composite() for n in range(0, count, BATCH)])


def scene_layers(renderer: Renderer, scenes: list[Scene]) -> Layers:
    """Draw the layers of scenes that all have the same number of layers, in 0..1, on the renderer's device."""
    index = torch.stack([_a_place(renderer, scene) for scene in scenes])
    side = torch.tensor([scene.side for scene in scenes], device=renderer.device)
    facts = [[[f.object, scene.style, scene.light, f.slot, f.size, scene.side] for f in scene.foregrounds] for scene in scenes]
    items = Items(*torch.tensor(facts, device=renderer.device).flatten(0, 1).unbind(1))
    pictures, coverages = (part.unflatten(0, (len(scenes), -1)) for part in renderer.foregrounds(items))
    return Layers(pictures, renderer.place_pictures(index, side), coverages)


def _a_place(renderer: Renderer, scene: Scene) -> Tensor:
    """The number of a random image of the scene's place in its light from the bank."""
    fits = (renderer.bank_place == list(PLACES).index(scene.place)) & (renderer.bank_light == scene.light)
    choices = fits.nonzero()[:, 0]
    return choices[torch.randint(len(choices), (), device=renderer.device, generator=renderer.generator)]
