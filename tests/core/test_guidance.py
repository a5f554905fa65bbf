"""The parts of Self-Mask Guidance."""

import torch

from layerdiff_core.guidance import blur_inside, coverage_of_latent, degrade, guided_region, union_of_masks

BLACK, WHITE = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([-1.0, 0.0, 2.0])


def filled(colour: torch.Tensor) -> torch.Tensor:
    return colour[None, :, None, None].expand(1, -1, 4, 4)


def test_coverage_of_black_white_and_grey_latents() -> None:
    def coverage(colour: torch.Tensor) -> torch.Tensor:
        return coverage_of_latent(filled(colour), BLACK, WHITE)

    assert coverage(BLACK).shape == (1, 1, 4, 4)
    assert coverage(BLACK).abs().max() < 1e-6
    assert (coverage(WHITE) - 1).abs().max() < 1e-6
    assert (coverage((BLACK + WHITE) / 2) - 0.5).abs().max() < 1e-6
    assert (coverage(0.75 * WHITE + 0.25 * BLACK) - 0.75).abs().max() < 1e-6


def test_coverage_stays_between_0_and_1_and_sees_the_line_alone() -> None:
    beyond = torch.cat([filled(BLACK - (WHITE - BLACK)), filled(WHITE + (WHITE - BLACK))])
    assert coverage_of_latent(beyond, BLACK, WHITE).unique().tolist() == [0, 1]
    sideways = torch.tensor([2.0, 2.0, 0.0])  # orthogonal to WHITE - BLACK
    assert (coverage_of_latent(filled(BLACK + sideways), BLACK, WHITE)).abs().max() < 1e-6


def test_the_background_is_steered_in_the_union_of_the_foregrounds() -> None:
    coverage = torch.rand(6, 1, 4, 4)
    region = guided_region(coverage, 3)
    for first in (0, 3):
        assert torch.equal(region[first], torch.maximum(coverage[first + 1], coverage[first + 2]))
        assert torch.equal(region[first + 1 : first + 3], coverage[first + 1 : first + 3])
    assert not torch.equal(guided_region(coverage, 2), region)


def test_a_single_layer_is_steered_everywhere() -> None:
    assert torch.equal(guided_region(torch.zeros(2, 1, 4, 4), 1), torch.ones(2, 1, 4, 4))


def test_the_picture_is_blurred_inside_the_region_alone() -> None:
    torch.manual_seed(0)
    x0, region = torch.randn(2, 6, 16, 16), torch.zeros(2, 1, 16, 16)
    region[:, :, 4:12, 4:12] = 1
    blurred = degrade(x0, region, 1.5)
    inside = region.expand(-1, 3, -1, -1) > 0
    assert torch.equal(blurred[:, 3:], x0[:, 3:])
    assert torch.equal(blurred[:, :3][~inside], x0[:, :3][~inside])
    assert blurred[:, :3][inside].std() < 0.6 * x0[:, :3][inside].std()
    flat = torch.full((1, 6, 16, 16), 0.7)
    assert torch.allclose(degrade(flat, torch.ones(1, 1, 16, 16), 1.5), flat, atol=1e-6)


def test_a_stacked_latent_tells_where_any_foreground_is() -> None:
    factors, bias = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]]), torch.tensor([0.0, 0.5])
    x0 = torch.zeros(1, 3, 1, 4)
    x0[0, 0, 0] = torch.tensor([0.0, 0.8, 0.0, 5.0])  # the first mask is 0, 0.8, 0, 5
    x0[0, 1, 0] = torch.tensor([-1.0, -1.0, 0.0, -9.0])  # the second 0, 0, 0.5, -4
    x0[0, 2] = 100.0  # a channel that says nothing of masks
    assert torch.allclose(union_of_masks(x0, factors, bias), torch.tensor([[[[0.0, 0.8, 0.5, 1.0]]]]))


def test_a_stacked_latent_is_blurred_in_all_channels_inside_alone() -> None:
    torch.manual_seed(0)
    x0, region = torch.randn(1, 5, 16, 16), torch.zeros(1, 1, 16, 16)
    region[..., 4:12, 4:12] = 1
    blurred = blur_inside(x0, region, 1.5)
    inside = region.expand_as(x0) > 0
    assert torch.equal(blurred[~inside], x0[~inside])
    assert blurred[inside].std() < 0.7 * x0[inside].std()
