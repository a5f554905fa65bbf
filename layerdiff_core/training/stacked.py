"""The baseline that Text2Layer compares with: a plain image autoencoder, with the latents of F, B and m stacked."""

from typing import Any

import torch
from torch import Tensor, nn

from ..autoencoder import Layers, unstack


class StackedAutoencoder(nn.Module):
    """Replaces CaT2I-AE with a plain image autoencoder, which encodes a mask as a grey image.

    network: an autoencoder with moments (mean and log variance, concatenated) and decode, and latents with `channels`
    channels. The stack has (2N + 1) times as many. The composed image is computed by the formula, not predicted.
    """

    def __init__(self, network: Any, foregrounds: int):
        super().__init__()
        self.network: Any = network
        self.foregrounds = foregrounds

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the stacked latent, for stacked layers in -1..1."""
        layers, _ = unstack(x)
        pictures = torch.cat([layers.foregrounds, layers.background[:, None], layers.masks.expand(-1, -1, 3, -1, -1)], dim=1)
        mean, logvar = self.network.moments(pictures.flatten(0, 1)).chunk(2, dim=1)
        mean, logvar = (part.unflatten(0, (len(x), -1)).flatten(1, 2) for part in (mean, logvar))
        return mean, logvar.clamp(-20, 10)

    def encode(self, x: Tensor) -> Tensor:
        """The latent's mean."""
        return self.moments(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """As in CaT2I-AE: F1..FN, B, m1..mN, the composed image, in about -1..1."""
        count = 2 * self.foregrounds + 1
        pictures = self.network.decode(z.unflatten(1, (count, -1)).flatten(0, 1)).unflatten(0, (len(z), count))
        masks = pictures[:, self.foregrounds + 1 :].mean(2, keepdim=True)
        layers = Layers(pictures[:, : self.foregrounds], pictures[:, self.foregrounds], masks / 2 + 0.5)
        stack = torch.cat([pictures[:, : self.foregrounds + 1].flatten(1, 2), masks.flatten(1, 2)], dim=1)
        return torch.cat([stack, layers.composite()], dim=1)

    def last_layers(self) -> list[Tensor]:
        """The weights at which the weight of the adversarial term is measured."""
        return [self.network.decoder.conv_out.weight]
