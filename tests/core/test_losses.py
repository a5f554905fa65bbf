"""Every term of Text2Layer's objective against values worked out by hand."""

import math

import pytest
import torch

from layerdiff_core.training import losses


def grey(*values: float, side: int = 8) -> torch.Tensor:
    """One flat single-channel image for each value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, side, side).clone()


def test_l1_is_the_mean_absolute_difference():
    assert losses.l1_loss(grey(0.2, 0.9), grey(0.5, 0.8)).item() == pytest.approx(0.2)  # (0.3 + 0.1) / 2


def test_charbonnier_is_epsilon_where_nothing_differs():
    assert losses.charbonnier(grey(0.4), grey(0.4)).item() == pytest.approx(1e-6, rel=1e-3)


def test_charbonnier_is_the_distance_where_it_is_large():
    assert losses.composition_loss(grey(0.1), grey(0.4)).item() == pytest.approx(0.3, abs=1e-5)
    near = losses.charbonnier(grey(1e-6), grey(0.0)).item()
    assert near == pytest.approx(math.sqrt(2) * 1e-6, rel=1e-3)


def test_laplacian_does_not_see_a_flat_difference():
    assert losses.laplacian_loss(grey(0.1), grey(0.9)).item() == pytest.approx(0, abs=1e-6)


def test_laplacian_of_a_checkerboard_lies_in_the_finest_level():
    # every 2 x 2 block averages 0.5, so level 1 is +-0.5 everywhere, and nothing is left for levels 2 and 3
    row = torch.arange(16)
    board = ((row[:, None] + row) % 2).float()[None, None]
    assert losses.laplacian_loss(board, torch.full_like(board, 0.5)).item() == pytest.approx(0.5, abs=1e-6)


def test_laplacian_weighs_levels_by_1_2_4(monkeypatch):
    monkeypatch.setattr(losses, "laplacian", lambda x: [x, x, x])
    # the same difference of 0.1 on each level: (1 + 2 + 4) * 0.1
    assert losses.laplacian_loss(grey(0.3), grey(0.2)).item() == pytest.approx(0.7)


def test_mask_loss_is_l1_and_twice_composition_and_thrice_laplacian(monkeypatch):
    monkeypatch.setattr(losses, "laplacian", lambda x: [x, x, x])
    # L1 0.1; the composites differ by 0.05; Laplacian 0.7 as above: 0.1 + 2 * 0.05 + 3 * 0.7
    assert losses.mask_loss(grey(0.3), grey(0.2), grey(0.5), grey(0.55)).item() == pytest.approx(2.3, abs=1e-5)


def test_perceptual_term_is_nothing_for_equals_and_is_symmetric():
    features, generator = losses.RandomFeatures(), torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 3, 32, 32, generator=generator) for _ in range(2))
    assert losses.perceptual_loss(features, a, a).item() == 0
    there, back = losses.perceptual_loss(features, a, b), losses.perceptual_loss(features, b, a)
    assert there.item() > 0 and there.item() == pytest.approx(back.item())


def test_perceptual_term_of_orthogonal_features_is_two_a_level():
    # normed (1, 0) and (0, 1): squared distance 2, on each of the two levels
    def features(x: torch.Tensor) -> list[torch.Tensor]:
        return [x, x]

    a = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    b = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1)
    assert losses.perceptual_loss(features, a, b).item() == pytest.approx(4, abs=1e-5)


def test_random_features_are_always_the_same():
    x = torch.rand(1, 3, 16, 16)
    for a, b in zip(losses.RandomFeatures()(x), losses.RandomFeatures()(x)):
        assert torch.equal(a, b)


def test_hinge_losses():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    # real: (0 + 0.5) / 2 = 0.25; fake: (0 + 1) / 2 = 0.5; half of the sum
    assert losses.discriminator_loss(real, fake).item() == pytest.approx(0.375)
    assert losses.adversarial_loss(fake).item() == pytest.approx(1.5)


def test_adaptive_weight_is_a_quarter_of_the_ratio_of_gradients():
    weight = torch.tensor([1.0], requires_grad=True)
    # gradients 6 and 2
    assert losses.adaptive_weight(6 * weight.sum(), 2 * weight.sum(), [weight]).item() == pytest.approx(0.75, rel=1e-3)


def test_discriminator_gives_one_logit_a_patch():
    assert losses.PatchDiscriminator()(torch.rand(2, 3, 64, 64)).shape == (2, 1, 7, 7)
