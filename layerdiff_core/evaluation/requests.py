"""What a model is asked to draw when it is judged: scenes with a pair of things, or thing and place, never trained on."""

from dataclasses import dataclass

import numpy as np

from ..data.objects import ObjectSet
from ..data.scenes import Scene, sample_scene
from ..data.words import SLOT_WORDS, captions


@dataclass
class Request:
    """A held-out scene and the words for it: the global prompt, and one prompt a layer, the background's first."""

    scene: Scene
    global_prompt: str
    prompts: list[str]

    @property
    def objects(self) -> list[int]:
        """The things asked for, bottom first, as indices into the object set."""
        return [foreground.object for foreground in self.scene.foregrounds]

    @property
    def told_slots(self) -> list[int | None]:
        """Where the global prompt says that each thing stands, bottom first, as indices into SLOTS; None where it does not."""
        found: list[int | None] = []
        for foreground, prompt in zip(self.scene.foregrounds, self.prompts[1:]):
            thing = prompt.removeprefix("an ").removeprefix("a ").removeprefix("the ")
            told = any(f"{thing} {words}" in self.global_prompt for words in SLOT_WORDS[foreground.slot])
            found.append(foreground.slot if told else None)
        return found

    def lines(self) -> str:
        """The layer prompts as the nodes take them, one layer a line, the background first."""
        return "\n".join(f"layer {number}: {prompt}" for number, prompt in enumerate(self.prompts))


def objects_named(objects: ObjectSet, names: list[str]) -> ObjectSet:
    """The objects of these names, in this order, in the first style. ValueError for a name that is not there."""
    missing = sorted(set(names) - set(objects.names))
    if missing:
        raise ValueError(f"The evaluator knows {', '.join(missing)}, which the object pictures lack. Build the pictures "
                         "anew, or train the evaluator on them.")
    index = [objects.names.index(name) for name in names]
    return ObjectSet(objects.images[index, :1], *([column[i] for i in index]
                                                  for column in (objects.names, objects.prompts, objects.homes)))


def held_out_requests(objects: ObjectSet, layers: int, count: int, seed: int, shuffled: bool = True) -> list[Request]:
    """`count` held-out scenes of `layers` layers with their prompts, the things in them `shuffled` or not as in `captions`;
    the same for the same seed."""
    rng = np.random.default_rng([seed, layers])
    scenes = [sample_scene(rng, objects, layers, heldout=True) for _ in range(count)]
    return [Request(scene, *captions(scene, objects, rng, shuffled)) for scene in scenes]
