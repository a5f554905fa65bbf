"""Programs other than Python that the tests need: those of the system, or installed with apt-get if possible."""

import os
import shutil
import sys
from pathlib import Path

from . import browser, setup

PURPOSES = {"chromium": "drives the page", "gimp": "reads our PSD files", "imagemagick": "reads our PSD files",
            "krita": "reads our OpenRaster files", "xvfb": "provides the screen that Krita needs", "xauth": "lets Krita use xvfb"}


def missing() -> list[str]:
    """The names of the Debian packages of missing programs."""
    found = {"chromium": browser.find(), "imagemagick": shutil.which("magick") or shutil.which("convert-im6.q16"),
             **{name: shutil.which(name) for name in ("gimp", "krita", "xauth")}, "xvfb": shutil.which("xvfb-run")}
    return [name for name, path in found.items() if path is None]


def prepare() -> None:
    """Install missing programs on Debian as root; otherwise say that tests will be skipped. Raises SetupError."""
    names = missing()
    if not names:
        return
    if not is_debian_as_root():
        for name in names:
            print(f"{name} is not installed ({PURPOSES[name]}): its tests are skipped.", file=sys.stderr)
        return
    with setup.progress(f"{', '.join(names)}, for the tests"):
        setup.run("apt", ["apt-get", "update"])
        setup.run("apt", ["apt-get", "install", "-y", "--no-install-recommends", *names])


def is_debian_as_root() -> bool:
    """Whether apt-get can install Debian's packages. (Ubuntu's Chromium only points to a snap.)"""
    release = Path("/etc/os-release")
    return hasattr(os, "geteuid") and os.geteuid() == 0 and release.is_file() \
        and "ID=debian" in release.read_text("utf-8").splitlines()
