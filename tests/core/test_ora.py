"""OpenRaster files: written as the standard says, read as other programs write them, rejected with a clear message."""

import io
import json
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from layerdiff_core.blend import MODES
from layerdiff_core.composite import composite
from layerdiff_core.files import safe
from layerdiff_core.files.ora import read_ora, write_ora
from layerdiff_core.layers import make_document
from tests.documents import NAMES, alter, mixed_document

STANDARD_OPS = {
    "svg:src-over", "svg:multiply", "svg:screen", "svg:overlay", "svg:darken", "svg:lighten", "svg:color-dodge",
    "svg:color-burn", "svg:hard-light", "svg:soft-light", "svg:difference", "svg:color", "svg:luminosity", "svg:hue",
    "svg:saturation", "svg:plus",
}  # fmt: skip


def png(width: int = 4, height: int = 3, colour: tuple[int, ...] = (255, 0, 0, 128), mode: str = "RGBA") -> bytes:
    data = io.BytesIO()
    Image.new(mode, (width, height), colour).save(data, "PNG")
    return data.getvalue()


def archive(path: Path, stack: str, **members: bytes) -> Path:
    """An OpenRaster file with this stack on a canvas of 10 x 8, with a.png and b.png in it."""
    with ZipFile(path, "w") as file:
        file.writestr("mimetype", "image/openraster")
        file.writestr("stack.xml", f"<image w='10' h='8'>{stack}</image>")
        for name, data in ({"a.png": png(), "b.png": png(2, 2, (0, 255, 0, 255))} | members).items():
            file.writestr(name, data)
    return path


def test_the_archive_is_laid_out_as_the_standard_says(tmp_path: Path) -> None:
    doc = mixed_document(side=300)
    text = {"prompt": json.dumps({"1": "ä"}), "workflow": "{}"}
    write_ora(doc, tmp_path / "a.ora", text)
    raw = (tmp_path / "a.ora").read_bytes()
    assert raw[30:54] == b"mimetypeimage/openraster"  # so that programs know the file by its first bytes
    with ZipFile(tmp_path / "a.ora") as file:
        assert file.testzip() is None
        assert all(member.compress_type in (ZIP_STORED, ZIP_DEFLATED) for member in file.infolist())
        merged = Image.open(file.open("mergedimage.png"))
        thumbnail = Image.open(file.open("Thumbnails/thumbnail.png"))
        image = ElementTree.fromstring(file.read("stack.xml"))
        listed = [(layer.attrib["name"], Image.open(file.open(layer.attrib["src"])).size) for layer in image.iter("layer")]
    assert image.attrib == {"version": "0.0.5", "w": "300", "h": "293"}
    assert merged.size == (300, 293) and merged.text == text
    assert thumbnail.size == (256, 250)
    assert listed == [(name, (layer.w, layer.h)) for name, layer in reversed(list(zip(NAMES, doc.layers)))]
    picture, alpha = composite(doc)
    seen = np.asarray(merged)[..., 3:] > 0
    assert np.abs(np.asarray(merged)[..., :3] / 255.0 - picture[0].numpy())[seen[..., 0]].max() <= 0.51 / 255
    assert np.abs(np.asarray(merged)[..., 3] / 255.0 - alpha[0].numpy()).max() <= 0.51 / 255


def test_another_program_that_stacks_the_layers_gets_our_composite(tmp_path: Path) -> None:
    doc = mixed_document(modes=("normal",))
    write_ora(doc, tmp_path / "a.ora", {})
    with ZipFile(tmp_path / "a.ora") as file:
        canvas = Image.new("RGBA", doc.canvas)
        for layer in reversed(list(ElementTree.fromstring(file.read("stack.xml")).iter("layer"))):
            if layer.attrib["visibility"] == "hidden":
                continue
            picture = Image.open(file.open(layer.attrib["src"]))
            picture.putalpha(picture.getchannel("A").point(lambda a, o=float(layer.attrib["opacity"]): round(a * o)))
            beneath = Image.new("RGBA", doc.canvas)
            beneath.paste(picture, (int(layer.attrib["x"]), int(layer.attrib["y"])))
            canvas = Image.alpha_composite(canvas, beneath)
    assert np.abs(np.asarray(canvas)[..., :3] / 255 - composite(doc)[0][0].numpy()).max() <= 2 / 255


def test_only_the_standards_composite_ops_are_written(tmp_path: Path) -> None:
    write_ora(mixed_document(len(MODES)), tmp_path / "a.ora", {})
    with ZipFile(tmp_path / "a.ora") as file:
        ops = [layer.attrib["composite-op"] for layer in ElementTree.fromstring(file.read("stack.xml")).iter("layer")]
    assert len(ops) == len(MODES) and set(ops) == STANDARD_OPS


