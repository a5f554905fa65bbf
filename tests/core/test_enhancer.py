"""The prompt enhancer: its initial state, the effect of strength, and which tokens affect which."""

import pytest
import torch

from layerdiff_core.enhancer import PromptEnhancer


@pytest.fixture
def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 7, 16), torch.randn(1, 9, 16)


@pytest.fixture
def trained() -> PromptEnhancer:
    torch.manual_seed(1)
    enhancer = PromptEnhancer(16, 4).requires_grad_(False)
    enhancer.gate += 0.5
    return enhancer


def test_a_fresh_one_gives_plain_prompts(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer, overall = tokens
    assert torch.equal(PromptEnhancer(16, 4)(layer, overall), layer)


def test_strength_0_gives_plain_prompts(trained: PromptEnhancer, tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer, overall = tokens
    assert trained(layer, overall, 0.0) is layer
    changes = [(trained(layer, overall, strength) - layer).abs().mean() for strength in (0.25, 0.5, 1.0)]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_layers_learn_from_the_global_prompt_and_not_from_each_other(
        trained: PromptEnhancer, tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer, overall = tokens
    before = trained(layer, overall)
    assert before.shape == layer.shape
    assert (trained(layer, overall + torch.randn_like(overall)) - before).abs().amax((1, 2)).min() > 1e-3
    other = layer.clone()
    other[1] += 1
    difference = (trained(other, overall) - before).abs().amax((1, 2))
    assert difference[1] > 1e-3 and difference[0] < 1e-6 and difference[2] < 1e-6


def test_a_global_prompt_a_layer(trained: PromptEnhancer, tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer, overall = tokens
    assert torch.allclose(trained(layer, overall.expand(3, -1, -1)), trained(layer, overall), atol=1e-6)


def test_the_gates_learn_from_their_zero_start(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    enhancer = PromptEnhancer(16, 4)
    enhancer(*tokens).square().mean().backward()
    assert enhancer.gate.grad is not None and (enhancer.gate.grad != 0).all()


def test_reading_both_ways_lets_an_early_token_know_a_later_one(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer, overall = tokens
    torch.manual_seed(2)
    reader = PromptEnhancer(16, 4, both_ways=True).reader
    other = overall.clone()
    other[:, -1] = torch.randn(16)
    assert (reader(other) - reader(overall))[:, 0].abs().max() > 1e-4
    assert torch.equal(PromptEnhancer(16, 4, both_ways=True)(layer, overall), layer)  # a fresh one still changes nothing


def test_files_without_the_reader_still_fit() -> None:
    old = PromptEnhancer(16, 4).state_dict()
    assert not any(name.startswith("reader.") for name in old)
    PromptEnhancer(16, 4, both_ways=False).load_state_dict(old)
    assert PromptEnhancer(16, 4, both_ways=True).state_dict().keys() > old.keys()


def test_open_gates_let_the_global_prompt_in(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer, overall = tokens
    enhancer = PromptEnhancer(16, 4, both_ways=True)
    enhancer.open_gates()
    assert (enhancer(layer, overall) - layer).abs().mean() > 0.05
