"""Imports a folder of layered files: PSD, PSB, OpenRaster, and PNG folders with a layers.json."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ..files.ora import read_ora
from ..files.png_folder import INDEX, read_png_folder
from ..files.safe import MAX_TEXT, FileError
from ..layers import Document
from ..whole import is_unfinished
from .appending import key_of
from .importing import Item
from .sample import Sample

PSD_ENDINGS = (".psd", ".psb")
PROMPT_ENDING = ".txt"


def read_layered(path: Path) -> Document:
    """The layers of a file. FileError if it is damaged, or a PSD and the package psd-tools is missing."""
    if path.name == INDEX:
        return read_png_folder(path)
    if path.suffix.lower() == ".ora":
        return read_ora(path)
    try:
        from ..files.psd import read_psd
    except ModuleNotFoundError as error:
        raise FileError(f"PSD requires the Python package psd-tools, which is not installed ({error}). Install it with: python "
                        "-m pip install psd-tools") from error
    return read_psd(path)


def layered_files(folder: Path, licence: str = "") -> Iterator[Item]:
    """The layered files in a folder and its subfolders, by name.

    A text file beside it, such as fox.txt for fox.psd, has the prompt in its first line and may have a prompt for each layer in
    the following ones, bottom layer first. Without it the prompt is the file's name, and layers are described by their names.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not is_unfinished(path) and (path.name == INDEX or path.suffix.lower() in (*PSD_ENDINGS, ".ora")):
            name = path.relative_to(folder).as_posix()
            yield Item(key_of("layered file", name), name, partial(_read, path, name, licence))


def _read(path: Path, name: str, licence: str) -> Sample:
    document = read_layered(path)
    titled = path.parent if path.name == INDEX else path
    words = titled.with_name(titled.stem + PROMPT_ENDING)
    prompt, prompts = titled.stem.replace("_", " "), [layer.name for layer in document.layers]
    if words.is_file():
        with words.open(encoding="utf-8", errors="replace") as file:
            first, *others = [line.strip() for line in file.read(MAX_TEXT).splitlines()] or [""]
        prompt = first or prompt
        told = [line for line in others if line]
        if told and len(told) != len(prompts):
            raise FileError(f"{words.name} has {len(told)} layer prompts, and {path.name} has {len(prompts)} layers. Enter one "
                            "per line, bottom layer first.")
        prompts = told or prompts
    return Sample(document, prompt, prompts, source=name, licence=licence)
