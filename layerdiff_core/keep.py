"""Known layers while others are drawn: a foreground for a given background, or the other way round.

Text2Layer (section 6) names the task as open; the method is ours. In a latent that holds all layers mixed no part can be
frozen, so each prediction is decoded, its known layers are exchanged for the given ones, and the prediction is moved by
the difference that this makes to the encoding. What the autoencoder gets wrong is in both encodings and cancels.
"""

from collections.abc import Callable

from torch import Tensor

from .autoencoder import Layers, unstack

BACKGROUND, FOREGROUNDS = "background", "foregrounds"


def exchange(found: Layers, known: Layers, keep: str) -> Layers:
    """`found` of B scenes, its background or its foregrounds with their masks taken from `known`, which is one scene."""
    count = len(found.background)
    if keep == BACKGROUND:
        return Layers(found.foregrounds, known.background.expand(count, -1, -1, -1), found.masks)
    return Layers(known.foregrounds.expand(count, -1, -1, -1, -1), found.background, known.masks.expand(count, -1, -1, -1, -1))


def keep_known(decode: Callable[[Tensor], Tensor], encode: Callable[[Tensor], Tensor], z: Tensor, known: Layers,
               keep: str) -> Tensor:
    """By how much to move a latent [B, C, h, w] so that it holds the known layers and all else as before.

    decode gives F, B, m and whatever follows, encode takes F, B, m, both in -1..1 and stacked as `Layers.stack` does;
    known in 0..1, of one scene. Ours.
    """
    found, _ = unstack((decode(z) / 2 + 0.5).clamp(0, 1))
    return encode(exchange(found, known, keep).stack() * 2 - 1) - encode(found.stack() * 2 - 1)
