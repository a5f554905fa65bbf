#!/usr/bin/env python3
"""Development commands for the pack: `python dev.py <command> [arguments]`.

Each command first sets up what it needs in the folder `.dev` (once), then runs `tools/<command>.py`.
To use your own ComfyUI instead of downloading one, set COMFYUI_PATH to its folder, and COMFYUI_PYTHON to its Python
if that is not found next to it.
"""

import os
import signal
import subprocess
import sys
import time

COMMANDS = {
    "demo": "generate a layered image through a real ComfyUI server, into output/",
    "test": "run style checks, type checks and all tests; with arguments, run only pytest with them",
    "serve": "start ComfyUI with the pack and print its address",
    "bench": "compare speed and memory with ComfyUI's own nodes, into benchmarks/results/",
    "evaluate": "measure how well the starter model follows its prompts, into benchmarks/results/",
    "evaluate-edits": "measure how well single layers are redrawn, added and restyled, into benchmarks/results/",
    "ablate": "measure the effect of each part of the method, into benchmarks/results/; can be interrupted and resumed",
    "dataset": "import, check or draw a dataset of layered scenes",
    "train-starter": "train the LayerDiff starter model; can be interrupted and resumed",
    "train-control": "train the starter's box ControlNet; can be interrupted and resumed",
    "train-lora": "train the starter's style LoRA, flat drawings; can be interrupted and resumed",
    "train-text2layer": "train the Text2Layer starter model; can be interrupted and resumed",
    "compare-text2layer": "test the Text2Layer paper's claims about its autoencoder; can be interrupted and resumed",
}


def usage() -> str:
    """The help text: the module's docstring and one line per command."""
    lines = [f"  {name:<18} {text}" for name, text in COMMANDS.items()]
    return f"{__doc__}\nCommands:\n" + "\n".join(lines)


def terminate(signum: int, frame: object) -> None:
    """Handle SIGTERM like Ctrl-C during setup, so that no child process is left behind."""
    raise KeyboardInterrupt


def main(arguments: list) -> int:
    """Set up what is needed, run the command in `arguments`, and return its exit status."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        print(f"Python 3.10 to 3.13 is required, but this is {sys.version.split()[0]}. "
              "Run dev.py with one of these versions, for example: python3.11 dev.py demo")
        return 2
    if not arguments or arguments[0] not in COMMANDS:
        print(usage())
        return 0 if arguments in ([], ["-h"], ["--help"]) else 2

    from tools import setup

    signal.signal(signal.SIGTERM, terminate)
    started = time.monotonic()
    try:
        environment = setup.prepare()
    except setup.SetupError as error:
        print(f"\nSetup failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSetup was interrupted. Run the same command again to resume it.", file=sys.stderr)
        return 130

    module = "tools." + arguments[0].replace("-", "_")
    variables = {**os.environ, "LAYERDIFF_SETUP_SECONDS": f"{time.monotonic() - started:.2f}"}
    child = subprocess.Popen([environment.python, "-m", module, *arguments[1:]], cwd=setup.ROOT, env=variables)
    # The terminal also sends Ctrl-C to the child process, which then shuts down by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: child.send_signal(signum))
    return child.wait()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
