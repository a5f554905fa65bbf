"""Tests whether two sets of runs differ significantly."""

import math
import statistics
from typing import Any

from scipy.stats import ttest_ind


def compare(first: list[dict[str, float]], second: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """For every metric, the means and standard deviations of both sides, and Welch's two-sided t-test between them.

    Needs at least two runs each. t and p are None if neither side varies, so that there is nothing to test.
    """
    compared = {}
    for name in first[0]:
        a, b = ([run[name] for run in runs] for runs in (first, second))
        test = ttest_ind(a, b, equal_var=False)
        t, p = (None if math.isnan(value) else float(value) for value in (test.statistic, test.pvalue))
        compared[name] = {"mean_first": statistics.mean(a), "sd_first": statistics.stdev(a), "mean_second": statistics.mean(b),
                          "sd_second": statistics.stdev(b), "t": t, "p": p}
    return compared
