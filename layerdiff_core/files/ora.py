"""OpenRaster, which GIMP, Krita and MyPaint open: layers as PNG and their order as XML in one zip archive."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from PIL import Image

from ..blend import MODES
from ..export import save_png
from ..layers import Document, Layer
from ..whole import whole
from .pixels import file_layers, layer_rgba, merged_rgba
from .safe import SHOWN, FileError, Limits, check_archive, parse_xml, read_png, read_text, reading

THUMBNAIL = 256
"""The standard's largest side of a thumbnail."""

OURS = "{urn:layerdiff}"
"""Namespace of our own attributes, which other programs pass over."""

NOT_IN_XML = "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""A regular expression for the signs that XML cannot hold."""

NEAREST = {
    "exclusion": "svg:difference", "linear-burn": "svg:color-burn", "vivid-light": "svg:hard-light",
    "linear-light": "svg:hard-light", "pin-light": "svg:hard-light", "hard-mix": "svg:hard-light",
    "subtract": "svg:difference", "divide": "svg:color-dodge", "grain-extract": "svg:difference",
    "grain-merge": "svg:overlay",
}  # fmt: skip
"""For blend modes that the standard lacks what looks most like them; our own attribute keeps the exact one."""

COMPOSITE_OPS = {mode: f"svg:{mode}" for mode in MODES} | {"normal": "svg:src-over", "linear-dodge": "svg:plus"} | NEAREST


def write_ora(document: Document, path: Path, text: dict[str, str], linear: bool = False, trim: bool = False) -> None:
    """Write a document as an OpenRaster file.

    Layers hold straight colours with the coverage as alpha; opacity, blend mode, visibility and place stand beside them.
    A layer that is scaled, turned or flipped is written as it lies on the canvas. text: metadata of the merged picture,
    key by key. linear: for the merged picture. trim: crop each layer to its content. ValueError for numbers that are not finite.
    Source: OpenRaster 0.0.5, baseline.
    """
    layers = file_layers(document, trim)
    merged = merged_rgba(document, linear)
    width, height = document.canvas
    ElementTree.register_namespace("layerdiff", OURS.strip("{}"))
    image = ElementTree.Element("image", {"version": "0.0.5", "w": str(width), "h": str(height)})
    stack = ElementTree.SubElement(image, "stack")
    for number, layer in reversed(list(enumerate(layers))):
        mode = layer.blend_mode
        facts = {
            "name": _xml_text(layer.name),
            "src": _member(number),
            "x": str(layer.x),
            "y": str(layer.y),
            "opacity": str(layer.opacity),
            "visibility": "visible" if layer.visible else "hidden",
            "composite-op": COMPOSITE_OPS[mode],
        }
        ElementTree.SubElement(stack, "layer", facts | {OURS + "blend-mode": mode} if mode in NEAREST else facts)
    pictures = {
        **{_member(number): (layer_rgba(layer), {}) for number, layer in enumerate(layers)},
        "mergedimage.png": (merged, text),
        "Thumbnails/thumbnail.png": (_thumbnail(merged), {}),
    }
    with whole(path) as part, ZipFile(part, "w", ZIP_STORED) as archive:
        archive.writestr("mimetype", "image/openraster")
        archive.writestr("stack.xml", ElementTree.tostring(image, "utf-8", xml_declaration=True), ZIP_DEFLATED)
        for name, (rgba, metadata) in pictures.items():
            with archive.open(name, "w") as member:
                save_png(member, rgba, metadata)


def read_ora(path: Path) -> Document:
    """Read an OpenRaster file, groups taken apart into their layers.

    A group's place, visibility and opacity go to its layers. ValueError says what is wrong with the file: damaged,
    larger than safe.Limits allows, an archive with tricks, or a blend mode that is not known here.
    """
    limits = Limits(path.name)
    with reading(path.name), ZipFile(path) as archive:
        check_archive(archive, path.name)
        with archive.open("stack.xml") as member:
            image = parse_xml(read_text(member, "stack.xml"), f"stack.xml in {path.name}")
        if image.tag != "image" or (stack := image.find("stack")) is None:
            raise FileError(f"stack.xml in {path.name} describes no layers. Save the file again as OpenRaster.")
        canvas = int(image.attrib["w"]), int(image.attrib["h"])
        limits.canvas(*canvas)
        found = enumerate(reversed(_layer_facts(stack)), 1)
        return Document([_read_layer(archive, facts, number, limits) for number, facts in found], canvas)


def _layer_facts(root: ElementTree.Element) -> list[dict[str, Any]]:
    """All layers of a stack and the stacks within it, top first, with what is said of each and its src."""
    found = []
    waiting = [(root, {"x": 0, "y": 0, "opacity": 1.0, "visible": True})]
    while waiting:
        element, around = waiting.pop()
        facts = element.attrib
        here = {
            "x": around["x"] + int(facts.get("x", 0)),
            "y": around["y"] + int(facts.get("y", 0)),
            "opacity": around["opacity"] * float(facts.get("opacity", 1)),
            "visible": around["visible"] and facts.get("visibility", "visible") == "visible",
        }
        if element.tag == "stack":
            waiting.extend((child, here) for child in reversed(element))
        elif element.tag == "layer":
            found.append(here | {"name": facts.get("name"), "blend_mode": _mode(facts), "src": facts["src"]})
    return found


def _mode(facts: dict[str, str]) -> str:
    """A layer's blend mode: our own attribute's where nobody changed the mode since, else that of its composite-op.

    What other programs add to the standard has their name before the colon, and blanks or underscores in it.
    """
    composite_op = facts.get("composite-op", "svg:src-over")
    ours = facts.get(OURS + "blend-mode", "")
    if COMPOSITE_OPS.get(ours) == composite_op:
        return ours
    name = composite_op.rpartition(":")[2].replace("_", "-").replace(" ", "-")
    mode = {"src-over": "normal", "plus": "linear-dodge"}.get(name, name)
    if mode not in MODES:
        raise FileError(f"A layer has the composite-op {composite_op[:SHOWN]!r}, which is not supported. Set another blend mode "
                        "in the program that created the file.")  # fmt: skip
    return mode


def _read_layer(archive: ZipFile, facts: dict[str, Any], number: int, limits: Limits) -> Layer:
    source = facts.pop("src")
    if source not in archive.namelist():
        raise FileError(f"A layer refers to {source[:SHOWN]!r}, which is missing from {limits.file}. Save the file again.")
    with archive.open(source) as member:
        return Layer.of(*read_png(member, f"{source[:SHOWN]} in {limits.file}", limits), number, **facts)


def _member(number: int) -> str:
    return f"data/layer{number:02}.png"


def _xml_text(name: str) -> str:
    """The name without the signs that XML cannot hold."""
    return re.sub(NOT_IN_XML, "\ufffd", name)


def _thumbnail(rgba: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(rgba)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(picture)
