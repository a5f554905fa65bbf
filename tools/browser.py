"""The Chromium browser for the page tests."""

import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
          "C:/Program Files/Google/Chrome/Application/chrome.exe", "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")
MISSING = "Chromium was not found. Install Chromium or Chrome to run the browser tests too."


def find() -> Path | None:
    """The browser's executable; None if there is none."""
    found = [shutil.which(name) for name in NAMES] + [place for place in PLACES if Path(place).is_file()]
    return next((Path(path) for path in found if path), None)
