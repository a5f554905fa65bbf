"""Frechet distance between two sets of images (Heusel et al. 2017, "GANs trained by a two time-scale update rule")."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluator import CROP, PLACE_SIDE, Evaluator


@torch.no_grad()
def picture_features(evaluator: Evaluator, pictures: Tensor) -> Tensor:
    """Features [N, D], float64, of whole images [N, 3, H, W] in 0..1, from the object and place classifiers.

    Ours, instead of Inception's, whose weights would have to be downloaded. Distances are only comparable with each other.
    """
    parts = [torch.cat([evaluator.thing.features(F.interpolate(part, (CROP, CROP), mode="area")),
                        evaluator.place.features(F.interpolate(part, (PLACE_SIDE, PLACE_SIDE), mode="area"))], dim=1)
             for part in pictures.split(32)]
    return torch.cat(parts).double()


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) between features [N, D] and [M, D], float64, N and M at least 2.

    With C1 = A^T A and C2 = B^T B, the last trace is the sum of the singular values of A B^T, which needs no matrix square root
    and also works with fewer images than features.
    """
    means = first.mean(0), second.mean(0)
    a, b = ((features - mean) / (len(features) - 1) ** 0.5 for features, mean in zip((first, second), means))
    shared = torch.linalg.svdvals(a @ b.T).sum()
    distance = (means[0] - means[1]).square().sum() + a.square().sum() + b.square().sum() - 2 * shared
    return max(0.0, distance.item())
