"""A sample of a data set: a layered scene, what it shows, where it comes from, and how good it is."""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..export import save_png
from ..files.pixels import file_layers, layer_rgba
from ..files.safe import MAX_TEXT, SHOWN, FileError, Limits, read_png, reading
from ..layers import Document, Layer

FORMAT, VERSION = "layerdiff-scene", 1
FACTS = "json"
"""The member of a sample that describes the others."""

LAYER_FACTS = ("name", "opacity", "blend_mode", "visible")
"""Facts of a layer that are stored under the names that a LAYERS document has for them."""

PROMPT = "prompt"
"""The key under which a LAYERS document and its layers carry their prompts through a graph."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A layered scene.

    document: bottom layer first. prompt: of the whole scene. layer_prompts: one per layer. source: a URL or a file's name.
    licence: of the images, SPDX if possible. scores: any numbers, by name. complete: whether the bottom layer also shows what
    is behind the others; if not, the objects are still in it, and it has to be inpainted.
    """

    document: Document
    prompt: str
    layer_prompts: list[str]
    source: str = ""
    licence: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True

    def with_prompts(self) -> Document:
        """The document, in which it and each layer carry their prompts, so that they stay together in a graph."""
        layers = [replace(layer, extra={**layer.extra, PROMPT: prompt})
                  for layer, prompt in zip(self.document.layers, self.layer_prompts)]
        return replace(self.document, layers=layers, extra={**self.document.extra, PROMPT: self.prompt})


def carried_prompts(document: Document) -> tuple[str, list[str]]:
    """The prompts that a document carries: its own, or "", and each layer's, or its name."""
    return (str(document.extra.get(PROMPT) or ""), [str(layer.extra.get(PROMPT) or layer.name) for layer in document.layers])


def pack(sample: Sample) -> dict[str, bytes]:
    """The members of a sample by extension: "json" and a PNG per layer, "00.png" for the bottom one.

    A PNG has straight colours and the mask as alpha, cropped to its content. Scaled, rotated and flipped layers are stored as
    they appear on the canvas. ValueError for values that are not finite, and if prompts and layers are not of the same number.
    """
    layers = file_layers(sample.document, trim=True)
    if len(sample.layer_prompts) != len(layers):
        raise ValueError(f"There are {len(sample.layer_prompts)} layer prompts for {len(layers)} layers. Enter one per layer.")
    members, listed = {}, []
    for number, (layer, prompt) in enumerate(zip(layers, sample.layer_prompts)):
        file, buffer = f"{number:02}.png", io.BytesIO()
        save_png(buffer, layer_rgba(layer), {})
        members[file] = buffer.getvalue()
        listed.append({"file": file, "prompt": prompt, "box": [layer.x, layer.y, layer.x + layer.w, layer.y + layer.h],
                       **{name: getattr(layer, name) for name in LAYER_FACTS}})
    facts = {"format": FORMAT, "version": VERSION, "prompt": sample.prompt, "canvas": list(sample.document.canvas),
             "background_complete": sample.complete, "source": sample.source, "licence": sample.licence,
             "scores": dict(sample.scores), "layers": listed}
    # A text that was cut in the middle of a character ends in half of one, which UTF-8 cannot hold.
    return {FACTS: json.dumps(facts, ensure_ascii=False, indent=1).encode("utf-8", "replace"), **members}


def read_facts(data: bytes, what: str) -> dict[str, Any]:
    """The checked facts of a sample. what: its name, for the messages. FileError says which of them is wrong."""
    if len(data) > MAX_TEXT:
        raise FileError(f"{what}: its json is longer than {MAX_TEXT >> 20} MB.")
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{what}: its json is damaged ({str(error)[:SHOWN]}).") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise FileError(f"{what} is not a layered scene: its json has no \"format\": {FORMAT!r}.")
    _expect(facts.get("version") == VERSION, what, "version", facts, str(VERSION))
    _expect(isinstance(facts.get("prompt"), str), what, "prompt", facts, "text")
    canvas = facts.get("canvas")
    _expect(_whole_numbers(canvas, 2), what, "canvas", facts, "[width, height]")
    for name in ("source", "licence"):
        _expect(isinstance(facts.setdefault(name, ""), str), what, name, facts, "text")
    _expect(isinstance(facts.setdefault("background_complete", True), bool), what, "background_complete", facts, "true or false")
    scores = facts.setdefault("scores", {})
    _expect(isinstance(scores, dict) and all(_is_number(value) for value in scores.values()), what, "scores", facts,
            "numbers by name")
    _expect(isinstance(facts.get("layers"), list) and bool(facts["layers"]), what, "layers", facts, "a list, bottom layer first")
    for number, layer in enumerate(facts["layers"]):
        where = f"{what}, layer {number}"
        if not isinstance(layer, dict):
            raise FileError(f"{where} is {type(layer).__name__}, expected its facts.")
        _expect(isinstance(layer.get("file"), str), where, "file", layer, "the name of a PNG such as 00.png")
        _expect(isinstance(layer.get("prompt"), str), where, "prompt", layer, "text")
        _expect(_whole_numbers(layer.get("box"), 4), where, "box", layer, "[left, top, right, bottom] in pixels")
    return facts


def unpack(members: Mapping[str, bytes], what: str) -> Sample:
    """Read a sample from its members by extension, as returned by `pack`.

    what: its name, for the messages. FileError if a member is missing, damaged, or does not fit the facts, and for a scene that
    exceeds safe.Limits.
    """
    if FACTS not in members:
        raise FileError(f"{what} has no json. It is not a layered scene, or was cut off.")
    facts = read_facts(members[FACTS], what)
    limits = Limits(what)
    limits.canvas(*facts["canvas"])
    layers = []
    for number, entry in enumerate(facts["layers"]):
        where, file = f"{what}, layer {number}", entry["file"]
        if file not in members:
            raise FileError(f"{where}: the file {file[:SHOWN]!r} is missing.")
        image, coverage = read_png(io.BytesIO(members[file]), f"{where} ({file[:SHOWN]})", limits)
        left, top, right, bottom = entry["box"]
        if (right - left, bottom - top) != (image.shape[2], image.shape[1]):
            raise FileError(f"{where}: the box {entry['box']} is {right - left} x {bottom - top} pixels, and the PNG "
                            f"{image.shape[2]} x {image.shape[1]}.")
        with reading(where):
            placed = {name: entry[name] for name in LAYER_FACTS if name in entry} | {"x": left, "y": top}
            layers.append(Layer.of(image, coverage, number + 1, **placed))
    width, height = facts["canvas"]
    return Sample(Document(layers, (width, height)), facts["prompt"], [entry["prompt"] for entry in facts["layers"]],
                  facts["source"], facts["licence"], facts["scores"], facts["background_complete"])


def _expect(right: bool, what: str, name: str, facts: Mapping[str, Any], wanted: str) -> None:
    if not right:
        found = repr(facts[name])[:SHOWN] if name in facts else "missing"
        raise FileError(f"{what}: {name} is {found}, expected {wanted}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole_numbers(value: Any, count: int) -> bool:
    return (isinstance(value, list) and len(value) == count
            and all(isinstance(part, int) and not isinstance(part, bool) for part in value))
