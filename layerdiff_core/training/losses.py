"""The terms of CaT2I-AE's objective (Text2Layer, section 4.1). Images [N, 3, H, W] and masks [N, 1, H, W], 0..1."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pyramid import laplacian

EPSILON = 1e-6
COMPOSITION_WEIGHT = 2.0
LAPLACIAN_WEIGHT = 3.0
ADVERSARIAL_WEIGHT = 0.25
FEATURE_SEED = 20230719


def l1_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (predicted - wanted).abs().mean()


def charbonnier(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Mean Charbonnier distance, sqrt((a - b)^2 + eps^2) with eps = 1e-6."""
    return ((predicted - wanted).square() + EPSILON**2).sqrt().mean()


def composition_loss(predicted_composite: Tensor, composite: Tensor) -> Tensor:
    """Charbonnier distance between composites of the true layers with the predicted masks and with the true masks."""
    return charbonnier(predicted_composite, composite)


def laplacian_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """The sum over pyramid levels j = 1..3, finest first, of 2^(j-1) times the mean L1 of level j."""
    pairs = zip(laplacian(predicted), laplacian(wanted))
    return torch.stack([2**j * l1_loss(a, b) for j, (a, b) in enumerate(pairs)]).sum()


def mask_loss(predicted: Tensor, wanted: Tensor, predicted_composite: Tensor, composite: Tensor) -> Tensor:
    """L_mask = L1 + 2 composition + 3 Laplacian. The composites are of the true layers with each of the masks."""
    return (l1_loss(predicted, wanted) + COMPOSITION_WEIGHT * composition_loss(predicted_composite, composite)
            + LAPLACIAN_WEIGHT * laplacian_loss(predicted, wanted))


class RandomFeatures(nn.Module):
    """A fixed network with random orthogonal filters, three scales: the default for the perceptual term.

    Ours: LPIPS, which the paper uses, needs weights that have to be downloaded. The filters depend only on the torch version.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 64)):
        super().__init__()
        generator = torch.Generator().manual_seed(FEATURE_SEED)
        self.layers = nn.ModuleList()
        for inputs, outputs in zip((3, *widths), widths):
            layer: Any = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
            nn.init.orthogonal_(layer.weight, gain=2**0.5, generator=generator)
            nn.init.normal_(layer.bias, std=0.1, generator=generator)
            self.layers.append(layer)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images in 0..1 -> feature maps at 1/2, 1/4 and 1/8 of the size."""
        x, features = x * 2 - 1, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return features


def perceptual_loss(features: nn.Module, predicted: Tensor, wanted: Tensor) -> Tensor:
    """LPIPS's distance for any network that returns a list of feature maps: normalised, squared, and summed over channels."""
    total = predicted.new_zeros((), dtype=torch.float32)
    for a, b in zip(features(predicted), features(wanted)):
        total = total + (_normed(a) - _normed(b)).square().sum(1).mean()
    return total


def _normed(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=1, eps=1e-3)


class PatchDiscriminator(nn.Module):
    """A small PatchGAN with one logit per patch of about 46 pixels, at 1/8 of the size."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.GroupNorm(8, 4 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 4, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images in 0..1 -> logits [N, 1, h, w]."""
        return self.body(x * 2 - 1)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's logits: 0.5 (max(0, 1 - real) + max(0, 1 + fake))."""
    return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean())


def adversarial_loss(fake: Tensor) -> Tensor:
    """Hinge loss of the generator: the negated mean logit."""
    return -fake.float().mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layers: list[Tensor]) -> Tensor:
    """SD's weight for the adversarial term: equalises both terms' gradients at the last layers, then multiplies by 0.25.

    SD uses 0.5. Ours is half of that, because the starter's smooth world has little texture to gain from it.
    """
    norms = [torch.cat([g.float().flatten() for g in torch.autograd.grad(loss, last_layers, retain_graph=True)]).norm()
             for loss in (reconstruction, adversarial)]
    return ADVERSARIAL_WEIGHT * (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach()
