"""Warnings about decoded layers that are empty or hidden."""

import pytest
import torch

from layerdiff_core.decode import unseen_layers


def scene(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    """Coverage of a background and of one layer per box: left, top, right, bottom."""
    coverage = torch.zeros(1 + len(boxes), 100, 100)
    coverage[0] = 1
    for layer, (left, top, right, bottom) in zip(coverage[1:], boxes):
        layer[top:bottom, left:right] = 1
    return coverage


@pytest.mark.parametrize("boxes, empty, hidden", [
    ([(10, 10, 40, 40), (60, 10, 90, 40)], [], []),
    ([(10, 10, 40, 40), (5, 5, 45, 45)], [], [1]),
    ([(10, 10, 40, 40), (15, 10, 45, 40)], [], []),  # a sixth is seen
    ([(10, 10, 40, 40), (12, 10, 45, 40)], [], [1]),
    ([(10, 10, 40, 40), (50, 50, 53, 53)], [2], []),
    ([(10, 10, 60, 40), (5, 5, 35, 45), (35, 5, 65, 45)], [], [1]),  # by two together
    ([(0, 0, 0, 0), (10, 10, 40, 40), (5, 5, 45, 45)], [1], [2]),
    ([(0, 0, 100, 100)], [], []),  # the background may be hidden
])
def test_layers_that_are_not_seen(boxes: list[tuple[int, int, int, int]], empty: list[int], hidden: list[int]) -> None:
    assert unseen_layers(scene(*boxes)) == (empty, hidden)


def test_soft_layers_hide_in_part() -> None:
    coverage = scene((10, 10, 40, 40), (10, 10, 40, 40))
    coverage[2] *= 0.8
    assert unseen_layers(coverage) == ([], [])
    coverage[2] = (coverage[2] > 0) * 0.9
    assert unseen_layers(coverage) == ([], [1])
