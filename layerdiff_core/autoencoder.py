"""CaT2I-AE, the composition-aware autoencoder of Text2Layer: foregrounds, background and masks in one latent."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

COUNTER = ".num_batches_tracked"


@dataclass
class Layers:
    """Foregrounds [B, N, 3, H, W], farthest first; background [B, 3, H, W]; masks [B, N, 1, H, W], 1 = covered."""

    foregrounds: Tensor
    background: Tensor
    masks: Tensor

    def stack(self) -> Tensor:
        """One tensor [B, 3 + 4N, H, W]: the channels of F1..FN, then B, then m1..mN (Text2Layer, section 4)."""
        return torch.cat([self.foregrounds.flatten(1, 2), self.background, self.masks.flatten(1, 2)], dim=1)

    def to(self, device: torch.device) -> "Layers":
        """The same layers on a device."""
        return Layers(self.foregrounds.to(device), self.background.to(device), self.masks.to(device))

    def composite(self) -> Tensor:
        """The composite of the layers, [B, 3, H, W] in 0..1: I = m F + (1 - m) B, foreground by foreground."""
        image = self.background
        for picture, mask in zip(self.foregrounds.unbind(1), self.masks.unbind(1)):
            image = mask * picture + (1 - mask) * image
        return image


def unstack(x: Tensor) -> tuple[Layers, Tensor]:
    """The inverse of `Layers.stack`. Returns the layers and the remaining channels (the composed image I, or none)."""
    count = (x.shape[1] - 3) // 4
    foregrounds, background, masks, rest = x.split([3 * count, 3, count, x.shape[1] - 4 * count - 3], dim=1)
    return Layers(foregrounds.unflatten(1, (count, 3)), background, masks.unflatten(1, (count, 1))), rest


class Head(nn.Sequential):
    """A prediction head: conv-bn-relu-conv (Text2Layer, section 4.1). Its inner width is that of the decoder (ours)."""

    def __init__(self, inputs: int, outputs: int, operations: Any = nn):
        super().__init__(operations.Conv2d(inputs, inputs, 3, padding=1), nn.BatchNorm2d(inputs), nn.ReLU(),
                         operations.Conv2d(inputs, outputs, 3, padding=1))


class CompositionAutoencoder(nn.Module):
    """CaT2I-AE (Text2Layer, section 4.1): the SD autoencoder over stacked layers, with a head for each of F, B, m, I.

    encoder, decoder: the classes of the two halves of the SD autoencoder (ComfyUI's). config: their arguments as in an SD
    file ("ddconfig"), except in_channels and out_ch, which are set here. Weights that SD also has keep SD's names.
    Ours: more than one foreground, where the paper has one, and patch: if it is more than 1, the networks work on squares of
    patch x patch pixels instead of single pixels, which makes a small model fast on a CPU.
    """

    def __init__(self, encoder: type[nn.Module], decoder: type[nn.Module], config: dict[str, Any], foregrounds: int,
                 patch: int = 1, operations: Any = nn):
        super().__init__()
        self.foregrounds, self.patch = foregrounds, patch
        z, pixels = config["z_channels"], patch * patch
        config = {**config, "in_channels": (3 + 4 * foregrounds) * pixels, "out_ch": 3, "double_z": True}
        self.encoder, self.decoder = encoder(**config), decoder(**config)
        # The norm before the last layer is removed as well. At small widths its groups are single channels, so it would
        # remove the mean colour of each image, and the heads have their own norms.
        self.decoder.norm_out = self.decoder.conv_out = nn.Identity()
        self.quant_conv = operations.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = operations.Conv2d(z, z, 1)
        width = config["ch"] * config["ch_mult"][0]
        self.heads: Any = nn.ModuleDict({
            "foreground": Head(width, 3 * foregrounds * pixels, operations),
            "background": Head(width, 3 * pixels, operations),
            "mask": Head(width, foregrounds * pixels, operations),
            "composed": Head(width, 3 * pixels, operations),
        })

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent, [B, z, H / 8, W / 8] each, of stacked layers in -1..1."""
        mean, logvar = self.quant_conv(self.encoder(pixel_unshuffle(x, self.patch))).chunk(2, dim=1)
        return mean, logvar.clamp(-20, 10)

    def encode(self, x: Tensor) -> Tensor:
        """Stacked layers [B, 3 + 4N, H, W], all in -1..1, also the masks -> the latent's mean [B, z, H / 8, W / 8]."""
        return self.moments(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """A latent -> [B, 3 + 4N + 3, H, W] in about -1..1: F1..FN, B, m1..mN as stacked, then the composed image I."""
        h = self.decoder(self.post_quant_conv(z))
        return torch.cat([pixel_shuffle(head(h), self.patch) for head in self.heads.values()], dim=1)

    def weights(self) -> dict[str, Tensor]:
        """The weights that a file stores: all except the batch norms' counters, which only training needs."""
        return {name: value for name, value in self.state_dict().items() if not name.endswith(COUNTER)}

    def last_layers(self) -> list[Tensor]:
        """The last weights of the heads of F, B and I, at which the weight of the adversarial term is measured."""
        return [self.heads[name][3].weight for name in ("foreground", "background", "composed")]
