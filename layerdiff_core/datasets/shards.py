"""Shards: tar files in the WebDataset layout. Names are `key.extension`, and members with the same key are one sample."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from shutil import copyfile

from ..files.safe import SHOWN, reading
from ..whole import whole
from .sample import FACTS

ENDING = ".tar"
SHARD_BYTES = 32 << 20
"""Size from which a new shard is begun."""

MAX_MEMBER, MAX_MEMBERS = 128 << 20, 200_000
"""Limits for a shard: bytes of a member, and members."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a sample, or with a shard if there is no key. usable: whether it can be loaded nevertheless."""

    shard: str
    key: str
    reason: str
    usable: bool = False

    def __str__(self) -> str:
        return f"{self.shard}{f', sample {self.key[:SHOWN]}' if self.key else ''}: {self.reason}"


@dataclass(frozen=True)
class Entry:
    """A sample in a shard. members: the offset and size in bytes of each, by extension."""

    shard: Path
    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """The sample's name, for messages."""
        return f"Sample {self.key[:SHOWN]} in {self.shard.name}"

    def read(self, extensions: Iterable[str] | None = None) -> dict[str, bytes]:
        """The bytes of the members, or of those with the given extensions. FileError if the shard has been removed."""
        wanted = self.members if extensions is None else {name: self.members[name] for name in extensions if name in self.members}
        found = {}
        with reading(self.shard.name), self.shard.open("rb") as file:
            for name, (offset, size) in wanted.items():
                file.seek(offset)
                found[name] = file.read(size)
        return found


def write_shard(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]], start: Path | None = None) -> None:
    """Write a shard with samples (key, members), completely or not at all. start: a shard whose samples come first.

    RuntimeError as in `whole`.
    """
    with whole(path) as part:
        if start is not None:
            copyfile(start, part)
        with tarfile.open(part, "a" if start else "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in samples:
                for extension, data in members.items():
                    facts = tarfile.TarInfo(f"{key}.{extension}")
                    facts.size = len(data)
                    tar.addfile(facts, io.BytesIO(data))


def read_index(path: Path) -> tuple[list[Entry], list[Fault]]:
    """The complete samples of a shard, without reading them, and what is wrong with the others.

    Nothing is unpacked to disk. A shard that is cut off gives the samples before the cut.
    """
    state = path.stat()
    entries, faults = _index(path, state.st_size, state.st_mtime_ns)
    return list(entries), list(faults)


@lru_cache(maxsize=4096)
def _index(path: Path, size: int, changed: int) -> tuple[tuple[Entry, ...], tuple[Fault, ...]]:
    found: dict[str, Entry] = {}
    wrong: dict[str, str] = {}
    shard_faults: list[Fault] = []
    last = ""
    try:
        with tarfile.open(path, "r:") as tar:
            for _ in range(MAX_MEMBERS):
                member = tar.next()
                if member is None:
                    break
                vars(tar)["members"] = []  # otherwise all of them stay in memory
                if member.isdir():
                    continue
                last, extension, reason = _read_member(member, size)
                entry = found.setdefault(last, Entry(path, last))
                if not reason and extension in entry.members:
                    reason = f"it has two files .{extension[:SHOWN]}"
                if reason:
                    wrong.setdefault(last, reason)
                if member.size < 0 or member.offset_data + member.size > size:
                    break
                entry.members[extension] = (member.offset_data, member.size)
            else:
                shard_faults.append(Fault(path.name, "", f"it has more than {MAX_MEMBERS} files; the others are left out"))
    except Exception as error:  # parsers fail on damaged data with errors of every kind
        where = f"after sample {last[:SHOWN]}" if last else "at its beginning"
        shard_faults.append(Fault(path.name, "", f"it is damaged or cut off {where} ({str(error)[:SHOWN]})"))
        if last and FACTS not in found[last].members:
            wrong.setdefault(last, "it is cut off")
    for key, entry in found.items():
        if FACTS not in entry.members:
            wrong.setdefault(key, "it has no json. It is not a layered scene, or was cut off")
    return (tuple(entry for key, entry in found.items() if key not in wrong),
            (*shard_faults, *(Fault(path.name, key, reason) for key, reason in wrong.items())))


def _read_member(member: tarfile.TarInfo, size: int) -> tuple[str, str, str]:
    """Key and extension of a member, and what is wrong with it, or ""."""
    name = member.name.removeprefix("./")
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    key = f"{folder}/{stem}" if folder else stem
    if member.name.startswith("/") or ".." in PurePosixPath(name).parts or set(name) & set("\\:\0") or not stem:
        return name, extension, f"the file name {member.name[:SHOWN]!r} is not allowed, because it leads to another folder"
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        return key, extension, f"{file[:SHOWN]!r} is a link or a special file, and only plain files are read"
    if member.size > MAX_MEMBER:
        return key, extension, f"{file[:SHOWN]!r} has {member.size >> 20} MB; at most {MAX_MEMBER >> 20} are supported"
    if member.size < 0 or member.offset_data + member.size > size:
        return key, extension, f"{file[:SHOWN]!r} is cut off"
    return key, extension, ""
