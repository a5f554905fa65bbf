"""How well the included box ControlNet places single layers, for `dev.py evaluate-edits`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerdiff_core.evaluation.boxes import fits, open_scenes, rendered_box
from layerdiff_core.evaluation.judge import mean, nearest_slots
from layerdiff_core.evaluation.requests import Request
from layerdiff_core.evaluator import overlap
from layerdiff_core.world.boxes import box_hints
from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.renderer import Renderer
from layerdiff_core.world.scenes import SIZES, SLOTS

from .evaluate import LAYERS, Studio
from .studio import Progress

FILE = "layerdiff_box_control.safetensors"
OTHER_SEED = 1000
SINGLE = ("control_iou", "control_mask_iou", "control_mask_iou_of_renders", "control_iou_without", "control_others_moved",
          "control_others_moved_by_seed")


class Controlled:
    """Draws scenes through the nodes with box hints for some layers."""

    def __init__(self, studio: Studio, pack: Any, file: str):
        import nodes

        self.studio, self.apply = studio, pack.nodes.control.LayerDiffApplyControlNet
        self.net = nodes.ControlNetLoader().load_controlnet(file)[0]

    @torch.inference_mode()
    def coverage(self, request: Request, boxes: dict[int, Tensor], seed: int) -> Tensor:
        """The masks of a scene's layers, [K, 1, H, W]. boxes: the hints, by the number of the layer."""
        positive, negative = self.studio.encoded(request)
        if boxes:
            hints = box_hints(torch.stack(list(boxes.values())), self.studio.canvas).movedim(1, -1)
            positive, negative = self.apply.execute(positive, negative, self.net, hints, ", ".join(map(str, boxes)), 1.0, 0.0,
                                                    1.0).args
        layers = len(request.prompts)
        return self.studio.drawn(self.studio.sampled_from(positive, negative, layers, 1, seed), layers).coverage


def control_figures(controlled: Controlled, objects: ObjectSet, renderer: Renderer, count: int, seed: int) -> dict[str, Any]:
    """The figures of `count` scenes with a hint for one layer, and of as many with hints for two."""
    progress, rng = Progress(2 * count), np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in (*SINGLE, "control_iou_of_two")}
    for number, (request, (layer,)) in enumerate(scenes(objects, LAYERS, 1, count, seed)):
        plain, other = (controlled.coverage(request, {}, noise + number) for noise in (seed, seed + OTHER_SEED))
        # The box is not where the object is drawn without a hint, so that none is met by chance.
        free = [slot for slot in range(len(SLOTS)) if slot != nearest_slots(plain[layer][None])[0]]
        box, filled = rendered_box(renderer, request, layer, int(rng.choice(free)), int(rng.integers(len(SIZES))))
        hinted = controlled.coverage(request, {layer: box}, seed + number)
        others = [n for n in range(1, len(plain)) if n != layer]
        values = (*fits(hinted[layer][None], box), filled, fits(plain[layer][None], box)[0],
                  *((1 - overlap(plain[others], moved[others])).tolist() for moved in (hinted, other)))
        for name, value in zip(SINGLE, values):
            found[name] += value if isinstance(value, list) else [value]
        progress.add(1, len(plain))
    for number, (request, layers) in enumerate(scenes(objects, LAYERS[1:], 2, count, seed)):
        slots = rng.permutation(len(SLOTS)).tolist()
        boxes = {layer: rendered_box(renderer, request, layer, slot, int(rng.integers(len(SIZES))))[0]
                 for layer, slot in zip(layers, slots)}
        drawn = controlled.coverage(request, boxes, seed + number)
        found["control_iou_of_two"] += [fits(drawn[layer][None], box)[0] for layer, box in boxes.items()]
        progress.add(1, len(drawn))
    return {name: mean(values) for name, values in found.items()}


def scenes(objects: ObjectSet, numbers: tuple[int, ...], hinted: int, count: int, seed: int) -> list[tuple[Request, list[int]]]:
    """`count` scenes, over these numbers of layers, and the layers that get a hint."""
    each = [-(-(count - n) // len(numbers)) for n in range(len(numbers))]
    return [scene for layers, some in zip(numbers, each) for scene in open_scenes(objects, layers, hinted, some, seed)]
