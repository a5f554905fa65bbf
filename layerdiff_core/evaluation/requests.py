"""What a model is asked to generate for evaluation: scenes with a pair of objects, or object and place, never trained on."""

from dataclasses import dataclass

import numpy as np

from ..world.objects import ObjectSet
from ..world.scenes import SLOTS, Foreground, Scene, sample_scene
from ..world.words import Told, captions, told


@dataclass
class Request:
    """A held-out scene with its captions: the global prompt, one prompt per layer, background first, and what the global prompt
    tells."""

    scene: Scene
    global_prompt: str
    prompts: list[str]
    told: Told

    @property
    def objects(self) -> list[int]:
        """The requested objects, bottom first, as indices into the object set."""
        return [foreground.object for foreground in self.scene.foregrounds]

    def lines(self) -> str:
        """The layer prompts as input for the nodes, one layer per line, background first."""
        return "\n".join(f"layer {number}: {prompt}" for number, prompt in enumerate(self.prompts))


def objects_named(objects: ObjectSet, names: list[str], styles: int = 1) -> ObjectSet:
    """The objects with these names, in this order, in the first `styles` styles. ValueError if a name does not exist."""
    missing = sorted(set(names) - set(objects.names))
    if missing:
        raise ValueError(f"The evaluator knows {', '.join(missing)}, which the object pictures lack. Build the pictures "
                         "anew, or train the evaluator on them.")
    index = [objects.names.index(name) for name in names]
    return ObjectSet(objects.images[index, :styles], *([column[i] for i in index]
                                                  for column in (objects.names, objects.prompts, objects.homes)))


def held_out_requests(objects: ObjectSet, layers: int, count: int, seed: int, shuffled: bool = True) -> list[Request]:
    """`count` held-out scenes of `layers` layers with their prompts; the same for the same seed. shuffled: as in `captions`.
    With more layers than the world has, objects are small and the prompt does not say where they are."""
    rng = np.random.default_rng([seed, layers])
    if layers > len(SLOTS) + 1:
        crowds = [_crowd(rng, objects, layers - 1) for _ in range(count)]
        return [request_of(scene, objects, *captions(scene, objects, rng, shuffled, placed=False)) for scene in crowds]
    scenes = [sample_scene(rng, objects, layers, heldout=True) for _ in range(count)]
    return [request_of(scene, objects, *captions(scene, objects, rng, shuffled)) for scene in scenes]


def _crowd(rng: np.random.Generator, objects: ObjectSet, things: int) -> Scene:
    scene = sample_scene(rng, objects, 1)
    chosen = rng.choice(len(objects), things, replace=False)
    scene.foregrounds = [Foreground(int(thing), slot % len(SLOTS), 0) for slot, thing in enumerate(chosen)]
    return scene


def request_of(scene: Scene, objects: ObjectSet, global_prompt: str, prompts: list[str]) -> Request:
    """The request for a scene in the words that `captions` gave it."""
    return Request(scene, global_prompt, prompts, told(scene, objects, global_prompt))
