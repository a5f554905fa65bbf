"""Trains the evaluator on renders of its own: other seeds than the model's, blurred and noised a little."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluation.evaluator import Evaluator, overlap
from .render import Drawings, Renderer


def worn(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures as a decoder might give them: some blurred, all a little noisy."""
    shape = (len(pictures), 1, 1, 1)
    amount = torch.rand(shape, device=pictures.device, generator=generator)
    small = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    noise = torch.randn(pictures.shape, device=pictures.device, generator=generator)
    return (torch.lerp(pictures, small, amount) + 0.02 * noise).clamp(0, 1)


def evaluator_loss(evaluator: Evaluator, renderer: Renderer, drawings: Drawings,
                   count: int) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropies of thing, place and outline over `count` renders."""
    picture, coverage, thing = drawings.pick(count)
    scenery, place = renderer.places(count)
    picture = worn(picture, renderer.generator)
    things = evaluator.thing_logits(picture, coverage)
    places = evaluator.place_logits(worn(scenery, renderer.generator))
    outlines = evaluator.outline_logits(picture)
    wanted = F.interpolate(coverage, outlines.shape[-2:], mode="area")
    loss = (F.cross_entropy(things, thing, label_smoothing=0.02) + F.cross_entropy(places, place)
            + F.binary_cross_entropy_with_logits(outlines, wanted))
    return loss, {"things": accuracy(things, thing), "places": accuracy(places, place),
                  "outlines": overlap(outlines.sigmoid(), wanted).mean().item()}


def accuracy(logits: Tensor, wanted: Tensor) -> float:
    """Share of right answers."""
    return (logits.argmax(1) == wanted).float().mean().item()


@torch.no_grad()
def heldout_figures(evaluator: Evaluator, renderer: Renderer, drawings: Drawings, batches: int,
                    count: int) -> dict[str, float]:
    """Accuracies on new renders without wear, the network in evaluation mode."""
    evaluator.eval()
    totals: dict[str, float] = {"things": 0.0, "places": 0.0, "outlines": 0.0}
    for _ in range(batches):
        picture, coverage, thing = drawings.pick(count)
        scenery, place = renderer.places(count)
        outlines = evaluator.outline_logits(picture).sigmoid()
        totals["things"] += accuracy(evaluator.thing_logits(picture, coverage), thing) / batches
        totals["places"] += accuracy(evaluator.place_logits(scenery), place) / batches
        wanted = F.interpolate(coverage, outlines.shape[-2:], mode="area")
        totals["outlines"] += overlap(outlines, wanted).mean().item() / batches
    return totals
