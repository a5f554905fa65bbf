"""LayerDiffuse's transparent decoder (arXiv 2402.17113): coverage and colours of a layer from its decoded image and latent.

The names of the modules are the keys of the published files, and the arithmetic is theirs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention

WIDTHS = (32, 32, 64, 128, 256, 512, 512)
"""Channels of each level, from the full size of the image to 1/64 of it."""
ATTENTIVE = 3
"""The number of levels that have attention, counted from the deepest."""
HEAD = 8
"""Channels of an attention head."""
GROUPS = 4
LATENT_LEVEL = 3
"""The level of the latents' resolution, 1/8, where they are added."""
RATIO, LATENT_CHANNELS = 8, 4
"""The scale and channels of the latents, which are those of SD 1.5 or SDXL."""
STEP = 64
"""The network needs sides that are multiples of this."""
VIEWS = tuple((flip, turns) for flip in (False, True) for turns in range(4))
"""The eight ways in which an image can be mirrored and turned."""


class ResidualBlock(nn.Module):
    """Two normalised convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, operations: Any, place: dict[str, Any]):
        super().__init__()
        self.norm1 = operations.GroupNorm(GROUPS, inputs, eps=1e-5, **place)
        self.conv1 = operations.Conv2d(inputs, outputs, 3, padding=1, **place)
        self.norm2 = operations.GroupNorm(GROUPS, outputs, eps=1e-5, **place)
        self.conv2 = operations.Conv2d(outputs, outputs, 3, padding=1, **place)
        self.conv_shortcut = operations.Conv2d(inputs, outputs, 1, **place) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        h = self.conv2(nn.functional.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class PixelAttention(nn.Module):
    """Self-attention over all pixels of a level, added to its input."""

    def __init__(self, dim: int, operations: Any, place: dict[str, Any]):
        super().__init__()
        self.group_norm = operations.GroupNorm(GROUPS, dim, eps=1e-5, **place)
        self.to_q, self.to_k, self.to_v = (operations.Linear(dim, dim, **place) for _ in range(3))
        self.to_out = nn.ModuleList([operations.Linear(dim, dim, **place)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (linear(h).unflatten(-1, (-1, HEAD)).transpose(1, 2) for linear in (self.to_q, self.to_k, self.to_v))
        out = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out[0](out).transpose(1, 2).reshape(x.shape)


class Halving(nn.Module):
    """A convolution that halves the resolution."""

    def __init__(self, dim: int, operations: Any, place: dict[str, Any]):
        super().__init__()
        self.conv = operations.Conv2d(dim, dim, 3, stride=2, padding=1, **place)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Doubling(nn.Module):
    """Doubles the resolution: every pixel four times, then a convolution."""

    def __init__(self, dim: int, operations: Any, place: dict[str, Any]):
        super().__init__()
        self.conv = operations.Conv2d(dim, dim, 3, padding=1, **place)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one level, each with attention after it in the deepest levels."""

    def __init__(self, inputs: list[int], width: int, attentive: bool, operations: Any, place: dict[str, Any]):
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(each, width, operations, place) for each in inputs)
        self.attentions = nn.ModuleList(PixelAttention(width, operations, place) for _ in inputs) if attentive else None

    def step(self, number: int, h: Tensor) -> Tensor:
        """The residual block of this number, and its attention."""
        h = self.resnets[number](h)
        return h if self.attentions is None else self.attentions[number](h)


class Middle(nn.Module):
    """The middle block, between the encoder and the decoder."""

    def __init__(self, width: int, operations: Any, place: dict[str, Any]):
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(width, width, operations, place) for _ in range(2))
        self.attentions = nn.ModuleList([PixelAttention(width, operations, place)])

    def forward(self, h: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](h)))


