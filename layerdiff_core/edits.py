"""What was changed in the page's layer panel, kept as a text in the node, and done again to the layers here."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .blend import check_mode
from .layers import MAX_SIDE, Document, Layer, change_layer

LARGEST_SCALE = 100
FARTHEST = LARGEST_SCALE * MAX_SIDE
RANGES = {"opacity": (0, 1), "right": (-FARTHEST, FARTHEST), "down": (-FARTHEST, FARTHEST),
          "scale": (1 / LARGEST_SCALE, LARGEST_SCALE), "rotation": (-36000, 36000)}
"""Numbers that a layer's edits may hold, with what they may be; right and down are whole."""

HOW_TO = "Reset the layer panel, or leave the node's input edits empty."


def apply_edits(document: Document, text: str) -> tuple[Document, bool]:
    """Do to a document what the page's layer panel wrote down.

    text: JSON, or "" for no edits. {"version": 1, "made_for": fingerprint, "order": [original indices, bottom first],
    "solo": original index, "layers": {"original index": {"visible", "opacity", "blend_mode", "right", "down", "scale",
    "rotation" (degrees clockwise), "locked"}}}; what is absent stays as it is; right to rotation as in change_layer.
    A solo layer is the only visible one, even where its own eye is closed; layers that the order leaves out come on
    top. Returns the changed copy, and whether the edits were made for other layers: then they are applied as far as
    these layers exist. ValueError for a text that is not sound or names a layer that is not there. Source: ours.
    """
    if not text.strip():
        return document, False
    edits = _parse(text)
    stale = "made_for" in edits and edits["made_for"] != fingerprint(document)
    count = len(document.layers)
    changes = {int(key): change for key, change in edits.get("layers", {}).items()}
    order, solo = edits.get("order", []), edits.get("solo")
    missing = [index for index in [*changes, *order, *([] if solo is None else [solo])] if index >= count]
    if missing and not stale:
        raise ValueError(f"The edits refer to layer {missing[0]}, but the layers are numbered 0 to {count - 1}. {HOW_TO}")
    for index, change in changes.items():
        if index < count:
            kept = {key: getattr(document.layers[index], key) for key in ("opacity", "blend_mode", "visible")}
            moves = {key: change[key] for key in ("right", "down", "scale") if key in change}
            kept |= {key: change[key] for key in kept if key in change}
            document = change_layer(document, index, **kept, **moves, degrees=change.get("rotation", 0.0))
    order = [index for index in order if index < count]
    order += [index for index in range(count) if index not in order]
    layers = document.layers
    if solo is not None and solo < count:
        layers = [replace(layer, visible=index == solo) for index, layer in enumerate(layers)]
    return replace(document, layers=[layers[index] for index in order]), stale


def _parse(text: str) -> dict[str, Any]:
    try:
        edits = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The edits are not valid JSON ({error}). {HOW_TO}") from None
    _must(isinstance(edits, dict), "an object", edits)
    _must(edits.get("version") == 1, '"version": 1', edits.get("version"))
    _only(edits, {"version", "made_for", "order", "solo", "layers"}, "the edits")
    _must(isinstance(edits.get("made_for", ""), str), "a text as made_for", edits.get("made_for"))
    order, layers = edits.get("order", []), edits.get("layers", {})
    sound = isinstance(order, list) and all(map(_is_index, order)) and len(set(order)) == len(order)
    _must(sound, "different layers' numbers as order", order)
    _must("solo" not in edits or _is_index(edits["solo"]), "a layer's number as solo", edits.get("solo"))
    _must(isinstance(layers, dict), "an object as layers", layers)
    for key, change in layers.items():
        _must(key.isascii() and key.isdigit() and str(int(key[:9])) == key, "layers' numbers as keys of layers", key)
        _must(isinstance(change, dict), f"an object for layer {key}", change)
        _only(change, {"visible", "locked", "blend_mode", *RANGES}, f"layer {key}")
        for name, value in change.items():
            _check_field(name, value, f"layer {key}")
    return edits


def _check_field(name: str, value: Any, where: str) -> None:
    if name == "blend_mode":
        check_mode(value)
    elif name in ("visible", "locked"):
        _must(isinstance(value, bool), f"true or false as {name} of {where}", value)
    else:
        low, high = RANGES[name]
        whole = name in ("right", "down")
        kind = int if whole else (int, float)
        sound = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
        _must(sound, f"a {'whole ' if whole else ''}number from {low} to {high} as {name} of {where}", value)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _only(given: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ValueError(f"Unknown key {unknown[0]!r} in {where}. Expected: {', '.join(sorted(known))}. {HOW_TO}")


def _must(sound: bool, expected: str, given: Any) -> None:
    if not sound:
        raise ValueError(f"The edits are not valid: expected {expected}, got {str(given)[:60]!r}. {HOW_TO}")


def layer_bytes(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """A layer's own pixels in 8 bits, before it is placed: colours [H,W,3], not premultiplied, and coverage [H,W]."""
    return _bytes(layer.image[0]), _bytes(layer.coverage[0])


def _bytes(values: Tensor) -> np.ndarray:
    return (values.float().clamp(0, 1) * 255).round().to(torch.uint8).contiguous().cpu().numpy()


def fingerprint(document: Document) -> str:
    """16 hex digits that change when the canvas, the layers' names, number, order or pixels (in 8 bits) do."""
    digest = hashlib.sha256(json.dumps([document.canvas]).encode())
    for layer in document.layers:
        colours, coverage = layer_bytes(layer)
        digest.update(json.dumps([layer.name, colours.shape]).encode())
        digest.update(colours.tobytes())
        digest.update(coverage.tobytes())
    return digest.hexdigest()[:16]
