"""Trains the evaluator on its own renders: with other seeds than the model's, slightly blurred and noisy, some badly cut out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluation.heldout import accuracy, miscut
from ..evaluator import Evaluator, outline_window, overlap
from ..world.render import compose
from ..world.renderer import Drawings, Renderer, Ring


def worn(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Images as a decoder might output them: some blurred, all slightly noisy."""
    shape = (len(pictures), 1, 1, 1)
    amount = torch.rand(shape, device=pictures.device, generator=generator)
    small = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    noise = torch.randn(pictures.shape, device=pictures.device, generator=generator)
    return (torch.lerp(pictures, small, amount) + 0.02 * noise).clamp(0, 1)


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
