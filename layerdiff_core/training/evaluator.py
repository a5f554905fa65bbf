"""Trains the evaluator on its own renders: with other seeds than the model's, slightly blurred and noisy, some badly cut out."""

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.render import compose
from ..evaluator import Evaluator, agreement, outline_window, overlap
from .render import Drawings, Renderer, Ring


def worn(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Images as a decoder might output them: some blurred, all slightly noisy."""
    shape = (len(pictures), 1, 1, 1)
    amount = torch.rand(shape, device=pictures.device, generator=generator)
    small = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    noise = torch.randn(pictures.shape, device=pictures.device, generator=generator)
    return (torch.lerp(pictures, small, amount) + 0.02 * noise).clamp(0, 1)


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


def evaluator_loss(evaluator: Evaluator, renderer: Renderer, drawings: Drawings | Ring,
                   count: int) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropies of object, place and outline over `count` renders, and how far the outlines are from full overlap.

    Most outlines have to be found in an object on a place; an eighth in such an image with a bad cutout, so that the judge
    looks for the object and not for the edge of the cutout; a quarter in the layer's image alone. Objects and places are
    learnt quickly, so an eighth of the renders is enough for them.
    """
    picture, coverage, thing = drawings.pick(count)
    scenery, place = renderer.places(count)
    picture = worn(picture, renderer.generator)
    few = count // 8
    things = evaluator.thing_logits(picture[:few], coverage[:few])
    places = evaluator.place_logits(worn(scenery[:few], renderer.generator))
    most = 6 * few
    cut = torch.cat([miscut(coverage[:few], renderer.generator), coverage[few:most]])
    shown = torch.cat([compose(scenery[:most], [picture[:most]], [cut]), picture[most:]])
    seen, mask = torch.cat([coverage[:most] * cut, coverage[most:]]), torch.cat([cut, coverage[most:]])
    outlines = evaluator.outline_logits(shown, mask).float()
    wanted = outline_window(seen, mask)
    found = outlines.sigmoid()
    missed = 1 - (found * wanted).sum((1, 2, 3)) / (found + wanted - found * wanted).sum((1, 2, 3))
    loss = (F.cross_entropy(things, thing[:few], label_smoothing=0.02) + F.cross_entropy(places, place[:few])
            + F.binary_cross_entropy_with_logits(outlines, wanted) + missed.mean())
    return loss, {"things": accuracy(things, thing[:few]), "places": accuracy(places, place[:few]),
                  "outlines": overlap(found, wanted).mean().item()}


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
