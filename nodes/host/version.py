"""Checks that ComfyUI is recent enough for the pack.

Imports nothing else of the pack, so that it also works in a ComfyUI where the rest cannot be imported.
"""

import re

OLDEST = (0, 30, 0)


def check_comfyui() -> None:
    """RuntimeError, with a message for ComfyUI's log, if ComfyUI is too old for the pack."""
    try:
        from comfyui_version import __version__ as version
    except ImportError:
        # Every ComfyUI that can load the pack has this module. If it is missing, the installation is a custom one.
        return
    if is_too_old(version):
        raise RuntimeError(too_old(version))


def is_too_old(version: str) -> bool:
    """Whether a version such as 0.3.75 is older than OLDEST; False if it does not begin with a number."""
    numbers = _numbers(version)
    return bool(numbers) and numbers < OLDEST[: len(numbers)]


def too_old(version: str) -> str:
    """The message: the installed version, the required one, why the former is older, and what to do."""
    there, needed = next((a, b) for a, b in zip(_numbers(version), OLDEST) if a != b)
    return (f"LayerDiff requires ComfyUI {'.'.join(map(str, OLDEST))} or later, but this is ComfyUI {version}, which is older "
            f"({there} comes before {needed}). Update ComfyUI and restart it.")


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, as many as OLDEST has at most: (0, 3, 75) for 0.3.75, (0, 31) for 0.31rc1."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, found[1].split(".")))[: len(OLDEST)] if found else ()
