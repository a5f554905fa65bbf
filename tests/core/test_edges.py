"""Edges: the soft threshold, and colours extended outwards."""

import pytest
import torch

from layerdiff_core.edges import bleed_colours, soft_threshold

RED = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
CYAN = 1 - RED


def disc(height: int, width: int, radius: float, ramp: float) -> torch.Tensor:
    """Coverage [1,1,H,W] of a disc whose edge is ramp pixels wide."""
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    return ((radius - (y**2 + x**2).sqrt()) / ramp + 0.5).clamp(0, 1)[None, None]


def test_soft_threshold_is_half_at_the_centre_and_hard_outside_its_width():
    grey = torch.tensor([0.0, 0.29, 0.35, 0.4, 0.45, 0.51, 1.0]).reshape(1, 1, 7, 1).expand(1, 1, 7, 3)
    step = soft_threshold(grey, centre=0.4, softness=0.2)[0, 0]
    assert step[[0, 1, 5, 6]].tolist() == [0, 0, 1, 1]
    assert step[3].item() == pytest.approx(0.5, abs=1e-5)
    assert step[2].item() == pytest.approx(0.15625, abs=1e-5)  # 3 t^2 - 2 t^3 at t = 1/4
    assert step[2].item() + step[4].item() == pytest.approx(1, abs=1e-5)


def test_soft_threshold_takes_the_mean_of_the_channels_and_can_be_hard():
    colours = torch.tensor([[0.9, 0.6, 0.03], [0.9, 0.6, 0.0]]).reshape(1, 1, 2, 3)
    assert soft_threshold(colours, centre=0.505, softness=0)[0, 0].tolist() == [1, 0]


@pytest.mark.parametrize(("height", "width"), [(129, 97), (64, 256)])
@pytest.mark.parametrize("ramp", [1.0, 4.0, 12.0])
def test_the_background_in_an_edge_is_replaced_by_the_inside(height, width, ramp):
    coverage = disc(height, width, 25, ramp)
    mixed = RED * coverage + CYAN * (1 - coverage)
    bled = bleed_colours(mixed, coverage)
    assert ((mixed - RED).abs() * coverage).max() > 0.2  # what would show as a halo
    assert ((bled - RED).abs() * coverage).max() < 3 / 255
    assert (bled - RED).abs().max() < 0.02  # and outwards to the corners


def test_the_inside_stays_as_it_is():
    coverage = disc(96, 96, 30, 3)
    image = torch.rand(1, 3, 96, 96)
    inside = (coverage == 1).expand_as(image)
    assert torch.equal(bleed_colours(image, coverage)[inside], image[inside])


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
def test_even_coverage_changes_nothing(constant):
    image = torch.rand(2, 3, 33, 18)
    assert torch.equal(bleed_colours(image, torch.full((2, 1, 33, 18), constant)), image)


def test_a_slow_fade_keeps_its_own_colours():
    fade = torch.linspace(1, 0.2, 400).expand(1, 1, 8, 400)
    image = torch.linspace(0, 1, 400).expand(1, 3, 8, 400)
    assert (bleed_colours(image, fade) - image)[..., :320].abs().max() < 0.01


def test_each_side_gets_the_colour_that_is_nearer_and_the_way_between_is_smooth():
    coverage = torch.zeros(1, 1, 64, 64)
    coverage[..., :8] = coverage[..., -8:] = 1
    image = torch.zeros(1, 3, 64, 64)
    image[..., 32:] = 1
    bled = bleed_colours(image, coverage)[0, 0, 32]
    assert bled[10] < 0.1 and bled[53] > 0.9
    assert bled.diff().abs().max() < 0.2


def test_samples_of_a_batch_do_not_touch_each_other():
    image, coverage = torch.rand(3, 3, 40, 40), (torch.rand(3, 1, 40, 40) > 0.7).float()
    together = bleed_colours(image, coverage)
    apart = torch.cat([bleed_colours(image[n : n + 1], coverage[n : n + 1]) for n in range(3)])
    assert torch.allclose(together, apart, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 2)])
def test_tiny_pictures(shape):
    image, coverage = torch.rand(1, 3, *shape), torch.rand(1, 1, *shape)
    bled = bleed_colours(image, coverage)
    assert bled.shape == image.shape and bled.isfinite().all()
