"""ComfyUI's newest frontend, in addition to the one bundled with the development ComfyUI. The page tests use both."""

import shutil
import sys
from pathlib import Path

from . import setup

PINS = setup.PINS / "front_end.txt"


def version() -> str:
    """The pinned version."""
    return PINS.read_text("utf-8").split("==")[1].split()[0]


def root() -> Path:
    """The folder for --front-end-root of main.py. It may not exist."""
    return setup.DEV / "front_end" / "comfyui_frontend_package" / "static"


def prepare() -> None:
    """Download it, unless it exists or ComfyUI is the user's own. Raises SetupError."""
    if not setup.locate().is_users_own:
        setup.run_stages([setup.Stage("front_end", f"ComfyUI's page {version()}, for the tests", root() / "index.html", [PINS],
                                      fetch)])


def fetch() -> None:
    """Download the package and unpack its files to `.dev/front_end`."""
    target, part = setup.DEV / "front_end", setup.DEV / "front_end.part"
    for leftover in (part, target):
        shutil.rmtree(leftover, ignore_errors=True)
    setup.run("front_end", [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-deps",
                            "--no-compile", "--target", str(part), "-r", str(PINS)])
    part.rename(target)
