"""Which ComfyUI the pack needs, and what an older one says in its log.

Nothing else of the pack is imported here, so that this can be asked in a ComfyUI where the rest cannot even be imported.
"""

import re

OLDEST = (0, 30, 0)


def check_comfyui() -> None:
    """RuntimeError with one sentence for ComfyUI's log where ComfyUI is older than the pack needs."""
    try:
        from comfyui_version import __version__ as version
    except ImportError:
        # Every ComfyUI that can load the pack has this file; what lacks it is put together in a way of its own.
        return
    if is_too_old(version):
        raise RuntimeError(too_old(version))


def is_too_old(version: str) -> bool:
    """Whether a version such as 0.3.75 comes before OLDEST; False for what does not begin with numbers."""
    numbers = _numbers(version)
    return bool(numbers) and numbers < OLDEST[: len(numbers)]


def too_old(version: str) -> str:
    """The sentence: which version there is, which is needed, why the one is the older, and what to do."""
    there, needed = next((a, b) for a, b in zip(_numbers(version), OLDEST) if a != b)
    return (f"LayerDiff requires ComfyUI {'.'.join(map(str, OLDEST))} or later, but this is ComfyUI {version}, which is older "
            f"({there} comes before {needed}). Update ComfyUI and restart it.")


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, at most as many as OLDEST has: (0, 3, 75) for 0.3.75, (0, 31) for 0.31rc1."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, found[1].split(".")))[: len(OLDEST)] if found else ()
