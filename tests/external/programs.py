"""Runs other image programs, to check how they read the pack's files."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

GIMP_SCRIPT = """
(let* ((image (car (gimp-file-load RUN-NONINTERACTIVE "{file}" "{file}")))
       (layers (vector->list (cadr (gimp-image-get-layers image))))
       (out (open-output-file "{file}.seen")))
  (for-each
    (lambda (layer)
      (write (car (gimp-item-get-name layer)) out)
      (for-each (lambda (number) (display " " out) (write number out))
                (list (car (gimp-layer-get-opacity layer)) (car (gimp-layer-get-mode layer))
                      (car (gimp-item-get-visible layer)) (car (gimp-drawable-offsets layer))
                      (cadr (gimp-drawable-offsets layer)) (car (gimp-drawable-width layer))
                      (car (gimp-drawable-height layer)) (car (gimp-layer-get-mask layer))))
      (newline out))
    (reverse layers))
  (close-output-port out)
  (gimp-file-save RUN-NONINTERACTIVE image (car (gimp-image-get-active-drawable image)) "{file}.saved.psd" "")
  (let* ((merged (car (gimp-image-merge-visible-layers image CLIP-TO-IMAGE))))
    (gimp-layer-resize-to-image-size merged)
    (file-png-save RUN-NONINTERACTIVE image merged "{file}.png" "" 0 1 0 0 0 0 0)))
"""
GIMP_FIELDS = ("opacity", "mode", "visible", "x", "y", "width", "height", "mask")


def gimp(file: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """What GIMP finds in a file: its layers, bottom first (opacity in percent, mask -1 for none), and its own composite
    of the visible ones, uint8 [H,W,4]. It also saves the file again, as {file}.saved.psd. Skips the test where there is no
    GIMP 2."""
    program = _find("GNU Image Manipulation Program", "gimp", "gimp-console-2.10", "gimp-console")
    quiet = ["-i", "-d", "-f", "--batch-interpreter=plug-in-script-fu-eval"]
    script = GIMP_SCRIPT.format(file=file)
    done = _run(program, *quiet, "-b", script, "-b", "(gimp-quit 0)")
    seen = Path(f"{file}.seen")
    assert seen.exists(), done.stderr
    layers = []
    for line in seen.read_text("utf-8").splitlines():
        name, numbers = re.fullmatch(r"(\".*\") ([-.\d ]+)", line).groups()
        layers.append({"name": json.loads(name)} | dict(zip(GIMP_FIELDS, map(float, numbers.split()))))
    return layers, rgba(Path(f"{file}.png"))


def krita(file: Path, to: Path) -> None:
    """Have Krita open a file and write what it sees: the flattened image as PNG, the layers as OpenRaster. Skips the test
    where there is no Krita."""
    _find("", "krita", "krita")  # which cannot even tell its version without a screen
    # A sham screen will do. Its first start fills its home for half a minute: a home for all tests, not one for each.
    screen = [_find("", "xvfb xauth", "xvfb-run"), "-a", "-s", "-screen 0 1024x768x24"]
    home = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR"), str(to.parent.parent))
    for _ in range(2):
        done = _run(*screen, "krita", "--nosplash", "--export", "--export-filename", to, file, **home)
        # On a busy machine, the screen may not be there in time.
        if "could not connect to display" not in done.stderr:
            break
    assert to.exists(), done.stderr


def magick(*arguments: str | Path) -> str:
    """What ImageMagick's convert prints. Skips the test where it is not there."""
    # Debian's name first: another program may be called convert.
    return _run(_find("ImageMagick", "imagemagick", "magick", "convert-im6.q16", "convert"), *arguments).stdout


def rgba(file: Path) -> np.ndarray:
    """An image file as uint8 [H,W,4]."""
    return np.array(Image.open(file).convert("RGBA"))


def _find(title: str, package: str, *names: str) -> str:
    """The first of the names that is a program which calls itself by the title; "" asks none for it."""
    for name in names:
        if shutil.which(name) and (not title or title in _run(name, "--version").stdout):
            return name
    missing = f"{title} is not here to read the file. On Debian or Ubuntu: apt-get install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def _run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=200,
                          env={**os.environ, **environment})
