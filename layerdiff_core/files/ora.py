"""OpenRaster files, which GIMP, Krita and MyPaint open: a zip archive with layers as PNG files and their order as XML."""

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
"""The longest side of a thumbnail that the standard allows."""

OURS = "{urn:layerdiff}"
"""The namespace of this pack's attributes, which other programs ignore."""

NOT_IN_XML = "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""A regular expression for the characters that XML does not allow."""

NEAREST = {
    "exclusion": "svg:difference", "linear-burn": "svg:color-burn", "vivid-light": "svg:hard-light",
    "linear-light": "svg:hard-light", "pin-light": "svg:hard-light", "hard-mix": "svg:hard-light",
    "subtract": "svg:difference", "divide": "svg:color-dodge", "grain-extract": "svg:difference",
    "grain-merge": "svg:overlay",
}  # fmt: skip
"""The closest standard modes for blend modes that the standard lacks. The pack's own attribute keeps the exact mode."""

COMPOSITE_OPS = {mode: f"svg:{mode}" for mode in MODES} | {"normal": "svg:src-over", "linear-dodge": "svg:plus"} | NEAREST


def write_ora(document: Document, path: Path, text: dict[str, str], linear: bool = False, trim: bool = False) -> None:
    """Write a document as an OpenRaster file.

    Layers are stored with straight colours and their coverage as alpha. Opacity, blend mode, visibility and position are
    stored separately. A layer that is scaled, rotated or flipped is written as it appears on the canvas. text: metadata of the
    merged image, by key. linear: for the merged image. trim: crop each layer to its content. ValueError for values that are
    not finite. Source: OpenRaster 0.0.5, baseline.
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
    """Read an OpenRaster file. Groups are replaced by their layers.

    A group's position, visibility and opacity are applied to its layers. ValueError if the file is damaged, exceeds
    safe.Limits, is an unsafe archive, or has an unknown blend mode.
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
    """The attributes of all layers of a stack and its nested stacks, top layer first, including their src."""
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
    """A layer's blend mode: from the pack's attribute if the mode was not changed since, otherwise from its composite-op.

    Modes that other programs add to the standard have a prefix before a colon, and may contain spaces or underscores.
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
    """The name without the characters that XML does not allow."""
    return re.sub(NOT_IN_XML, "\ufffd", name)


def _thumbnail(rgba: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(rgba)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(picture)
