"""A judge of styles: whether an object is a 3D render or a flat drawing."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluator import cut_out
from ..world.renderer import Items, Renderer
from ..world.scenes import LIGHTS, SIDES, SIZES, SLOTS, STYLES
from .judge import Judge

RENDERS, TESTED, BATCH = 600, 300, 50
DECAY = 1e-3
STEPS = 200


@dataclass
class StyleJudge:
    """A logistic regression on the means and standard deviations of all channels in all layers of the judge's classifier for
    objects, which describe texture (Gatys et al. 2016; the regression is ours). mean, deviation and weight: [D]."""

    judge: Judge
    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def is_flat(self, pictures: Tensor, coverage: Tensor) -> Tensor:
        """Whether each layer shows a flat drawing: images [N, 3, H, W] and coverage [N, 1, H, W] -> bool [N]."""
        features = features_of(self.judge, pictures, coverage)
        return (features - self.mean) / self.deviation @ self.weight + self.bias > 0


def features_of(judge: Judge, pictures: Tensor, coverage: Tensor) -> Tensor:
    """Layers [N, 3, H, W] with coverage [N, 1, H, W] -> [N, D]."""
    h, found = cut_out(pictures.to(judge.device).float(), coverage.to(judge.device).float()) * 2 - 1, []
    for part in judge.evaluator.thing.body:
        h = part(h)
        found += [h.mean((2, 3)), h.std((2, 3))]
    return torch.cat(found, dim=1)


def style_judge(judge: Judge, renderer: Renderer, through: Callable[[Tensor], Tensor]) -> tuple[StyleJudge, float]:
    """Train a style judge on renders, and measure how often it is right about others.

    renderer: of objects in both styles. through: encodes and decodes images [N, 3, H, W] with the model's VAE, so that the judge
    does not mistake the softness of decoded images for a style.
    """
    shown, flat = zip(*(_renders(judge, renderer, through) for _ in range((RENDERS + TESTED) // BATCH)))
    features, labels = torch.cat(shown), torch.cat(flat).float()
    known = features[:RENDERS]
    mean, deviation = known.mean(0), known.std(0) + 1e-3
    weight = torch.zeros(features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros((), device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS)
    scaled = (known - mean) / deviation

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(scaled @ weight + bias, labels[:RENDERS]) + DECAY * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    found = StyleJudge(judge, mean, deviation, weight.detach(), bias.detach())
    others = (features[RENDERS:] - mean) / deviation @ found.weight + found.bias > 0
    return found, float((others == labels[RENDERS:].bool()).float().mean())


@torch.no_grad()
def _renders(judge: Judge, renderer: Renderer, through: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The features of some random objects in random states, and whether each is flat."""
    sizes = (len(renderer.objects), len(STYLES), len(LIGHTS), len(SLOTS), len(SIZES), len(SIDES))
    fields = [torch.randint(size, (BATCH,), device=renderer.device, generator=renderer.generator) for size in sizes]
    pictures, coverage = renderer.foregrounds(Items(*fields))
    return features_of(judge, through(pictures), coverage), fields[1] == STYLES.index("flat")
