"""Reads untrusted files: limits their unpacked size, and checks archives, XML, file names and PNG files."""

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
"""Limit for all layers of a file together, and for its canvas. A pixel of a layer takes 16 bytes, so memory stays below 1 GB."""

MAX_TEXT = 2 << 20
"""Maximum size in bytes of the XML or JSON that describes a file's layers. Metadata such as a workflow is stored elsewhere."""

MAX_ELEMENTS, MAX_METADATA_ELEMENTS = 20_000, 300_000
"""Maximum number of elements and attributes in XML that describes layers, and in XML metadata, where Photoshop may list every
image that was ever in the file. A few bytes in a file take hundreds in memory."""

MAX_MEMBERS, MAX_UNPACKED = 1000, 1 << 30
"""Limits for an archive: its members, and the unpacked bytes they declare. Images are unpacked band by band."""

BAND = 1 << 20
"""Pixels converted to floating point at a time."""


SHOWN = 200
"""The maximum number of characters from a file or a parser shown in a message."""


class FileError(ValueError):
    """An error in a file, with a message for the user."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn any error while reading `what` (the file's name for the user) into a FileError that names it.

    A FileError passes through unchanged. All errors are caught, because parsers fail on damaged data with errors of every
    kind, from struct.error to RecursionError.
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
    """Counts what a file unpacks to against the limits. file: its name, for the messages."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.layers = 0
        self.pixels = 0

    def canvas(self, width: int, height: int) -> None:
        """FileError unless each side of the canvas has 1 to 16384 pixels and the canvas at most 30 million."""
        self._sides("the canvas", width, height)
        self._pixels("its canvas", width * height)

    def layer(self, width: int, height: int) -> None:
        """Count a layer before its pixels are unpacked. FileError if it or all layers together exceed the limits."""
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
    """FileError if an archive has unsafe or duplicate names, encrypted members, or would unpack to more than the limit.

    archive: open for reading; nothing is unpacked here. file: its name, for the messages.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise FileError(f"{file} contains {len(members)} files; at most {MAX_MEMBERS} are supported. It is not a layered image.")
    names = [member.filename for member in members]
    for name in names:
        # A leading slash, as written by pyora, is harmless, because nothing is ever unpacked to disk.
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
    """Read a text file or archive member that describes layers. FileError if it is longer than 2 MB."""
    data = source.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise FileError(f"{what} is longer than {MAX_TEXT >> 20} MB. It is not a description of layers.")
    return data


def parse_xml(data: bytes, what: str) -> Element:
    """Parse XML and return the root element. Names with a namespace become '{namespace}name'.

    FileError if it has a document type declaration, or more than 20,000 elements and attributes.
    """
    builder, parser = TreeBuilder(), _parser(data, what, MAX_ELEMENTS)
    parser.StartElementHandler = lambda name, facts: builder.start(_full(name), {_full(k): v for k, v in facts.items()})
    parser.CharacterDataHandler = builder.data
    parser.EndElementHandler = lambda name: builder.end(_full(name))
    parser.Parse(data, True)
    return builder.close()


def find_property(data: bytes, what: str, name: str) -> str:
    """The first attribute or element text with a name ('{namespace}name') in XML metadata, "" if there is none.

    Builds no tree. FileError if it has a document type declaration, or more than 300,000 elements and attributes.
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
    """A parser for XML without a document type and with at most `most` elements and attributes. FileError otherwise.

    A document type can declare entities, which can expand a short text enormously or read other files. The count is of the
    characters that begin elements and attributes, which may overestimate a little but needs no parsing.
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
    """The file with this name in the folder. FileError if the name is not a plain file name or is a link to another folder."""
    path = folder / name
    if set(name) & set('/\\:\0') or name in ("", ".", "..") or path.resolve().parent != folder.resolve():
        raise FileError(f"The file name {name[:SHOWN]!r} is not allowed: only files in the same folder are read.")
    return path


def read_png(source: IO[bytes], what: str, limits: Limits) -> tuple[Tensor, Tensor]:
    """Read a PNG as an image [1,H,W,3], straight colours 0..1, and coverage [1,H,W], 0..1, 1 = opaque.

    source: open for reading, at its beginning. The image's size is counted against the limits before anything is unpacked.
    16 bits become 8. FileError if it is not a valid PNG. what: its name, for the messages.
    """
    with reading(what):
        with Image.open(source, formats=["PNG"]) as picture:
            width, height = picture.size
            limits.layer(width, height)
            picture.verify()  # checks all checksums, which decoding does not; the object cannot be used afterwards
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
