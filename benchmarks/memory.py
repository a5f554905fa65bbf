"""Peak memory of a step, including weights: `python -m benchmarks.memory layered|host` prints it in bytes.

Every measurement needs its own process, because a process releases memory late or never.
"""

import gc
import sys
from pathlib import Path

import torch

from tools import inprocess

from . import models

CANVAS = 512  # At the starter's own 128 pixels, a step takes less memory than the variation between runs.
STEPS = 3
# Memory kept in glibc's pools would be most of the difference between two runs.
GIVE_BACK_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def resident(field: str) -> int:
    """VmRSS (memory in use) or VmHWM (its maximum so far) of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main(side: str) -> int:
    """Build the side's network, run a few steps, and print the maximum increase in memory."""
    inprocess.import_host()
    pack = inprocess.load_pack()
    on_cuda = models.place()[0].type == "cuda"
    gc.collect()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # Resets VmHWM.
        before = resident("VmRSS")
    run = models.step(pack, side, CANVAS)
    for _ in range(STEPS):
        run()
    print(torch.cuda.max_memory_allocated() if on_cuda else resident("VmHWM") - before)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
