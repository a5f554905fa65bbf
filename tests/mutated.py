"""Damages layered files in many ways, reads each of them, and prints the results as JSON.

Run as `python -m tests.mutated FOLDER` in a process of its own, so that its memory is that of the readers alone.
"""

import io
import json
import random
import re
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from PIL import Image

from layerdiff_core.files.ora import read_ora, write_ora
from layerdiff_core.files.png_folder import INDEX, read_png_folder, write_png_folder
from layerdiff_core.files.psd import read_psd, write_psd
from layerdiff_core.layers import Document
from tests.documents import mixed_document, same

SMALL = mixed_document(4, side=24)
FILES = {"psd": "a.psd", "ora": "a.ora", "png": INDEX}
READERS: dict[str, Callable[[Path], Document]] = {"psd": read_psd, "ora": read_ora, "png": read_png_folder}
WILD_NUMBERS = ["0", "-1", "16384", "16385", "2147483648", "99999999999999999999", "1e308", "nan", "-inf", "", "x", "0.5"]
WILD_NAMES = ["../evil.png", "/evil.png", "..\\evil.png", "C:\\evil.png", "a/../../evil.png", "", "\0", "evil\0.png", "x" * 5000]
Case = tuple[str, str, bytes | dict[str, bytes], bool]
"""Which reader, what was done, the bytes (or, by name, the files of a folder), and whether what can be read must be the
image as it was, since the format has check sums."""


