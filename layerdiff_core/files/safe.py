"""Foreign files read without trust: limits on what they may unfold to, archives, XML, names and PNG checked on the way."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..layers import MAX_LAYERS, MAX_SIDE

MAX_PIXELS = 30_000_000
"""Of all layers of a file together, and of its canvas. A layer's pixel takes 16 bytes, so memory stays under 1 GB."""

MAX_TEXT = 2 << 20
"""Bytes of the XML or JSON that describes a file's layers; metadata such as a workflow lie elsewhere."""

MAX_ELEMENTS, MAX_METADATA_ELEMENTS = 20_000, 300_000
"""Elements and attributes of an XML text: of a description of layers, and of metadata, in which Photoshop may list each
picture that ever was in a file. A few bytes in a file take hundreds in memory."""

MAX_MEMBERS, MAX_UNPACKED = 1000, 1 << 30
"""Of an archive: members, and bytes that they say they unpack to. Pictures are unpacked as they are read, never whole."""

BAND = 1 << 20
"""Pixels that are turned into numbers at a time."""


SHOWN = 200
"""Signs that a message repeats of what a file or a parser says."""


class FileError(ValueError):
    """What is wrong with a file, in words for the user."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever goes wrong while `what` (a file, as the user knows it) is read into a FileError that names it.

    A FileError goes through as it is. The parsers beneath fail on damaged data with errors of every kind, from
    struct.error to RecursionError, which is why all are caught here.
    """
    try:
        yield
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"{what} is missing. Choose another file, or put it back.") from error
    except Image.DecompressionBombError as error:
        raise FileError(f"{what} is too large. Scale it down.") from error
    except Exception as error:
        raise FileError(f"{what} cannot be read. It is damaged, incomplete, or not of the type its name suggests "
                        f"({type(error).__name__}: {str(error)[:SHOWN]!r}). Save or export it again.") from error  # fmt: skip


class Limits:
    """What one file may still unfold to. file: its name, for the messages."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.layers = 0
        self.pixels = 0

    def canvas(self, width: int, height: int) -> None:
        """FileError unless the canvas has sides of 1 to 16384 pixels and no more than 30 million pixels."""
        self._sides("the canvas", width, height)
        self._pixels("its canvas", width * height)

    def layer(self, width: int, height: int) -> None:
        """Count a layer in, before its pixels are unpacked. FileError if it or all of them together are too much."""
        self.layers += 1
        self._sides(f"layer {self.layers}", width, height)
        if self.layers > MAX_LAYERS:
            raise FileError(f"{self.file} has more than {MAX_LAYERS} layers. Merge some of them in the program that created it.")
        self.pixels += width * height
        self._pixels("its layers", self.pixels)

    def _sides(self, what: str, width: int, height: int) -> None:
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise FileError(f"{self.file}: {what} is {width} x {height} pixels; each side must be 1 to {MAX_SIDE}.")

    def _pixels(self, what: str, pixels: int) -> None:
        if pixels > MAX_PIXELS:
            raise FileError(f"{self.file} is too large: {what} would need {pixels / 1e6:.0f} million pixels, and at most "
                            f"{MAX_PIXELS / 1e6:.0f} million are supported. Scale it down, or crop or merge layers.")  # fmt: skip


def check_archive(archive: ZipFile, file: str) -> None:
    """FileError if an archive holds names that lead out of it, names twice, secrets, or more than it may unpack to.

    archive: opened for reading; nothing is unpacked here. file: its name, for the messages.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise FileError(f"{file} contains {len(members)} files; at most {MAX_MEMBERS} are supported. It is not a layered image.")
    names = [member.filename for member in members]
    for name in names:
        # A slash in front, as the library pyora writes it, does no harm: nothing is ever unpacked to a disk.
        if not name or ".." in PurePosixPath(name).parts or set(name) & set("\\:"):
            raise FileError(f"{file} contains a file named {name[:SHOWN]!r}, which points outside the archive. Do not trust "
                            "this file.")  # fmt: skip
    if len(set(names)) < len(names):
        raise FileError(f"{file} contains two files of the same name. Save it again.")
    if any(member.flag_bits & 1 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for member in members):
        raise FileError(f"{file} is encrypted or uses an unsupported compression. Save it again.")
    if sum(member.file_size for member in members) > MAX_UNPACKED:
        raise FileError(f"{file} would unpack to more than {MAX_UNPACKED >> 20} MB. Scale the image down, or merge layers.")


