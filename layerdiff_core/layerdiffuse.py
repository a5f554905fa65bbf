"""LayerDiffuse for SD 1.5 (Zhang and Agrawala, arXiv 2402.17113): attention shared by the frames of a scene.

The names of the modules are the keys of the published files. The arithmetic is that of the published networks.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .attention import across_layers

RANK = SIGNAL = 256
"""The rank of all low-rank changes, and the channels of the given layer's signals, in every published file."""

BLOCKS = {("input", 1): 0, ("input", 2): 0, ("input", 4): 1, ("input", 5): 1, ("input", 7): 2, ("input", 8): 2,
          ("output", 3): 2, ("output", 4): 2, ("output", 5): 2, ("output", 6): 1, ("output", 7): 1, ("output", 8): 1,
          ("output", 9): 0, ("output", 10): 0, ("output", 11): 0, ("middle", 0): 3}
"""The transformer blocks of SD 1.5's UNet in the order of the files, each with the level of resolution it works at: 0 is 1/8 of
the image's size, 3 is 1/64."""

BACKGROUND, FOREGROUND, BLENDED = "background", "foreground", "blended"


class Kind(NamedTuple):
    """A kind of file. in_file: the frames in the order of the file's weights. frames: in the order of our layers, which is that
    of the latents, bottom first. given: the layer that the user gives as an image, None if there is none."""

    name: str
    in_file: tuple[str, ...]
    frames: tuple[str, ...]
    given: str | None = None

    @property
    def drawn(self) -> tuple[str, ...]:
        """The frames that are layers: all but the blended one."""
        return tuple(frame for frame in self.frames if frame != BLENDED)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of a scene, the given one among them, bottom first."""
        return tuple(layer for layer in (BACKGROUND, FOREGROUND) if layer in (*self.frames, self.given))


JOINT = Kind("joint", (FOREGROUND, BACKGROUND, BLENDED), (BACKGROUND, FOREGROUND, BLENDED))
FG2BG = Kind("fg2bg", (BACKGROUND, BLENDED), (BACKGROUND, BLENDED), FOREGROUND)
BG2FG = Kind("bg2fg", (FOREGROUND, BLENDED), (FOREGROUND, BLENDED), BACKGROUND)
TRANSPARENT = Kind("transparent", (FOREGROUND,), (FOREGROUND,))


class LowRank(nn.Module):
    """A low-rank change of a linear layer, without its own scale: x -> up(down(x))."""

    def __init__(self, inputs: int, outputs: int, operations: Any, **place: Any):
        super().__init__()
        self.down = operations.Linear(inputs, RANK, bias=False, **place)
        self.up = operations.Linear(RANK, outputs, bias=False, **place)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return self.up(self.down(x))


class SharedAttention(nn.Module):
    """What LayerDiffuse adds to one attention module: changed weights for each frame, and attention among the frames.

    dim, context: channels of the block, and of what keys and values are made from. control: whether the signals of a given layer
    are added to the input. operations: torch.nn or ComfyUI's replacement for it, which casts and offloads weights.
    """

    def __init__(self, dim: int, context: int, frames: int, control: bool, operations: Any = nn, **place: Any):
        super().__init__()
        self.frames = frames
        for name, inputs in (("q", dim), ("k", context), ("v", context), ("out", dim)):
            changes = (LowRank(inputs, dim, operations, **place) for _ in range(frames))
            self.add_module(f"to_{name}_lora", nn.ModuleList(changes))
        self.temporal_n = operations.LayerNorm(dim, eps=1e-6, **place)
        for name in ("i", "q", "k", "v", "o"):
            self.add_module(f"temporal_{name}", operations.Linear(dim, dim, **place))
        self.control_convs = nn.ModuleList(
            nn.Sequential(operations.Conv2d(SIGNAL, SIGNAL, 3, padding=1, **place), nn.SiLU(),
                          operations.Conv2d(SIGNAL, dim, 1, **place))
            for _ in range(frames)
        ) if control else None

    def guided(self, x: Tensor, signal: Tensor | None) -> Tensor:
        """Adds the given layer's signal. x: [scenes * frames, tokens, dim]. signal: [1, 256, h, w] with h * w tokens; None for a
        file without control."""
        if self.control_convs is None or signal is None:
            return x
        added = torch.cat([convolutions(signal) for convolutions in self.control_convs])
        return (x.unflatten(0, (-1, self.frames)) + added.flatten(2).transpose(1, 2)).flatten(0, 1)

    def change(self, name: str, x: Tensor) -> Tensor:
        """What the frames' own weights add to a projection ("q", "k", "v" or "out") of x: [scenes * frames, tokens, inputs] ->
        [scenes * frames, tokens, dim]."""
        changes = self.get_submodule(f"to_{name}_lora")
        parts = [change(part) for change, part in zip(changes.children(), x.unflatten(0, (-1, self.frames)).unbind(1))]
        return torch.stack(parts, dim=1).flatten(0, 1)

    def joined(self, y: Tensor, heads: int) -> Tensor:
        """Adds attention among the frames at each position. y: [scenes * frames, tokens, dim] -> the same shape."""
        linear = {name: self.get_submodule(f"temporal_{name}") for name in "iqkvo"}
        h = linear["i"](self.temporal_n(y)).unflatten(0, (-1, self.frames))
        q, k, v = (linear[name](h).unflatten(-1, (heads, -1)) for name in "qkv")
        return y + linear["o"](across_layers(q, k, v).flatten(3).flatten(0, 1))


class ControlEncoder(nn.Module):
    """Turns the given layer's image into signals for each level of the UNet's resolution."""

    WIDTHS = ((32, 32, 64, 64, 128, 128, SIGNAL, SIGNAL), (SIGNAL, SIGNAL), (SIGNAL, SIGNAL), (SIGNAL, SIGNAL))
    """Channels of the convolutions of each block."""
    HALVING = ((2, 4, 6), (0,), (0,), (0,))
    """Which of them have stride 2."""

    def __init__(self, operations: Any = nn, **place: Any):
        super().__init__()
        inputs = 3
        for number, (widths, halving) in enumerate(zip(self.WIDTHS, self.HALVING)):
            block: list[nn.Module] = []
            for index, width in enumerate(widths):
                stride = 2 if index in halving else 1
                block += [operations.Conv2d(inputs, width, 3, stride=stride, padding=1, **place), nn.SiLU()]
                inputs = width
            self.add_module(f"blocks_{number}", nn.Sequential(*block))

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: [N, 3, H, W], 0..1. Returns the signals [N, 256, H / 8, W / 8], then of 1/16, 1/32 and 1/64."""
        signals, h = [], image * 2 - 1
        for block in self.children():
            h = block(h)
            signals.append(h)
        return signals