def damage(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """The bytes with one random defect."""
    place = chance.randrange(len(data))
    length = chance.choice([1, 4, 30, 300])
    kind = chance.choice(["cut off", "flip", "flip many", "zeros", "number", "insert", "remove", "repeat"])
    if kind == "cut off":
        return kind, data[:place]
    if kind.startswith("flip"):
        wounded = bytearray(data)
        for _ in range(1 if kind == "flip" else 20):
            wounded[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return kind, bytes(wounded)
    number = struct.pack(chance.choice([">I", "<I", ">H"]), chance.choice([0, 1, 0x7FFF, 0xFFFF]))
    filling = {"zeros": bytes(length), "number": number, "insert": chance.randbytes(length), "remove": b"",
               "repeat": data[place : place + length] * 2}[kind]  # fmt: skip
    skipped = {"insert": 0, "number": len(number)}.get(kind, length)
    return kind, data[:place] + filling + data[place + skipped :]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes, extra: bytes = b"", depth: int = 8, colour: int = 6) -> bytes:
    """A PNG whose parts need not agree, with sound check sums."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def strange_pngs() -> Iterator[tuple[str, bytes]]:
    body = bytes(24 * (1 + 24 * 4))
    for width, height in [(0, 24), (24, 0), (2**31 - 1, 1), (2**31, 2**31), (16385, 1), (16384, 16384), (25, 24), (24, 2400)]:
        yield f"size {width} x {height}", png(width, height, body)
    for depth, colour in [(16, 6), (8, 2), (8, 3), (1, 0), (3, 6), (8, 5), (16, 0)]:
        yield f"depth {depth}, colour {colour}", png(24, 24, body, depth=depth, colour=colour)
    yield "too much data", png(24, 24, bytes(20 << 20))
    yield "too little data", png(24, 24, body[:-500])
    yield "unknown filters", png(24, 24, b"\xff" * len(body))
    yield "text bomb", png(24, 24, body, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20 << 20))))
    yield "many texts", png(24, 24, body, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))) * 70)
    yield "profile bomb", png(24, 24, body, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(20 << 20))))
    yield "palette", png(24, 24, body, chunk(b"PLTE", b"abcd"), colour=3)
    yield "frames", png(24, 24, body, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))
    yield "long chunk", png(24, 24, body).replace(struct.pack(">I", 13) + b"IHDR", struct.pack(">I", 2**31) + b"IHDR")


def repacked(data: bytes, changes: dict[str, bytes | None], packing: int = ZIP_DEFLATED) -> bytes:
    """A zip archive with members replaced, added or (None) left out, its sums sound."""
    target = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as old, ZipFile(target, "w", packing) as new:
        members: dict[str, bytes | None] = {name: old.read(name) for name in old.namelist()} | changes
        for name, content in members.items():
            if content is not None:
                new.writestr(name, content)
    return target.getvalue()


def wilder(text: str, chance: random.Random) -> str:
    """A text in which a number, or what stands in quotes, became something wild."""
    numbers = [*re.finditer(r'(?<=[" \[])-?[\d.]+(?=[",\]])', text)]
    strings = [*re.finditer(r'(?<=")[^"<>]+(?=")', text)]
    spot = chance.choice(numbers if chance.random() < 0.6 else strings)
    return text[: spot.start()] + chance.choice(WILD_NUMBERS + WILD_NAMES[:5]) + text[spot.end() :]


def ora_cases(data: bytes, folder: Path, chance: random.Random) -> Iterator[Case]:
    for _ in range(90):
        yield "ora", *damage(data, chance), True
    with ZipFile(io.BytesIO(data)) as archive:
        stack, picture = archive.read("stack.xml").decode(), archive.read("data/layer01.png")
    for _ in range(60):
        yield "ora", "stack.xml", repacked(data, {"stack.xml": wilder(stack, chance).encode()}), False
    for _ in range(15):
        yield "ora", "picture", repacked(data, {"data/layer01.png": damage(picture, chance)[1]}), True
    for what, strange in strange_pngs():
        yield "ora", what, repacked(data, {"data/layer01.png": strange}), False
    for name in [*WILD_NAMES, str(folder / "evil.png")]:
        if name.strip("\0"):  # the archive cannot hold the others
            yield "ora", "member's name", repacked(data, {name: picture}), False
    nested = stack.replace("<stack>", "<stack>" * 20_000).replace("</stack>", "</stack>" * 20_000)
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "a"}">' for n in range(10))
    yield "ora", "deep groups", repacked(data, {"stack.xml": nested.encode()}), False
    yield "ora", "entities", repacked(data, {"stack.xml": f"<!DOCTYPE a [{entities}]><image>&a9;</image>".encode()}), False
    yield "ora", "text bomb", repacked(data, {"stack.xml": bytes(40 << 20)}), False
    yield "ora", "many members", repacked(data, {f"{number}": b"" for number in range(2000)}), False
    layers = stack.replace("</stack>", "<layer src='data/layer01.png'/>" * 99 + "</stack>")
    yield "ora", "99 layers", repacked(data, {"stack.xml": layers.encode()}), False
    for left_out in ("stack.xml", "data/layer02.png"):
        yield "ora", f"no {left_out}", repacked(data, {left_out: None}), False
    for left_out in ("mimetype", "mergedimage.png"):
        yield "ora", f"no {left_out}", repacked(data, {left_out: None}), True
    yield "ora", "as large as allowed", repacked(data, {"data/layer01.png": largest_png()}), False


def png_cases(files: dict[str, bytes], folder: Path, chance: random.Random) -> Iterator[Case]:
    index = json.loads(files[INDEX])
    first = index["layers"][0]["file"]
    for _ in range(60):
        yield "png", "picture", files | {first: damage(files[first], chance)[1]}, True
    for _ in range(30):
        yield "png", "index", files | {INDEX: damage(files[INDEX], chance)[1]}, False
    for _ in range(60):
        yield "png", "index", files | {INDEX: wilder(files[INDEX].decode(), chance).encode()}, False
    for what, strange in strange_pngs():
        yield "png", what, files | {first: strange}, False
    for name in [*WILD_NAMES, str(folder / "evil.png"), first + "/", "./" + first]:
        changed = index | {"layers": [index["layers"][0] | {"file": name}]}
        yield "png", "file's name", files | {INDEX: json.dumps(changed).encode()}, False


def psd_cases(data: bytes, chance: random.Random) -> Iterator[Case]:
    for _ in range(170):
        yield "psd", *damage(data, chance), False
    header = {(4, ">H"): [0, 2, 9], (12, ">H"): [0, 2, 57], (14, ">I"): [0, 16385, 300_000, 2**32 - 1],
              (18, ">I"): [0, 16385, 300_000], (22, ">H"): [0, 1, 7, 16, 32], (24, ">H"): [0, 1, 2, 4, 9, 99]}  # fmt: skip
    for (place, form), numbers in header.items():
        for number in numbers:
            wounded = bytearray(data)
            struct.pack_into(form, wounded, place, number)
            yield "psd", f"header {place} = {number}", bytes(wounded), False
    # Colour mode data, resources and layers each begin with their length; the layers' count and boxes follow.
    resources = 26 + 4
    layers = resources + 4 + int.from_bytes(data[resources : resources + 4], "big")
    for place in (26, resources, layers, layers + 4):
        for number in (0, 1, 2**31 - 1, 2**32 - 1):
            yield "psd", "section's length", data[:place] + struct.pack(">I", number) + data[place + 4 :], False
    for count in (0, 1, 3, 5, 51, 32767, -1, -32768):
        yield "psd", "layer count", data[: layers + 8] + struct.pack(">h", count) + data[layers + 10 :], False
    for place in range(layers + 10, layers + 26, 4):
        for number in (-(2**31), -1, 16385, 2**31 - 1):
            yield "psd", "layer's box", data[:place] + struct.pack(">i", number) + data[place + 4 :], False
    yield "psd", "as large as allowed", largest_psd(), False


def largest_png() -> bytes:
    """An image that leaves just enough of the allowance for the small document's other layers."""
    data = io.BytesIO()
    Image.new("RGBA", (8192, 3661)).save(data, "PNG", compress_level=1)
    return data.getvalue()


def largest_psd() -> bytes:
    """One layer of all pixels that are allowed, packed."""
    width, height = 8192, 3662
    rows = struct.pack(">H", width // 64) * height + b"\x81\0" * (width // 128 * height)
    channels = [(number, b"\0\1" + rows) for number in (-1, 0, 1, 2)]
    record = struct.pack(">4iH", 0, 0, height, width, len(channels))
    record += b"".join(struct.pack(">hI", number, len(packed)) for number, packed in channels)
    record += b"8BIMnorm\xff\0\0\0" + struct.pack(">I", 12) + bytes(12)
    info = struct.pack(">h", 1) + record + b"".join(packed for _, packed in channels)
    layers = struct.pack(">I", len(info)) + info + bytes(4)
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, height, width, 8, 3)
    return header + bytes(8) + struct.pack(">I", len(layers)) + layers + b"\0\1" + struct.pack(">H", 128) * height * 3


class Watch:
    """Collects everything that this process opens for writing or creates while active."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self.look)

    def look(self, event: str, facts: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(facts[1], str) and set(facts[1]) & set("wax+"):
            self.seen.append(f"open {facts[0]}")
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link", "subprocess.Popen", "os.system"):
            self.seen.append(f"{event} {facts}")


def peak_memory() -> int:
    """The most bytes that this process ever held. (Linux lets ru_maxrss begin with those of the process that started it.)"""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    assert found
    return 1024 * int(found[1])


def main(folder: Path) -> None:
    """Write sound files, read them damaged, and print what came of it."""
    chance = random.Random(4)
    write_psd(SMALL, folder / "a.psd", {"prompt": "{}"})
    write_ora(SMALL, folder / "a.ora", {"prompt": "{}"})
    write_png_folder(SMALL, folder / "sound", {"prompt": "{}"})
    sound = {path.name: path.read_bytes() for path in (folder / "sound").iterdir()}
    cases = [psd_cases((folder / "a.psd").read_bytes(), chance),
             ora_cases((folder / "a.ora").read_bytes(), folder, chance),
             png_cases(sound, folder, chance)]  # fmt: skip
    watch, counts, problems, slowest = Watch(), Counter[str](), list[str](), 0.0
    damaged = folder / "damaged"
    damaged.mkdir()
    before = peak_memory()
    for reader, what, content, checked in (case for some in cases for case in some):
        files = content if isinstance(content, dict) else {FILES[reader]: content}
        for name, data in files.items():
            (damaged / name).write_bytes(data)
        started = time.process_time()
        watch.on = True
        try:
            doc = READERS[reader](damaged / FILES[reader])
        except ValueError as error:
            counts[f"{reader} refused"] += 1
            words = str(error)
            if not words.isprintable() or not words.endswith(".") or not 6 <= len(words.split()) <= 80 or len(words) > 600:
                problems.append(f"{reader}, {what}: the words {words!r}")
        except BaseException as error:
            problems.append(f"{reader}, {what}: {type(error).__name__}: {error}")
        else:
            counts[f"{reader} read"] += 1
            try:
                doc.check_finite()
                assert np.prod(doc.canvas) < 40e6
                assert sum(layer.image[0, ..., 0].numel() for layer in doc.layers) < 40e6
                if checked:
                    same(SMALL, doc)
            except (AssertionError, ValueError) as error:
                problems.append(f"{reader}, {what}: read, but not right: {error}")
            del doc
        watch.on = False
        slowest = max(slowest, time.process_time() - started)
        for name in files:
            (damaged / name).unlink()
    rise = peak_memory() - before
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    print(json.dumps({"counts": counts, "problems": problems, "written": watch.seen, "rise_bytes": rise,
                      "slowest_seconds": round(slowest, 2), "left": left}))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
