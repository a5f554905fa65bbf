"""Writes files atomically: under a temporary name in the same folder, then renamed in one step."""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

MARK, ENDING = ".layerdiff-", ".part"
"""Start and extension of the names of unfinished files and folders. No list of models, images or layered files includes such
names, and ComfyUI's counter of saved files skips them."""

STALE_SECONDS = 24 * 3600
"""Age from which an unfinished file cannot still be in use, but was left behind by a killed process."""

SHOWN = 100
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_swept: set[Path] = set()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Context manager to write a file or folder that appears at `path` only when it is complete.

    Yields an unused path in the same folder, which is created if needed. At the end, the new file replaces an existing one. If
    an exception is raised, it is removed and the existing file stays. RuntimeError with an explanation if the system refuses:
    the disk is full, permission is missing, or the name is too long.
    """
    part = path.parent / f"{MARK}{secrets.token_hex(4)}{ENDING}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        yield part
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise RuntimeError(_in_words(error, repr(path.name[:SHOWN]), path.parent)) from error
    finally:
        _remove(part)


@contextmanager
def whole_set(folder: Path) -> Iterator[Path]:
    """Context manager to write several files that appear in `folder` only when all of them are complete.

    Yields a folder to write them to. RuntimeError as in `whole`.
    """
    part = folder / f"{MARK}{secrets.token_hex(4)}{ENDING}"
    moved: list[Path] = []
    try:
        part.mkdir(parents=True)
        _sweep(folder)
        yield part
        for file in sorted(part.iterdir()):
            os.replace(file, folder / file.name)
            moved.append(folder / file.name)
    except OSError as error:
        for file in moved:
            _remove(file)
        raise RuntimeError(_in_words(error, "The files", folder)) from error
    finally:
        _remove(part)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, completely or not at all. RuntimeError as in `whole`."""
    with whole(path) as part:
        part.write_text(text, "utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write a safetensors file with `facts` as its metadata, completely or not at all. RuntimeError as in `whole`."""
    with whole(path) as part:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, part, metadata=dict(facts))


def is_unfinished(path: Path) -> bool:
    """Whether a path is that of an unfinished file or folder, or inside one."""
    return any(name.startswith(MARK) and name.endswith(ENDING) for name in path.parts)


def system_words(error: OSError) -> str:
    """A sentence that says why a file could not be written and what to do."""
    if error.errno in FULL:
        return ("The disk is full, your quota is used up, or the file is too large for the file system. Free some space, or "
                "choose another folder, and run again.")
    if error.errno == errno.ENAMETOOLONG:
        return ("The name is too long: most file systems allow 255 bytes, which is 255 Latin letters or 85 Chinese characters. "
                "Choose a shorter one.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ("Permission denied: the folder is write-protected, or another program has the file open. Choose another folder, "
                "or close that program.")
    return f"System error: {error.strerror or error}. Choose another name or folder, and run again."


def _in_words(error: OSError | SafetensorError, what: str, folder: Path) -> str:
    if not isinstance(error, OSError):
        # safetensors reports the system's error number only in the text of its exception.
        number = re.search(r"os error (\d+)", str(error))
        # The last argument is Windows' error number, which Python translates to errno. Other systems ignore it.
        error = OSError(int(number[1]), str(error), None, int(number[1])) if number else OSError(str(error))
    return f"{what} could not be written to {str(folder)!r}. Nothing was saved. {system_words(error)}"


def _sweep(folder: Path) -> None:
    """Remove unfinished files left in a folder by killed processes. Done once per process, because folders may be large."""
    if folder in _swept:
        return
    _swept.add(folder)
    for part in folder.glob(f"{MARK}*{ENDING}"):
        try:
            is_stale = time.time() - part.stat().st_mtime > STALE_SECONDS
        except FileNotFoundError:  # another process was faster
            continue
        if is_stale:
            _remove(part)


def _remove(path: Path) -> None:
    """Remove a file or folder as far as possible. Anything that remains is swept later."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
