"""How reliable the evaluator is: its accuracies on new renders, and how it sees bad cutouts."""

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluator import Evaluator, agreement, overlap
from ..world.render import compose
from ..world.renderer import Drawings, Renderer


def miscut(coverage: Tensor, generator: torch.Generator) -> Tensor:
    """Coverages [N, 1, H, W] as a bad model might draw them, each with one error: too wide by some pixels, shifted, or with the
    next object's outline added."""
    count, side = len(coverage), coverage.shape[-1]
    reach = side // 32
    wide = F.max_pool2d(coverage, 2 * reach + 1, 1, reach)
    wider = F.max_pool2d(coverage, 6 * reach + 1, 1, 3 * reach)
    shifted = coverage.roll((2 * reach, -2 * reach), (2, 3))
    added = torch.maximum(coverage, coverage.roll(1, 0))
    ways = torch.stack([wide, wider, shifted, added])
    chosen = torch.randint(len(ways), (count,), device=coverage.device, generator=generator)
    return ways[chosen, torch.arange(count, device=coverage.device)]


def accuracy(logits: Tensor, wanted: Tensor) -> float:
    """The share of correct answers."""
    return (logits.argmax(1) == wanted).float().mean().item()


@torch.no_grad()
def heldout_figures(evaluator: Evaluator, renderer: Renderer, drawings: Drawings, batches: int,
                    count: int) -> dict[str, float]:
    """Accuracies on new renders without blur and noise, with the network in evaluation mode.

    things, places: shares of correct answers. outlines, outlines_alone: IOU of the outline found in the composed image, and in
    the layer's image alone. miscuts_found, miscuts_true: for bad cutouts, the IOU of the cutout and the outline that the judge
    finds, and what it should be.
    """
    evaluator.train(False)
    totals: Counter[str] = Counter()
    for _ in range(batches):
        picture, coverage, thing = drawings.pick(count)
        scenery, place = renderer.places(count)
        cut = miscut(coverage, renderer.generator)
        composed, alone = (agreement(evaluator, shown, coverage)
                           for shown in (compose(scenery, [picture], [coverage]), picture))
        badly = agreement(evaluator, compose(scenery, [picture], [cut]), cut)
        totals.update({
            "things": accuracy(evaluator.thing_logits(picture, coverage), thing),
            "places": accuracy(evaluator.place_logits(scenery), place),
            "outlines": composed.mean().item(), "outlines_alone": alone.mean().item(),
            "miscuts_found": badly.mean().item(), "miscuts_true": overlap(coverage * cut, cut).mean().item(),
        })
    return {name: total / batches for name, total in totals.items()}
