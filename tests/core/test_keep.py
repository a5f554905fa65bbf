"""Keeping known layers of a stacked latent."""

import pytest
import torch
from torch import Tensor

from layerdiff_core.autoencoder import Layers, unstack
from layerdiff_core.keep import BACKGROUND, FOREGROUNDS, exchange, keep_known

MIX = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(1)))[0]


def layers(count: int, seed: int) -> Layers:
    generator = torch.Generator().manual_seed(seed)
    return Layers(*(torch.rand(count, *shape, 4, 4, generator=generator) for shape in ((1, 3), (3,), (1, 1))))


def encode(x: Tensor) -> Tensor:
    """Mixes all layers into every channel, like an autoencoder, and adds a constant error."""
    return torch.einsum("nchw,dc->ndhw", x, MIX) + 0.3


def decode(z: Tensor) -> Tensor:
    """The inverse of the mixing; the error stays in."""
    x = torch.einsum("ndhw,dc->nchw", z, MIX)
    return torch.cat([x, x[:, :3]], dim=1)


@pytest.mark.parametrize("keep", [BACKGROUND, FOREGROUNDS])
def test_only_the_kept_part_is_exchanged(keep: str) -> None:
    found, known = layers(3, 0), layers(1, 1)
    mixed = exchange(found, known, keep)
    kept, free = (known, found) if keep == BACKGROUND else (found, known)
    assert torch.equal(mixed.background, kept.background.expand(3, -1, -1, -1))
    assert torch.equal(mixed.foregrounds, free.foregrounds.expand(3, -1, -1, -1, -1))
    assert torch.equal(mixed.masks, free.masks.expand(3, -1, -1, -1, -1))


@pytest.mark.parametrize("keep", [BACKGROUND, FOREGROUNDS])
def test_the_latent_moves_to_the_known_part_alone(keep: str) -> None:
    found, known = layers(2, 0), layers(1, 1)
    z = encode(found.stack() * 2 - 1) - 0.3  # a latent that decodes to exactly these layers
    moved = unstack(decode(z + keep_known(decode, encode, z, known, keep)) / 2 + 0.5)[0]
    wanted = exchange(found, known, keep)
    for part in ("foregrounds", "background", "masks"):
        assert (getattr(moved, part) - getattr(wanted, part)).abs().max() < 1e-5, part


def test_nothing_moves_where_the_known_part_is_there_already() -> None:
    found = layers(1, 0)
    z = encode(found.stack() * 2 - 1) - 0.3
    assert keep_known(decode, encode, z, found, BACKGROUND).abs().max() < 1e-5
