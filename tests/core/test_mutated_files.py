"""Damaged and hostile files: rejected with a clear message or read correctly, in little memory, without writing anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured as Linux tells it")
def test_hundreds_of_damaged_files(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-m", "tests.mutated", str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                         env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    came = json.loads(run.stdout)
    assert came["problems"] == []
    assert came["written"] == []
    assert came["left"] == ["a.ora", "a.psd", "damaged", "sound", *(f"sound/{path.name}" for path in sorted(
        (tmp_path / "sound").iterdir()))]  # fmt: skip
    # 1 GB in all, less what torch for a CPU takes by itself; torch for CUDA takes twice that before any file is read.
    assert came["rise_bytes"] < 1e9 - 230e6
    assert came["slowest_seconds"] < 10  # of the processor
    counts = came["counts"]
    assert sum(counts.values()) >= 500
    # Both outcomes occur in each format: files that cannot be read, and damaged files that can.
    for reader in ("psd", "ora", "png"):
        assert counts[f"{reader} refused"] > 50 and counts[f"{reader} read"] > 10
