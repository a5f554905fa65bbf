"""Keeps known layers while others are generated: a foreground for a given background, or the other way round.

Text2Layer (section 6) leaves this task open; the method is ours. A latent that mixes all layers has no part that could be
frozen. Instead, each prediction is decoded, its known layers are replaced by the given ones, and the prediction is moved by
the difference between the encodings of the two. Errors of the autoencoder are in both encodings and cancel out.
"""

from collections.abc import Callable

from torch import Tensor

from .autoencoder import Layers, unstack

BACKGROUND, FOREGROUNDS = "background", "foregrounds"


def exchange(found: Layers, known: Layers, keep: str) -> Layers:
    """`found`, B scenes, with the background, or the foregrounds and their masks, replaced by those of `known`, one scene."""
    count = len(found.background)
    if keep == BACKGROUND:
        return Layers(found.foregrounds, known.background.expand(count, -1, -1, -1), found.masks)
    return Layers(known.foregrounds.expand(count, -1, -1, -1, -1), found.background, known.masks.expand(count, -1, -1, -1, -1))


def keep_known(decode: Callable[[Tensor], Tensor], encode: Callable[[Tensor], Tensor], z: Tensor, known: Layers,
               keep: str) -> Tensor:
    """How far to move a latent [B, C, h, w] so that it holds the known layers and is otherwise unchanged.

    decode: returns F, B, m, possibly followed by other channels. encode: takes F, B, m. Both in -1..1, stacked as by
    `Layers.stack`. known: one scene, in 0..1. Ours.
    """
    found, _ = unstack((decode(z) / 2 + 0.5).clamp(0, 1))
    return encode(exchange(found, known, keep).stack() * 2 - 1) - encode(found.stack() * 2 - 1)
