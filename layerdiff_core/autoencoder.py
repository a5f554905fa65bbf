"""CaT2I-AE, the composition-aware autoencoder of Text2Layer: foregrounds, background and masks in one latent."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

COUNTER = ".num_batches_tracked"


@dataclass
class Layers:
    """Foregrounds [B, N, 3, H, W], the farthest first; background [B, 3, H, W]; masks [B, N, 1, H, W], 1 = there."""

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
        """The picture that the layers give, [B, 3, H, W]: I = m F + (1 - m) B, foreground by foreground. Range 0..1."""
        image = self.background
        for picture, mask in zip(self.foregrounds.unbind(1), self.masks.unbind(1)):
            image = mask * picture + (1 - mask) * image
        return image


def unstack(x: Tensor) -> tuple[Layers, Tensor]:
    """The inverse of `Layers.stack`, for what comes after it too: layers, and the channels left over (I, or none)."""
    count = (x.shape[1] - 3) // 4
    foregrounds, background, masks, rest = x.split([3 * count, 3, count, x.shape[1] - 4 * count - 3], dim=1)
    return Layers(foregrounds.unflatten(1, (count, 3)), background, masks.unflatten(1, (count, 1))), rest


class Head(nn.Sequential):
    """A prediction head: conv-bn-relu-conv (Text2Layer, section 4.1). The width between is the decoder's: ours."""

    def __init__(self, inputs: int, outputs: int, operations: Any = nn):
        super().__init__(operations.Conv2d(inputs, inputs, 3, padding=1), nn.BatchNorm2d(inputs), nn.ReLU(),
                         operations.Conv2d(inputs, outputs, 3, padding=1))


class CompositionAutoencoder(nn.Module):
    """CaT2I-AE (Text2Layer, section 4.1): the SD autoencoder over stacked layers, with a head for each of F, B, m, I.

    `encoder` and `decoder` are the classes of the SD autoencoder's halves (ComfyUI's), config their arguments as in
    an SD file ("ddconfig"); its in_channels and out_ch are set here. Weights that SD has too keep SD's names.
    More than one foreground is ours: the paper has one. So is patch: with more than 1 the networks work on squares of
    so many pixels instead of pixels, which makes a small model fast on a CPU.
    """

    def __init__(self, encoder: type[nn.Module], decoder: type[nn.Module], config: dict[str, Any], foregrounds: int,
                 patch: int = 1, operations: Any = nn):
        super().__init__()
        self.foregrounds, self.patch = foregrounds, patch
        z, pixels = config["z_channels"], patch * patch
        config = {**config, "in_channels": (3 + 4 * foregrounds) * pixels, "out_ch": 3, "double_z": True}
        self.encoder, self.decoder = encoder(**config), decoder(**config)
        # the norm before the last layer goes with it: at small widths its groups are single channels, which would take
        # each picture's mean colour away, and the heads have norms of their own
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
        """Stacked layers [B, 3 + 4N, H, W] in -1..1, masks too -> the latent's mean [B, z, H / 8, W / 8]."""
        return self.moments(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """A latent -> [B, 3 + 4N + 3, H, W] in about -1..1: F1..FN, B, m1..mN as stacked, then the composed image I."""
        h = self.decoder(self.post_quant_conv(z))
        return torch.cat([pixel_shuffle(head(h), self.patch) for head in self.heads.values()], dim=1)

    def weights(self) -> dict[str, Tensor]:
        """What a file holds of it: all but the batch norms' counters, which only training counts."""
        return {name: value for name, value in self.state_dict().items() if not name.endswith(COUNTER)}

    def last_layers(self) -> list[Tensor]:
        """The last weights of the heads of F, B and I: where the adversarial term's share is measured."""
        return [self.heads[name][3].weight for name in ("foreground", "background", "composed")]
