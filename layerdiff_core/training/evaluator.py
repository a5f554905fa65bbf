"""Trains the evaluator on renders of its own: other seeds than the model's, blurred and noised a little, some badly cut."""

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.render import compose
from ..evaluator import Evaluator, agreement, outline_window, overlap
from .render import Drawings, Renderer, Ring


def worn(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures as a decoder might give them: some blurred, all a little noisy."""
    shape = (len(pictures), 1, 1, 1)
    amount = torch.rand(shape, device=pictures.device, generator=generator)
    small = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    noise = torch.randn(pictures.shape, device=pictures.device, generator=generator)
    return (torch.lerp(pictures, small, amount) + 0.02 * noise).clamp(0, 1)


def miscut(coverage: Tensor, generator: torch.Generator) -> Tensor:
    """Coverages [N, 1, H, W] as a bad model might draw them, one way each: too wide by some pixels, shifted, or with the
    next thing's outline added."""
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
    """Cross-entropies of thing, place and outline over `count` renders, and what the outlines lack of full overlap.

    Most outlines are to be found in the thing laid on a place, an eighth in such a picture with a bad cut, so that the
    judge looks for the thing and not for the cut's edge, a quarter in the layer's picture alone. Things and places are
    learnt soon: an eighth of the renders is enough for them.
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
    """Share of right answers."""
    return (logits.argmax(1) == wanted).float().mean().item()


@torch.no_grad()
def heldout_figures(evaluator: Evaluator, renderer: Renderer, drawings: Drawings, batches: int,
                    count: int) -> dict[str, float]:
    """Accuracies on new renders without wear, the network in evaluation mode.

    things, places: shares of right answers. outlines, outlines_alone: IOU of the outline found in the composed picture,
    and in the layer's picture alone. miscuts_found, miscuts_true: what the judge says of bad cuts, as IOU of the cut and the
    outline that it finds, and what it should say.
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
