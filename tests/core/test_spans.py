"""Ranges of sampling in which the same prompts are active."""

import pytest

from layerdiff_core.spans import GAP, spans

ALWAYS = (0.0, 1.0)


def test_everything_all_the_time_is_one_span() -> None:
    assert list(spans([[ALWAYS], [ALWAYS, ALWAYS]])) == [(0.0, 1.0, [[0], [0, 1]])]


def test_a_layer_that_ends() -> None:
    assert list(spans([[ALWAYS], [(0.0, 0.5)]])) == [(0.0, 0.5, [[0], [0]]), (0.5 + GAP, 1.0, [[0], []])]


def test_both_count_where_one_ends_and_the_next_starts() -> None:
    assert list(spans([[(0.0, 0.5), (0.5, 1.0)]])) == [(0.0, 0.5 - GAP, [[0]]), (0.5, 0.5, [[0, 1]]), (0.5 + GAP, 1.0, [[1]])]


def test_nothing_where_nothing_is_active() -> None:
    assert list(spans([[(0.2, 0.3), (0.6, 0.7)]])) == [(0.2, 0.3, [[0]]), (0.6, 0.7, [[1]])]
    assert list(spans([[(0.9, 0.1)]])) == []
    assert list(spans([[(0.9, 0.1)], [ALWAYS]])) == [(0.0, 1.0, [[], [0]])]


@pytest.mark.parametrize("at", [0.0, 0.1, 0.2500001, 0.3, 0.5, 0.77, 1.0])
def test_each_moment_has_what_is_active_in_it(at: float) -> None:
    times = [[ALWAYS], [(0.0, 0.3), (0.3, 0.8)], [(0.25, 0.5)]]
    found = [active for start, end, active in spans(times) if start <= at <= end]
    assert found == [[[n for n, (start, end) in enumerate(layer) if start <= at <= end] for layer in times]]
