"""Position features: their range, and that they distinguish positions."""

import torch

from layerdiff_core.position import POSITION_DIM, position_features


def test_they_are_bounded_and_of_their_shape() -> None:
    found = position_features(6, 10)
    assert found.shape == (1, POSITION_DIM, 6, 10) and found.abs().max() <= 1


def test_x_varies_from_left_to_right_and_y_from_top_to_bottom() -> None:
    x, y = position_features(8, 8)[0].chunk(2)
    assert torch.equal(x, x[:, :1].expand_as(x)) and torch.equal(y, y[:, :, :1].expand_as(y))
    assert torch.equal(x, y.transpose(1, 2))
    assert (x[4].diff(dim=1) > 0).all()


def test_no_two_places_are_alike() -> None:
    flat = position_features(16, 16)[0].flatten(1).T
    distances = torch.cdist(flat, flat) + torch.eye(len(flat)) * 9
    assert distances.min() > 0.05


def test_a_place_is_the_same_at_another_size() -> None:
    fine, coarse = position_features(32, 32)[0], position_features(16, 16)[0]
    assert (torch.nn.functional.avg_pool2d(fine, 2) - coarse).abs().max() < 0.02
