"""Run style checks, type checks and all tests. With arguments, run only pytest with them."""

import importlib.util
import os
import subprocess
import sys
import time

from . import front_end, programs, setup

TYPED = ("nodes", "layerdiff_core", "tools")
WORKERS = 2
"""Processes that share the tests. Each holds ComfyUI, and runs up to two servers and a browser beside it: about 5 GB."""


def main(arguments: list[str]) -> int:
    """Run the checks, fastest first. Returns the status of the first one that fails."""
    if {"-h", "--help"} & set(arguments):
        print(f"usage: dev.py test [arguments of pytest, such as tests/core -k psd]\n\n{__doc__}")
        return 0
    missing = [name for name in ("pytest", "xdist", "ruff", "mypy") if importlib.util.find_spec(name) is None]
    if missing:
        # Only happens with the user's own Python, into which nothing is installed without being asked.
        print(f"{sys.executable} does not have {', '.join(missing)}. Install them with:\n"
              f"  {sys.executable} -m pip install -r {setup.PINS / 'dev.txt'}", file=sys.stderr)
        return 1
    try:
        programs.prepare()
        front_end.prepare()
    except setup.SetupError as error:
        print(f"\nSetup failed. {error}", file=sys.stderr)
        return 1
    python = sys.executable
    pytest = [python, "-m", "pytest", *arguments]
    if arguments:
        return subprocess.call(pytest, cwd=setup.ROOT)
    # With more threads than cores, torch's threads wait for each other longer than they compute.
    threads = max(1, (os.cpu_count() or 1) // WORKERS)
    variables = {"OMP_NUM_THREADS": str(threads), **os.environ}
    # The link gives the pack a package name, so that its relative imports can be resolved.
    packages = [part for name in TYPED for part in ("-p", f"{setup.PACK_LINK}.{name}")]
    mypy = [python, "-m", "mypy", "--config-file", str(setup.ROOT / "pyproject.toml"),
            "--cache-dir", str(setup.DEV / "mypy_cache"), *packages]
    checks = [("style", [python, "-m", "ruff", "check", "."], setup.ROOT),
              ("types", mypy, setup.DEV / "custom_nodes"),
              ("tests", [*pytest, "-n", str(WORKERS), "--dist", "loadfile", "--durations", "25"], setup.ROOT)]
    for name, command, folder in checks:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        status = subprocess.call(command, cwd=folder, env=variables)
        print(f"== {name}: {'passed' if status == 0 else 'FAILED'} in {time.monotonic() - started:.1f} s", flush=True)
        if status != 0:
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
