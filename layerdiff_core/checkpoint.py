"""The pack's file format: one safetensors file with metadata that describes it. Read with safetensors only."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .whole import write_tensors

FORMAT = "layered-diffusion"
VERSION = "1"
PARTS = {
    ("layerdiff", "complete"): ("unet.", "vae.", "text.", "enhancer."),
    ("layerdiff", "adapter"): ("unet.", "enhancer.", "lora."),
    ("text2layer", "complete"): ("unet.", "vae.", "text."),
}
"""The parts of a file of each family and kind. The first part of a tensor's name says which of them it belongs to."""
SHOWN = 5


@dataclass
class Header:
    """A file's metadata. `layers`: the largest number of layers it was trained with, 0 for an untrained adapter."""

    family: str
    kind: str
    architecture: dict
    layers: int
    base: str
    licence: str
    provenance: str


def write(path: Path, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Write a file, completely or not at all. Tensor names start with the prefix of their part ("unet.", "vae.", "text.",
    "enhancer.", "lora."). RuntimeError if the file cannot be written."""
    facts = {"format": FORMAT, "version": VERSION, "family": header.family, "kind": header.kind,
             "architecture": json.dumps(header.architecture), "layers": str(header.layers), "base": header.base,
             "licence": header.licence, "provenance": header.provenance}
    write_tensors(path, tensors, facts)


def read_header(path: Path, family: str | None = None, kind: str | None = None) -> Header:
    """Read and check a file's metadata. ValueError if it is not of the expected family and kind; the message says what it is."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} cannot be read as a safetensors file ({error}). It is damaged, incomplete or in another "
                         "format. Download or save it again.") from error
    if facts.get("format") != FORMAT:
        raise ValueError(f"{path.name} is not a layered model according to its metadata. Load an ordinary checkpoint with Load "
                         "Checkpoint and add Apply LayerDiff Adapter.")
    if facts.get("version") != VERSION:
        raise ValueError(f"{path.name} has format version {facts.get('version')}, but this pack reads version {VERSION}. Update "
                         "the pack, or save the model again.")
    try:
        architecture = json.loads(facts["architecture"], parse_constant=_refuse_constant)
        header = Header(facts["family"], facts["kind"], architecture, int(facts["layers"]), facts["base"], facts["licence"],
                        facts["provenance"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: its metadata is incomplete or damaged ({error}). Save the model again.") from error
    if (header.family, header.kind) not in PARTS or not isinstance(header.architecture, dict):
        known = ", ".join(" ".join(pair) for pair in PARTS)
        raise ValueError(f"{path.name} is of family {header.family!r} and kind {header.kind!r}. Expected one of: {known}. "
                         "Update the pack, or save the model again.")
    if family is not None and header.family != family:
        raise ValueError(f"{path.name} is a {header.family} model, but a {family} model was expected.")
    if kind is not None and header.kind != kind:
        node = "Load Layered Model" if header.kind == "complete" else "Apply LayerDiff Adapter"
        raise ValueError(f"{path.name} is of the kind {header.kind!r}, but {kind!r} was expected. Load it with {node}.")
    return header


def _refuse_constant(name: str) -> None:
    raise ValueError(f"its architecture contains the invalid number {name}")


def read_tensors(path: Path, header: Header, wanted: Collection[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """Read a file's tensors by part: {"unet": {key: tensor}, ...}. wanted: the parts to read, all if None.

    ValueError for a part that does not belong in the file.
    """
    parts: dict[str, dict[str, Tensor]] = {prefix[:-1]: {} for prefix in PARTS[header.family, header.kind]}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - a handle, not a dict
            part, _, key = name.partition(".")
            if part not in parts:
                raise ValueError(f"{path.name} holds {name!r}, which does not belong in a {header.family} file of the kind "
                                 f"{header.kind!r}. It was not written by this pack. Use another file.")
            if wanted is None or part in wanted:
                parts[part][key] = file.get_tensor(name)
    return parts


def full_embedding(rows: Tensor, token_ids: Tensor, vocabulary_size: int) -> Tensor:
    """Expand a file's word vectors to the whole vocabulary: rows [V + 1, dim], where row 0 is for every unknown token and
    row i + 1 for token_ids[i] -> [vocabulary_size, dim]."""
    full = rows[0].expand(vocabulary_size, -1).clone()
    full[token_ids.long()] = rows[1:]
    return full


def check_tensors(name: str, tensors: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> None:
    """ValueError if tensors do not have the expected keys and shapes. The message lists those that are missing, unexpected or
    of another shape or dtype. name: the file and part, for the message."""
    problems = []
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    shapes = [f"{key} {list(tensors[key].shape)} instead of {list(wanted[key])}" for key in sorted(wanted)
              if key in tensors and tensors[key].shape != wanted[key]]
    types = [f"{key} ({tensor.dtype})" for key, tensor in tensors.items()
             if not tensor.is_floating_point() or tensor.dtype == torch.float64]
    for label, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes),
                        ("not a 16 or 32 bit float", types)):
        if keys:
            more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            problems.append(f"{label}: {', '.join(keys[:SHOWN])}{more}")
    if problems:
        raise ValueError(f"{name} does not fit its architecture. " + "; ".join(problems) +
                         ". The file is damaged or was made for another model. Use another file, or save it again.")