def test_a_mode_that_an_editor_changed_wins_over_our_attribute(tmp_path: Path) -> None:
    ours = "xmlns:layerdiff='urn:layerdiff' layerdiff:blend-mode='exclusion'"
    stack = f"<stack><layer src='a.png' composite-op='svg:{{}}' {ours}/></stack>"
    assert read_ora(archive(tmp_path / "a.ora", stack.format("difference"))).layers[0].blend_mode == "exclusion"
    assert read_ora(archive(tmp_path / "a.ora", stack.format("screen"))).layers[0].blend_mode == "screen"


def test_groups_of_other_programs_are_taken_apart(tmp_path: Path) -> None:
    doc = read_ora(archive(tmp_path / "a.ora", """
        <stack>
          <layer name="top" src="a.png" opacity="0.5" composite-op="krita:linear_burn"/>
          <stack name="group" x="3" y="-2" opacity="0.5" visibility="hidden">
            <layer name="in 2" src="b.png" x="1" y="1"/>
            <stack opacity="0.5"><layer name="in 1" src="b.png" visibility="hidden"/></stack>
          </stack>
          <text>not a layer</text>
          <layer src="a.png" composite-op="svg:plus"/>
        </stack>"""))  # fmt: skip
    assert doc.canvas == (10, 8)
    facts = [[getattr(layer, key) for key in ("name", "x", "y", "opacity", "visible", "blend_mode")] for layer in doc.layers]
    assert facts == [
        ["Layer 1", 0, 0, 1.0, True, "linear-dodge"],
        ["in 1", 3, -2, 0.25, False, "normal"],
        ["in 2", 4, -1, 0.5, False, "normal"],
        ["top", 0, 0, 0.5, True, "linear-burn"],
    ]
    assert doc.layers[3].image[0, 0, 0].tolist() == [1, 0, 0]
    assert doc.layers[3].coverage.unique().item() == pytest.approx(128 / 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "I;16"])
def test_pictures_of_every_kind_are_read(tmp_path: Path, mode: str) -> None:
    data = io.BytesIO()
    grey = Image.fromarray(np.array([[0, 65535]], np.uint16)) if mode == "I;16" else Image.new("L", (2, 1))
    grey.putpixel((1, 0), 65535 if mode == "I;16" else 255)
    (grey if mode == "I;16" else grey.convert(mode)).save(data, "PNG")
    doc = read_ora(archive(tmp_path / "a.ora", "<stack><layer src='c.png'/></stack>", **{"c.png": data.getvalue()}))
    assert doc.layers[0].image.tolist() == [[[[0.0] * 3, [1.0] * 3]]]
    assert doc.layers[0].coverage.tolist() == [[[1.0, 1.0]]]


def test_a_transparent_colour_of_a_palette_is_transparent(tmp_path: Path) -> None:
    data = io.BytesIO()
    picture = Image.new("P", (2, 2), 3)
    picture.putpalette(range(12))
    picture.save(data, "PNG", transparency=3)
    doc = read_ora(archive(tmp_path / "a.ora", "<stack><layer src='c.png'/></stack>", **{"c.png": data.getvalue()}))
    assert doc.layers[0].coverage.eq(0).all()


LAYER = "<stack><layer src='a.png'/></stack>"
HUGE = io.BytesIO()
Image.new("1", (16000, 16000)).save(HUGE, "PNG")


@pytest.mark.parametrize(
    ("stack", "members", "message"),
    [
        ("", {}, "describes no layers"),
        ("<stack></stack>", {}, "0 layers"),
        ("<stack><layer name='cat'/></stack>", {}, "cannot be read.*'src'"),
        ("<stack><layer name='cat' src='c.png'/></stack>", {}, "refers to 'c.png'.*is missing from"),
        ("<stack><layer src='../a.png'/></stack>", {}, "is missing from"),
        ("<stack><layer src='/etc/passwd'/></stack>", {}, "is missing from"),
        ("<stack><layer src='a.png' composite-op='svg:dst-in'/></stack>", {}, "'svg:dst-in', which is not supported"),
        ("<stack><layer src='a.png' opacity='7'/></stack>", {}, "opacity 7.0"),
        ("<stack><layer src='a.png' opacity='nan'/></stack>", {}, "opacity = nan"),
        ("<stack><layer src='a.png' x='left'/></stack>", {}, "'left'"),
        ("<stack>" + 51 * "<layer src='a.png'/>" + "</stack>", {}, "more than 50 layers"),
        ("<stack><layer src='a.png'/>", {}, "cannot be read.*mismatched tag"),
        ("<stack><layer src='c.png'/></stack>", {"c.png": b"GIF89a"}, "c.png in a.ora cannot be read"),
        ("<stack><layer src='c.png'/></stack>", {"c.png": png()[:-30]}, "c.png in a.ora cannot be read"),
        ("<stack><layer src='c.png'/></stack>", {"c.png": HUGE.getvalue()}, "too large"),
        ("<stack><layer src='c.png'/></stack>", {"c.png": png(16385, 1)}, "16385 x 1 pixels.*1 to 16384"),
        (LAYER, {"../evil.png": png()}, "'../evil.png', which points outside"),
        (LAYER, {"C:/evil.png": png()}, "points outside"),
        (LAYER, {"data\\evil.png": png()}, "points outside"),
    ],
)  # fmt: skip
def test_an_unsound_file_is_refused(tmp_path: Path, stack: str, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_ora(archive(tmp_path / "a.ora", stack, **members))


def test_the_layers_together_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe, "MAX_PIXELS", 100)
    eight = "<layer src='a.png'/>" * 8
    assert len(read_ora(archive(tmp_path / "a.ora", f"<stack>{eight}</stack>")).layers) == 8
    with pytest.raises(ValueError, match="too large: its layers"):
        read_ora(archive(tmp_path / "a.ora", f"<stack>{eight}<layer src='a.png'/></stack>"))


