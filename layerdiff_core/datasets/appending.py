"""Adds scenes to a data set. What has been added stays, also if the process is killed at any moment."""

import hashlib
import secrets
import time
from pathlib import Path

from .dataset import shards_of
from .sample import Sample, pack
from .shards import ENDING, SHARD_BYTES, read_index, write_shard

KEY_DIGITS = 20
_begun: dict[Path, Path] = {}
"""The shard that this process appends to, by folder. No other process does, so none can undo what another has added."""


def key_of(*parts: str | bytes) -> str:
    """A key that depends on the content only: the same scene always gets the same."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:KEY_DIGITS]


def keys_in(folder: Path) -> set[str]:
    """The keys of all complete samples in a data set. The folder need not exist."""
    return {entry.key for shard in shards_of(folder) for entry in read_index(shard)[0]}


def new_shard(folder: Path) -> Path:
    """An unused path for a shard, which comes after the earlier ones by name."""
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}{ENDING}"


def append(folder: Path, sample: Sample) -> tuple[str, bool]:
    """Add a sample to the data set in a folder, which is created if needed.

    Returns its key, and False if the same sample was there already and nothing was written. The shard is written anew and
    replaced in one step: readers see it with the sample or without, never in between. ValueError as in `pack`, RuntimeError if
    it cannot be written.
    """
    members = pack(sample)
    key = key_of(*(part for name, data in members.items() for part in (name, data)))
    if key in keys_in(folder):
        return key, False
    begun = _begun.get(folder)
    if begun is None or not begun.exists() or begun.stat().st_size > SHARD_BYTES:
        begun = None
    path = begun or new_shard(folder)
    write_shard(path, [(key, members)], begun)
    _begun[folder] = path
    return key, True