class TransparentDecoder(nn.Module):
    """The published UNet over a decoded image, with its latent.

    operations: torch.nn or ComfyUI's replacement for it, which casts and offloads weights.
    """

    def __init__(self, operations: Any = nn, **place: Any):
        super().__init__()
        count = len(WIDTHS)
        self.conv_in = operations.Conv2d(3, WIDTHS[0], 3, padding=1, **place)
        self.latent_conv_in = operations.Conv2d(LATENT_CHANNELS, WIDTHS[LATENT_LEVEL - 1], 1, **place)
        # Any: mypy takes what comes out of a ModuleList for a Module or a Tensor.
        self.down_blocks: Any = nn.ModuleList()
        self.up_blocks: Any = nn.ModuleList()
        for number, width in enumerate(WIDTHS):
            level = Level([WIDTHS[max(number - 1, 0)], width], width, number >= count - ATTENTIVE, operations, place)
            if number < count - 1:
                level.downsamplers = nn.ModuleList([Halving(width, operations, place)])
            self.down_blocks.append(level)
        self.mid_block = Middle(WIDTHS[-1], operations, place)
        for number in reversed(range(count)):
            width, below, above = WIDTHS[number], WIDTHS[min(number + 1, count - 1)], WIDTHS[max(number - 1, 0)]
            inputs = [below + width, width + width, width + above]
            level = Level(inputs, width, number >= count - ATTENTIVE, operations, place)
            if number > 0:
                level.upsamplers = nn.ModuleList([Doubling(width, operations, place)])
            self.up_blocks.append(level)
        self.conv_norm_out = operations.GroupNorm(GROUPS, WIDTHS[0], eps=1e-5, **place)
        self.conv_out = operations.Conv2d(WIDTHS[0], 4, 3, padding=1, **place)

    def forward(self, picture: Tensor, latent: Tensor) -> Tensor:
        """picture: [N, 3, H, W], 0..1, with sides that are multiples of 64. latent: [N, 4, H / 8, W / 8], as in a LATENT. Returns
        coverage, then red, green and blue, about 0..1: [N, 4, H, W]."""
        h = self.conv_in(picture)
        kept = [h]
        for number, level in enumerate(self.down_blocks):
            if number == LATENT_LEVEL:
                h = h + self.latent_conv_in(latent)
            for index in range(len(level.resnets)):
                h = level.step(index, h)
                kept.append(h)
            if hasattr(level, "downsamplers"):
                h = level.downsamplers[0](h)
                kept.append(h)
        h = self.mid_block(h)
        for level in self.up_blocks:
            for index in range(len(level.resnets)):
                h = level.step(index, torch.cat([h, kept.pop()], dim=1))
            if hasattr(level, "upsamplers"):
                h = level.upsamplers[0](h)
        return self.conv_out(nn.functional.silu(self.conv_norm_out(h)))


Network = Callable[[Tensor, Tensor], Tensor]
"""Image and latent -> coverage and colours, as `TransparentDecoder.forward`."""


def decode_transparency(network: Network, picture: Tensor, latent: Tensor, views: int = len(VIEWS),
                        after_view: Callable[[], None] = lambda: None) -> Tensor:
    """Coverage and colours of layers, [N, 4, H, W], 0..1: the median over `views` mirrored and turned views (the published way
    has eight; one is faster).

    picture: [N, 3, H, W], 0..1, of any size that is a multiple of 8. latent: [N, 4, H / 8, W / 8]. after_view: called after each.
    """
    height, width = picture.shape[-2:]
    missing = [-side % STEP for side in (height, width)]
    picture = pad(picture, (0, missing[1], 0, missing[0]), mode="replicate")
    latent = pad(latent, (0, missing[1] // RATIO, 0, missing[0] // RATIO), mode="replicate")
    found = []
    for flip, turns in VIEWS[:views]:
        seen = network(*(_view(part, flip, turns) for part in (picture, latent))).clamp(0, 1)
        seen = torch.rot90(seen, -turns, dims=(2, 3))
        found.append((seen.flip(3) if flip else seen)[..., :height, :width])
        after_view()
    return torch.stack(found).median(0).values


def _view(part: Tensor, flip: bool, turns: int) -> Tensor:
    return torch.rot90(part.flip(3) if flip else part, turns, dims=(2, 3))
