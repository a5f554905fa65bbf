"""ComfyUI's newest page, beside the one that the development ComfyUI brings: the tests of the page open both."""

import shutil
import sys
from pathlib import Path

from . import setup

PINS = setup.PINS / "front_end.txt"


def version() -> str:
    """The version that is pinned."""
    return PINS.read_text("utf-8").split("==")[1].split()[0]


def root() -> Path:
    """The folder that main.py takes as --front-end-root; it may not be there."""
    return setup.DEV / "front_end" / "comfyui_frontend_package" / "static"


def prepare() -> None:
    """Fetch it, unless it is there or ComfyUI is the user's own, for which nothing is fetched. Raises SetupError."""
    if not setup.locate().is_users_own:
        setup.run_stages([setup.Stage("front_end", f"ComfyUI's page {version()}, for the tests", root() / "index.html", [PINS],
                                      fetch)])


def fetch() -> None:
    """Put the files of the package into `.dev/front_end`."""
    target, part = setup.DEV / "front_end", setup.DEV / "front_end.part"
    for leftover in (part, target):
        shutil.rmtree(leftover, ignore_errors=True)
    setup.run("front_end", [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-deps",
                            "--no-compile", "--target", str(part), "-r", str(PINS)])
    part.rename(target)