@pytest.mark.parametrize(
    "canvas", ["w='0' h='8'", "w='16385' h='8'", "w='9' h='-1'", "w='9'", "w='16000' h='16000'", "w='x' h='8'"]
)
def test_an_unsound_canvas_is_refused(tmp_path: Path, canvas: str) -> None:
    with ZipFile(tmp_path / "a.ora", "w") as file:
        file.writestr("stack.xml", f"<image {canvas}>{LAYER}</image>")
        file.writestr("a.png", png())
    with pytest.raises(ValueError, match="canvas|'h'|'x'"):
        read_ora(tmp_path / "a.ora")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    text = ('<?xml version="1.0"?><!DOCTYPE image [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">'
            '<!ENTITY c SYSTEM "file:///etc/passwd">]><image w="10" h="8"><stack name="&b;&c;"/></image>')  # fmt: skip
    with ZipFile(tmp_path / "a.ora", "w") as file:
        file.writestr("stack.xml", text.encode(encoding))
    with pytest.raises(ValueError, match="document type"):
        read_ora(tmp_path / "a.ora")


@pytest.mark.parametrize("stack", [b"<a/>" * (4 << 20), b"<a/>" * 400_000, b"<a>" * 400_000,
                                   b"<a %s/>" % b" ".join(b"a%d=''" % n for n in range(150_000))])
def test_elements_are_counted_not_only_bytes(tmp_path: Path, stack: bytes) -> None:
    with ZipFile(tmp_path / "a.ora", "w", ZIP_DEFLATED) as file:
        file.writestr("stack.xml", b"<image w='10' h='8'>" + stack + b"</image>")
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(ValueError, match="longer than 2 MB|more than 20000 elements and attributes"):
        read_ora(tmp_path / "a.ora")
    spent, (_, most) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 2 and most < 40 << 20


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_tricks_with_the_archive_are_refused(tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_ora(path)

    path = tmp_path / "a.ora"
    refused("a.ora is missing")
    path.write_bytes(b"not a zip")
    refused("a.ora cannot be read")
    with ZipFile(path, "w") as file:
        file.writestr("mimetype", "image/openraster")
    refused("stack.xml")
    archive(path, LAYER)
    with ZipFile(path, "a") as file:
        file.writestr("a.png", png())
    refused("two files of the same name")
    with ZipFile(path, "w") as file:
        for number in range(1001):
            file.writestr(f"{number}", "")
    refused("1001 files")
    with ZipFile(path, "w", ZIP_DEFLATED) as file:
        file.writestr("stack.xml", " " * (17 << 20))
    refused("longer than 2 MB")
    raw = bytearray(archive(path, LAYER).read_bytes())
    entry = raw.index(b"PK\1\2")
    raw[entry + 24 : entry + 28] = b"\xff\xff\xff\x7f"  # the size that the first member says it unpacks to
    path.write_bytes(raw)
    refused("more than 1024 MB")
    raw[entry + 8] |= 1
    path.write_bytes(raw)
    refused("encrypted")


def test_a_document_without_a_canvas_gets_that_of_its_layers(tmp_path: Path) -> None:
    doc = replace(make_document(torch.rand(1, 4, 6, 3), torch.ones(1, 4, 6), ["cat"]), fixed_canvas=None)
    alter(doc, 0, x=3)
    write_ora(doc, tmp_path / "a.ora", {})
    assert read_ora(tmp_path / "a.ora").canvas == (9, 4)
