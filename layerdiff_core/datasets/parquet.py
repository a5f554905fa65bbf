"""Reads parquet files row by row. The package pyarrow is needed only here, and only when a parquet file is read."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ..files.safe import SHOWN, FileError
from .appending import key_of
from .importing import Item
from .sample import Sample

BATCH_ROWS = 16
OLDEST = (14, 0, 1)
"""Earlier versions of pyarrow can run code that a file contains."""


def parquet_files(path: Path) -> list[Path]:
    """A parquet file, or those in a folder and its subfolders. FileError if there is none."""
    found = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not found:
        raise FileError(f"There is no parquet file in {path.name!r}. Fetch the data set first, and choose its folder.")
    return found


def items_of(source: Path, item: Callable[[str, dict[str, Any]], Item]) -> Iterator[Item]:
    """An item for each row of a parquet file, or of those in a folder. A damaged file gives one that says so.

    item: makes it from the row's name for the user and the row. FileError if there is no parquet file, or pyarrow is missing.
    """
    _pyarrow()
    for path in parquet_files(source):
        try:
            for number, row in rows(path):
                yield item(f"{path.name}, row {number}", row)
        except FileError as error:
            yield Item(key_of(path.name), path.name, partial(_fail, error))


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a parquet file with their numbers, a few at a time in memory.

    Whole numbers that stand for labels, as the package datasets writes them, become the labels. FileError if the file is
    damaged, or pyarrow is missing.
    """
    pyarrow = _pyarrow()
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            labels = _labels(file.schema_arrow.metadata or {})
            for batch in file.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist():
                    yield number, row | {name: _label(row[name], names) for name, names in labels.items() if name in row}
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise FileError(f"it is damaged or cut off after row {number} ({str(error)[:SHOWN]}). Fetch it again.") from error


def _fail(error: FileError) -> Sample:
    raise error


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise FileError("Parquet files require the Python package pyarrow, which is not installed. Install it with: python -m "
                        "pip install pyarrow") from error
    if tuple(int(part) for part in pyarrow.__version__.split(".")[:3] if part.isdigit()) < OLDEST:
        raise FileError(f"pyarrow {pyarrow.__version__} runs code from the files that it reads. Update it with: python -m pip "
                        "install --upgrade pyarrow")
    return pyarrow


def _labels(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """The labels of each column that has some, from what the package datasets stores in a file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _label(value: Any, names: list[str]) -> Any:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
