"""Times several sides that take turns, so that other load on the machine affects all of them."""

import statistics
import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes, in seconds, including what it queued on an accelerator."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def medians(sides: dict[str, Callable[[], object]], rounds: int, warm_up: int) -> dict[str, float]:
    """Median seconds of each side over `rounds`; every other round runs them in reverse order."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-warm_up, rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            spent = seconds(sides[name])
            if number >= 0:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}
