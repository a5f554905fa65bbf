"""Welch's t-test against values worked out by hand."""

import json

import pytest

from tools.significance import compare


def runs(*values: float) -> list[dict[str, float]]:
    return [{"fid": value} for value in values]


def test_welch() -> None:
    found = compare(runs(1, 2, 3), runs(4, 6, 8))["fid"]
    assert (found["mean_first"], found["sd_first"], found["mean_second"], found["sd_second"]) == (2, 1, 6, 2)
    # (2 - 6) / sqrt(1/3 + 4/3); with 2.94 degrees of freedom the 5 % point is 3.22
    assert found["t"] == pytest.approx(-3.0984, abs=1e-4)
    assert 0.05 < found["p"] < 0.06


def test_order_is_that_of_the_arguments() -> None:
    assert compare(runs(4, 6, 8), runs(1, 2, 3))["fid"]["t"] == pytest.approx(3.0984, abs=1e-4)


def test_where_nothing_varies_there_is_no_test_and_the_file_stays_json() -> None:
    found = compare(runs(1, 1), runs(1, 1))["fid"]
    assert found["t"] is None and found["p"] is None
    json.dumps(found, allow_nan=False)
