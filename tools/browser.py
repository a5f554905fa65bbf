"""The Chromium that the tests of the page drive: the machine's own, or put in by apt-get where that may be done."""

import os
import shutil
import sys
from pathlib import Path

from . import setup

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
          "C:/Program Files/Google/Chrome/Application/chrome.exe", "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")
MISSING = "There is no Chromium on this machine. Install Chromium or Chrome to have the page tested too."


def find() -> Path | None:
    """The browser's executable; None where there is none."""
    found = [shutil.which(name) for name in NAMES] + [place for place in PLACES if Path(place).is_file()]
    return next((Path(path) for path in found if path), None)


def prepare() -> None:
    """Install Chromium where it is missing, on Debian as root; elsewhere say that it is missing. Raises SetupError."""
    if find() is not None:
        return
    if not is_debian_as_root():
        print(MISSING, file=sys.stderr)
        return
    with setup.progress("Chromium, which the tests of the page drive"):
        setup.run("chromium", ["apt-get", "update"])
        setup.run("chromium", ["apt-get", "install", "-y", "--no-install-recommends", "chromium"])


def is_debian_as_root() -> bool:
    """Whether apt-get can install Debian's Chromium. (Ubuntu's package of that name only points to a snap.)"""
    release = Path("/etc/os-release")
    return hasattr(os, "geteuid") and os.geteuid() == 0 and release.is_file() \
        and "ID=debian" in release.read_text("utf-8").splitlines()
