#!/usr/bin/env python3
"""Set-up and commands for working on the pack: `python dev.py <command> [arguments]`.

Each command first prepares what it needs in the ignored folder `.dev` (once), then runs `tools/<command>.py` in there.
With COMFYUI_PATH set to a ComfyUI of your own (and, if its Python is not found beside it, COMFYUI_PYTHON), that one
is used instead and nothing is fetched.
"""

import os
import signal
import subprocess
import sys
import time

COMMANDS = {
    "demo": "draw a picture of layers through a real ComfyUI server, into output/",
    "test": "style, types and all tests; with arguments, pytest alone with these arguments",
    "serve": "start ComfyUI with the pack in it and print the address",
    "bench": "measure speed and memory beside the host's own, into benchmarks/results/",
    "evaluate": "measure how well the starter draws what it is asked for, into benchmarks/results/",
    "ablate": "switch parts of the method off and test what differs, into benchmarks/results/; goes on at will",
    "train-starter": "train the starter model; stops and goes on at will",
    "train-text2layer": "train the starter of the Text2Layer family; stops and goes on at will",
    "compare-text2layer": "test the Text2Layer paper's claims about its autoencoder: many short trainings; goes on at will",
}


def usage() -> str:
    """The help text: the module's docstring and a line for each command."""
    lines = [f"  {name:<18} {text}" for name, text in COMMANDS.items()]
    return f"{__doc__}\nCommands:\n" + "\n".join(lines)


def terminate(signum: int, frame: object) -> None:
    """A polite kill stops the set-up as Ctrl-C does, so that no child is left behind."""
    raise KeyboardInterrupt


def main(arguments: list) -> int:
    """Prepare, run the command that `arguments` names, and return its exit status."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        print(f"Python 3.10 to 3.13 is needed, and this is {sys.version.split()[0]}. "
              "Run dev.py with one of these, for example: python3.11 dev.py demo")
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
        print(f"\nSet-up failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up was interrupted. The same command goes on where it stopped.", file=sys.stderr)
        return 130

    module = "tools." + arguments[0].replace("-", "_")
    variables = {**os.environ, "LAYERDIFF_SETUP_SECONDS": f"{time.monotonic() - started:.2f}"}
    child = subprocess.Popen([environment.python, "-m", module, *arguments[1:]], cwd=setup.ROOT, env=variables)
    # A Ctrl-C in the terminal reaches the child by itself, which then stops in its own order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: child.send_signal(signum))
    return child.wait()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