class FrameNetwork(nn.Module):
    """The network of a file: two units for each of the UNet's transformer blocks, for self-attention and for attention to the
    text, and the encoder of a given layer.

    widths: channels of the UNet's transformer blocks at each of the four levels. context: width of the text's tokens.
    """

    def __init__(self, kind: Kind, widths: list[int], context: int, operations: Any = nn, **place: Any):
        super().__init__()
        control = kind.given is not None
        dims = [widths[level] for level in BLOCKS.values()]
        units = (SharedAttention(dim, source, len(kind.frames), control, operations, **place)
                 for dim in dims for source in (dim, context))
        self.hookers = nn.ModuleDict({"layers": nn.ModuleList(units)})
        self.kwargs_encoder = ControlEncoder(operations, **place) if control else None

    def unit(self, block: tuple[str, int], cross: bool) -> SharedAttention:
        """The unit of a transformer block, for its self-attention or, if cross, for its attention to the text."""
        return self.get_submodule(f"hookers.layers.{2 * list(BLOCKS).index(block) + cross}")  # type: ignore[return-value]

    def signals(self, image: Tensor) -> list[Tensor]:
        """The signals of a given layer's image [1, 3, H, W], 0..1, for each level."""
        assert self.kwargs_encoder is not None
        return self.kwargs_encoder(image)


def in_our_order(kind: Kind, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's weights with its frames renumbered from the file's order to that of our layers."""
    ours = {str(number): str(kind.frames.index(frame)) for number, frame in enumerate(kind.in_file)}
    found = {}
    for key, tensor in weights.items():
        parts = key.split(".")
        if key.startswith("hookers.") and (parts[3].endswith("_lora") or parts[3] == "control_convs"):
            parts[4] = ours[parts[4]]
        found[".".join(parts)] = tensor
    return found


def on_grey(picture: Tensor, coverage: Tensor | None) -> Tensor:
    """A foreground as LayerDiffuse takes it: transparent pixels lie on grey. picture: [N, H, W, 3], coverage: [N, H, W] or None
    for an opaque one, 0..1 -> [N, H, W, 3]."""
    return picture if coverage is None else 0.5 + (picture - 0.5) * coverage[..., None]