def read_text(source: IO[bytes], what: str) -> bytes:
    """All of a text member or file that describes layers. FileError if it is longer than 2 MB."""
    data = source.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise FileError(f"{what} is longer than {MAX_TEXT >> 20} MB. It is not a description of layers.")
    return data


def parse_xml(data: bytes, what: str) -> Element:
    """The root element of an XML text; names with a namespace read '{namespace}name'.

    FileError for a document type and for more than 20,000 elements and attributes.
    """
    builder, parser = TreeBuilder(), _parser(data, what, MAX_ELEMENTS)
    parser.StartElementHandler = lambda name, facts: builder.start(_full(name), {_full(k): v for k, v in facts.items()})
    parser.CharacterDataHandler = builder.data
    parser.EndElementHandler = lambda name: builder.end(_full(name))
    parser.Parse(data, True)
    return builder.close()


def find_property(data: bytes, what: str, name: str) -> str:
    """The first text that stands under a name ('{namespace}name') in metadata, as an attribute or an element; else "".

    No tree is built. FileError for a document type and for more than 300,000 elements and attributes.
    """
    parser = _parser(data, what, MAX_METADATA_ELEMENTS)
    found: list[str] = []
    inside = False

    def start(element: str, facts: dict[str, str]) -> None:
        nonlocal inside
        inside = not found and _full(element) == name
        found.extend(value for key, value in facts.items() if not found and _full(key) == name)

    def end(element: str) -> None:
        nonlocal inside
        inside = False

    def text(part: str) -> None:
        if inside:
            found.append(part)

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.Parse(data, True)
    return "".join(found)


def _parser(data: bytes, what: str, most: int) -> expat.XMLParserType:
    """A parser for an XML text that has no document type and at most so many elements and attributes. FileError.

    A document type is where entities are declared, which make a short text huge or read other files. What is counted are
    the signs with which elements and attributes begin: there may be a few more of them, and nothing has to be parsed.
    """
    if data.count(b"<") + len(re.findall(rb"=[\s\0]*[\"']", data)) > 2 * most:
        raise FileError(f"{what} has more than {most} elements and attributes, more than a layered image needs. Save it again, "
                        "or without its history.")

    def refuse(*_: object) -> None:
        raise FileError(f"{what} has a document type declaration, which is not allowed. Save it again.")

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartDoctypeDeclHandler = refuse
    return parser


def _full(name: str) -> str:
    return "{" + name if "}" in name else name


def file_beside(folder: Path, name: str) -> Path:
    """The file of that name in the folder. FileError for a name that is not a plain one or a link that leads out."""
    path = folder / name
    if set(name) & set('/\\:\0') or name in ("", ".", "..") or path.resolve().parent != folder.resolve():
        raise FileError(f"The file name {name[:SHOWN]!r} is not allowed: only files in the same folder are read.")
    return path


def read_png(source: IO[bytes], what: str, limits: Limits) -> tuple[Tensor, Tensor]:
    """A PNG as a layer's tensors: image [1,H,W,3], straight colours 0..1, and coverage [1,H,W], 0..1, 1 = opaque.

    source: open for reading, at its beginning. The picture's size counts against the limits before anything is unpacked.
    Sixteen bits become eight. FileError says what is wrong with `what`.
    """
    with reading(what):
        with Image.open(source, formats=["PNG"]) as picture:
            width, height = picture.size
            limits.layer(width, height)
            picture.verify()  # every check sum, which reading the pixels does not look at; the picture is used up by it
        source.seek(0)
        image, coverage = torch.empty(1, height, width, 3), torch.empty(1, height, width)
        rows = max(1, BAND // width)
        with Image.open(source, formats=["PNG"]) as picture:
            for top in range(0, height, rows):
                bottom = min(top + rows, height)
                band = picture.crop((0, top, width, bottom))
                if band.mode.startswith("I"):
                    band = Image.fromarray((np.asarray(band) >> 8).astype(np.uint8))
                rgba = torch.from_numpy(np.array(band.convert("RGBA")))
                torch.div(rgba[..., :3], 255, out=image[0, top:bottom])
                torch.div(rgba[..., 3], 255, out=coverage[0, top:bottom])
        return image, coverage
