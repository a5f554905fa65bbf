"""Peak memory of a step, weights included: `python -m benchmarks.memory layered|host` prints it in bytes.

A process of its own for each measurement, since a process gives memory back late or never.
"""

import gc
import sys
from pathlib import Path

import torch

from tools import inprocess

from . import models

CANVAS = 512  # At the starter's own 128 pixels a step takes less than what one run differs from the next.
STEPS = 3
# What glibc's pools keep would be most of the difference between two runs.
GIVE_BACK_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def resident(field: str) -> int:
    """VmRSS (memory in use) or VmHWM (the most that was) of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main(side: str) -> int:
    """Build the side's network, run a few steps, print by how much memory rose at most."""
    inprocess.import_host()
    pack = inprocess.load_pack()
    on_cuda = models.place()[0].type == "cuda"
    gc.collect()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # VmHWM starts again from now.
        before = resident("VmRSS")
    run = models.step(pack, side, CANVAS)
    for _ in range(STEPS):
        run()
    print(torch.cuda.max_memory_allocated() if on_cuda else resident("VmHWM") - before)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
