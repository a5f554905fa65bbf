"""Argument types for the commands, which reject invalid numbers and files with a clear message before anything runs."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def a_number(low: float = -math.inf, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A type for argparse: a finite number from low to high. above: exclude low itself."""
    least = f"above {low:g}" if above else f"from {low:g}"
    words = f"a number {least}" + ("" if high == math.inf else f" to {high:g}")
    return lambda text: _read(text, float, lambda value: (low < value if above else low <= value) and value <= high, words)


def a_count(low: int = 1, high: float = math.inf) -> Callable[[str], int]:
    """A type for argparse: a whole number from low to high."""
    words = f"a whole number from {low}" + ("" if high == math.inf else f" to {high:g}")
    return lambda text: _read(text, int, lambda value: low <= value <= high, words)


def a_device(text: str) -> str:
    """A type for argparse: a PyTorch device that is available on this machine."""
    try:
        torch.empty(1, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a device that PyTorch can use ({str(error).splitlines()[0]}). Use "
                                         "cpu, or cuda if available.") from None
    return text


def a_file(text: str) -> str:
    """A type for argparse: an existing file."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return text


def check_stages(parser: argparse.ArgumentParser, command: str, stage: str, needed: dict[str, str], folder: Path) -> None:
    """Exit with a message if a stage needs a file that an earlier stage has not written yet. needed: {file: stage}."""
    for file, earlier in needed.items():
        if not (folder / file).exists():
            parser.error(f"The stage {stage} needs the result of the stage {earlier}, but {folder / file} does not exist. "
                         f"Complete that stage first, with the same --out: python dev.py {command} {earlier}")


def _read(text: str, kind: Callable[[str], Any], sound: Callable[[Any], bool], words: str) -> Any:
    try:
        value = kind(text)
        if math.isfinite(value) and sound(value):
            return value
    except (ValueError, OverflowError):  # not a number, or an integer too large to convert
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
