"""The edits made in the page's layer panel, which are stored as text in the node and applied to the layers here."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .blend import check_mode
from .layer_fields import MAX_SIDE
from .layers import MAX_LAYERS, Document, Layer, change_layer

LARGEST_SCALE = 100
FARTHEST = LARGEST_SCALE * MAX_SIDE
RANGES = {"opacity": (0, 1), "right": (-FARTHEST, FARTHEST), "down": (-FARTHEST, FARTHEST),
          "scale": (1 / LARGEST_SCALE, LARGEST_SCALE), "rotation": (-36000, 36000)}
"""The numeric fields of a layer's edits, with their limits. right and down are integers."""

FLAGS = ("visible", "locked", "deleted")
"""The boolean fields."""

HOW_TO = "Reset the layer panel, or leave the node's input edits empty."


def apply_edits(document: Document, text: str, shown: Document | None = None) -> tuple[Document, bool]:
    """Apply the edits from the page's layer panel to a document.

    text: JSON, or "" for no edits. {"version": 1, "made_for": fingerprint, "order": [layers' numbers, bottom first],
    "copies": {"number": number of the layer that it is a copy of}, "layers": {"number": {"name", "visible", "opacity",
    "blend_mode", "right", "down", "scale", "rotation" (degrees clockwise), "locked", "deleted"}}}. Layers have their
    original numbers, from 0 at the bottom; copies are numbered from 50. Absent fields are unchanged; right to rotation are as
    in change_layer. Layers missing from the order go on top. "solo", written by older panels, was only a view and is ignored.
    shown: the document whose fingerprint counts, if the panel shows another one. Returns the changed copy and False; or, if
    the edits were made for other layers, the document itself and True, and the panel asks whether to keep the edits.
    ValueError if the text is invalid, refers to a layer that does not exist, or leaves no layers or more than 50.
    Source: ours.
    """
    if not text.strip():
        return document, False
    edits = _parse(text)
    if "made_for" in edits and edits["made_for"] != fingerprint(shown or document):
        return document, True
    count = len(document.layers)
    originals = {number: number for number in range(count)}
    originals |= {int(key): original for key, original in edits.get("copies", {}).items()}
    changes = {int(key): change for key, change in edits.get("layers", {}).items()}
    order = edits.get("order", [])
    missing = [number for number in [*originals.values(), *changes, *order] if number not in originals]
    if missing:
        raise ValueError(f"The edits refer to layer {missing[0]}, but the layers are numbered 0 to {count - 1}. {HOW_TO}")
    order = [*order, *(number for number in sorted(originals) if number not in order)]
    order = [number for number in order if not changes.get(number, {}).get("deleted")]
    if not 1 <= len(order) <= MAX_LAYERS:
        raise ValueError(f"The edits leave {len(order)} layers; there must be 1 to {MAX_LAYERS}. {HOW_TO}")
    layers = [_changed(document, originals[number], changes.get(number, {})) for number in order]
    return replace(document, layers=layers), False


def _changed(document: Document, index: int, change: dict[str, Any]) -> Layer:
    """A layer of the document with its edits applied."""
    fields = {key: getattr(document.layers[index], key) for key in ("opacity", "blend_mode", "visible")}
    fields |= {key: change[key] for key in ("name", "right", "down", "scale", *fields) if key in change}
    return change_layer(document, index, **fields, degrees=change.get("rotation", 0.0)).layers[index]


def _parse(text: str) -> dict[str, Any]:
    try:
        edits = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The edits are not valid JSON ({error}). {HOW_TO}") from None
    _must(isinstance(edits, dict), "an object", edits)
    _must(edits.get("version") == 1, '"version": 1', edits.get("version"))
    _only(edits, {"version", "made_for", "order", "solo", "copies", "layers"}, "the edits")
    _must(isinstance(edits.get("made_for", ""), str), "a text as made_for", edits.get("made_for"))
    order, layers = edits.get("order", []), edits.get("layers", {})
    sound = isinstance(order, list) and all(map(_is_index, order)) and len(set(order)) == len(order)
    _must(sound, "different layers' numbers as order", order)
    _must("solo" not in edits or _is_index(edits["solo"]), "a layer's number as solo", edits.get("solo"))
    copies = edits.get("copies", {})
    _must(isinstance(copies, dict), "an object as copies", copies)
    for key, original in copies.items():
        _must(_is_key(key) and int(key) >= MAX_LAYERS, f"numbers from {MAX_LAYERS} on as keys of copies", key)
        _must(_is_index(original) and original < MAX_LAYERS, f"a layer's number for copy {key}", original)
    _must(isinstance(layers, dict), "an object as layers", layers)
    for key, change in layers.items():
        _must(_is_key(key), "layers' numbers as keys of layers", key)
        _must(isinstance(change, dict), f"an object for layer {key}", change)
        _only(change, {"name", *FLAGS, "blend_mode", *RANGES}, f"layer {key}")
        for name, value in change.items():
            _check_field(name, value, f"layer {key}")
    return edits


def _check_field(name: str, value: Any, where: str) -> None:
    if name == "blend_mode":
        check_mode(value)
    elif name == "name":
        _must(isinstance(value, str) and value.strip() != "", f"a text that is not empty as name of {where}", value)
    elif name in FLAGS:
        _must(isinstance(value, bool), f"true or false as {name} of {where}", value)
    else:
        low, high = RANGES[name]
        whole = name in ("right", "down")
        kind = int if whole else (int, float)
        sound = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
        _must(sound, f"a {'whole ' if whole else ''}number from {low} to {high} as {name} of {where}", value)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_key(key: str) -> bool:
    return key.isascii() and key.isdigit() and str(int(key[:9])) == key


def _only(given: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ValueError(f"Unknown key {unknown[0]!r} in {where}. Expected: {', '.join(sorted(known))}. {HOW_TO}")


def _must(sound: bool, expected: str, given: Any) -> None:
    if not sound:
        raise ValueError(f"The edits are not valid: expected {expected}, got {str(given)[:60]!r}. {HOW_TO}")


def layer_bytes(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """A layer's own pixels in 8 bits, before placement: colours [H,W,3], not premultiplied, and coverage [H,W]."""
    return _bytes(layer.image[0]), _bytes(layer.coverage[0])


def _bytes(values: Tensor) -> np.ndarray:
    return (values.float().clamp(0, 1) * 255).round().to(torch.uint8).contiguous().cpu().numpy()


def fingerprint(document: Document) -> str:
    """16 hex digits that change with the canvas and with the layers' names, number, order and pixels (in 8 bits)."""
    digest = hashlib.sha256(json.dumps([document.canvas]).encode())
    for layer in document.layers:
        colours, coverage = layer_bytes(layer)
        digest.update(json.dumps([layer.name, colours.shape]).encode())
        digest.update(colours.tobytes())
        digest.update(coverage.tobytes())
    return digest.hexdigest()[:16]
