"""Inter-layer attention: compared with the plain formula, and its initial state."""

import pytest
import torch

from layerdiff_core.attention import InterLayerAttention, index_features

DIM, HEADS = 24, 3


def trained(seed: int = 0) -> InterLayerAttention:
    torch.manual_seed(seed)
    module = InterLayerAttention(DIM, HEADS)
    module.reset_parameters()
    torch.nn.init.normal_(module.to_out.weight, std=0.3)
    torch.nn.init.normal_(module.to_out.bias, std=0.3)
    torch.nn.init.normal_(module.norm.weight, mean=1.0, std=0.2)
    return module


def indices(layers: int) -> torch.Tensor:
    return index_features(layers, torch.device("cpu"), torch.float32)


def naive(module: InterLayerAttention, x: torch.Tensor, layers: int) -> torch.Tensor:
    """softmax(q k / sqrt(d)) v over the layers, one scene, one position and one head at a time."""
    index = module.index(indices(layers).to(x))
    out = torch.empty_like(x)
    for first in range(0, len(x), layers):
        for position in range(x.shape[1]):
            h = module.norm(x[first : first + layers, position]) + index
            heads = []
            width = DIM // 2 // HEADS
            for head in range(HEADS):
                q, k, v = (part[:, head * width : (head + 1) * width]
                           for part in module.to_qkv(h).chunk(3, dim=-1))
                heads.append((q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v)
            out[first : first + layers, position] = module.to_out(torch.cat(heads, dim=-1))
    return out


@pytest.mark.parametrize("layers", [1, 2, 3, 7])
def test_it_is_softmax_attention_over_the_layers(layers: int) -> None:
    module, x = trained().double(), torch.randn(2 * layers, 5, DIM, dtype=torch.float64)
    with torch.no_grad():
        wanted = naive(module, x, layers)
        assert (module(x, indices(layers).double()) - wanted).abs().max() < 1e-6
        if layers > 1:
            assert (module(x, indices(1).double()) - wanted).abs().max() > 1e-2


def test_a_fresh_one_adds_nothing() -> None:
    module = InterLayerAttention(DIM, HEADS)
    module.reset_parameters()
    assert torch.count_nonzero(module(torch.randn(6, 5, DIM), indices(3))) == 0
    assert torch.count_nonzero(trained()(torch.randn(6, 5, DIM), indices(3))) > 0


def test_layers_see_each_other_and_scenes_do_not() -> None:
    module, x = trained(), torch.randn(6, 5, DIM)
    changed = x.clone()
    changed[2] += torch.randn(5, DIM)
    with torch.no_grad():
        difference = (module(changed, indices(3)) - module(x, indices(3))).abs().amax((1, 2))
    assert (difference[:3] > 1e-4).all()
    assert (difference[3:] == 0).all()


def test_positions_do_not_mix() -> None:
    module, x = trained(), torch.randn(3, 5, DIM)
    changed = x.clone()
    changed[:, 2] += torch.randn(3, DIM)
    with torch.no_grad():
        difference = (module(changed, indices(3)) - module(x, indices(3))).abs().amax((0, 2))
    assert difference[2] > 1e-4
    assert (difference[[0, 1, 3, 4]] == 0).all()


def test_the_order_of_layers_counts() -> None:
    module, x = trained(), torch.randn(3, 5, DIM)
    with torch.no_grad():
        assert (module(x.flip(0), indices(3)).flip(0) - module(x, indices(3))).abs().max() > 1e-4


def test_layer_numbers_have_features_of_their_own() -> None:
    features = indices(50)
    assert features.shape == (50, 32) and features.abs().max() <= 1
    distance = torch.cdist(features, features) + torch.eye(50)
    assert distance.min() > 0.05
    assert torch.equal(features[:4], indices(4))


def test_it_learns_from_its_zero_start() -> None:
    module = InterLayerAttention(DIM, HEADS)
    module.reset_parameters()
    module(torch.randn(6, 5, DIM), indices(3)).sum().backward()
    assert module.to_out.weight.grad is not None and module.to_out.weight.grad.abs().max() > 0
