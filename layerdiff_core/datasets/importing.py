"""Fills a data set from other files. It can be stopped at any moment and goes on where it was."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..files.safe import SHOWN
from ..whole import write_text
from .appending import keys_in, new_shard
from .sample import Sample, pack
from .shards import SHARD_BYTES, write_shard

SHARD_SAMPLES = 100
"""Samples in a shard. Those of an unfinished shard are made again if the import is stopped."""

REJECTED = "rejected.json"


class Item(NamedTuple):
    """A scene to import. key: the same for the same scene. what: its name for the user. make: reads it."""

    key: str
    what: str
    make: Callable[[], Sample]


@dataclass
class Report:
    """What an import has done. present: scenes that were in the data set already. rejected: the reasons, by scene."""

    added: int = 0
    present: int = 0
    rejected: dict[str, str] = field(default_factory=dict)


def import_scenes(items: Iterable[Item], folder: Path, step: Callable[[Report], None] = lambda report: None) -> Report:
    """Add scenes to the data set in a folder, which is created if needed.

    A scene that cannot be read is set aside with the reason, and written to rejected.json. A scene that is there already is
    left as it is, so that an import that was stopped, at any moment and in any way, goes on when it is run again: no scene in a
    finished shard is lost, and none is added twice. step: called after each scene; it may raise to stop the import.
    RuntimeError if the data set cannot be written.
    """
    report, done = Report(), keys_in(folder)
    shard: list[tuple[str, Mapping[str, bytes]]] = []
    size = 0

    def write() -> None:
        nonlocal size
        if shard:
            write_shard(new_shard(folder), shard)
        shard.clear()
        size = 0

    try:
        for key, what, make in items:
            if key in done:
                report.present += 1
            else:
                try:
                    members = pack(make())
                except Exception as error:  # files of unknown origin fail with errors of every kind
                    report.rejected[what] = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                else:
                    shard.append((key, members))
                    size += sum(map(len, members.values()))
                    done.add(key)
                    report.added += 1
            if len(shard) >= SHARD_SAMPLES or size > SHARD_BYTES:
                write()
            step(report)
    finally:
        write()
        if report.rejected:
            reasons = {what[:SHOWN]: reason for what, reason in report.rejected.items()}
            rejected = json.dumps(reasons, ensure_ascii=False, indent=1)
            # The file names of some systems are not UTF-8.
            write_text(folder / REJECTED, rejected.encode("utf-8", "replace").decode())
    return report
