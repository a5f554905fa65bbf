"""Files appear completely or not at all: on a full disk, after an interrupt, with names that are not allowed."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from layerdiff_core import checkpoint, whole
from layerdiff_core.export import file_part, save_layers
from layerdiff_core.files.animation import write_animation
from layerdiff_core.files.ora import read_ora, write_ora
from layerdiff_core.files.png_folder import INDEX, read_png_folder, write_png_folder
from layerdiff_core.files.psd import read_psd, write_psd
from tests.documents import mixed_document, same

DOCUMENT = mixed_document(4)
ADAPTER = checkpoint.Header("layerdiff", "adapter", {}, 0, "", "", "")


def adapter(path: Path) -> None:
    checkpoint.write(path, ADAPTER, {"unet.a": torch.ones(1000)})


WRITERS: dict[str, Callable[[Path], object]] = {
    "psd": lambda path: write_psd(DOCUMENT, path, {}), "ora": lambda path: write_ora(DOCUMENT, path, {}),
    "png folder": lambda path: write_png_folder(DOCUMENT, path, {}),
    "animation": lambda path: write_animation(DOCUMENT, path, {}),
    "layers": lambda path: save_layers(DOCUMENT, path.parent, path.name, {}), "adapter": adapter,
    "text": lambda path: whole.write_text(path, "x" * 1000),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    full_disk = pytest.importorskip("tests.full_disk", reason="needs limits of the system that Windows has not").full_disk
    path = tmp_path / "sub" / "out"
    words = "could not be written to .*sub.*The disk is full.*Free some space"
    with full_disk(), pytest.raises(RuntimeError, match=words) as caught:
        WRITERS[kind](path)
    assert "Errno" not in str(caught.value)
    assert list(path.parent.iterdir()) == []
    WRITERS[kind](path)
    assert len(list(path.parent.iterdir())) == (5 if kind == "layers" else 1)


@pytest.mark.parametrize("kind", ["text", "adapter"])
def test_what_was_there_stays_where_writing_fails(tmp_path: Path, kind: str) -> None:
    full_disk = pytest.importorskip("tests.full_disk", reason="needs limits of the system that Windows has not").full_disk
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with full_disk(), pytest.raises(RuntimeError):
        WRITERS[kind](path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    WRITERS[kind](path)
    assert path.read_bytes() != b"before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_interrupt_goes_through_and_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error, match="stop"), whole.whole(tmp_path / "file") as part:
        part.write_bytes(b"half")
        raise error("stop")
    with pytest.raises(error, match="stop"), whole.whole_set(tmp_path) as part:
        (part / "file").write_bytes(b"half")
        raise error("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_cannot_be_put_in_place_leaves_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(RuntimeError, match="The files could not be written"), whole.whole_set(tmp_path) as part:
        for name in "abc":
            (part / name).write_bytes(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_name_that_is_too_long_is_told(tmp_path: Path, kind: str) -> None:
    with pytest.raises(RuntimeError, match="could not be written.*The name is too long.*85 Chinese") as caught:
        WRITERS[kind](tmp_path / ("猫" * 90))
    assert "Errno" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["猫" * 90, "🦊" * 40, "x" * 300])
def test_a_layers_name_fits_into_a_file_name_of_any_script(tmp_path: Path, name: str) -> None:
    assert len(file_part(name).encode()) <= 80 and name.startswith(file_part(name).strip("-"))
    document = mixed_document(1)
    document = type(document)([document.layers[0].with_pixels(torch.rand(1, 4, 4, 3), torch.ones(1, 4, 4), name=name)], (4, 4))
    assert len(save_layers(document, tmp_path, "p" * 150 + "_00001", {})) == 2
    write_png_folder(document, tmp_path / "out", {})
    assert read_png_folder(tmp_path / "out" / INDEX).layers[0].name == name


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the system lets everyone write everywhere")
def test_a_folder_that_is_write_protected_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RuntimeError, match="Permission denied: the folder is write-protected"):
        adapter(tmp_path / "a.safetensors")


def test_what_a_kill_left_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, older, fresh = (tmp_path / f"{whole.MARK}{name}{whole.ENDING}" for name in ("old", "older", "fresh"))
    old.write_bytes(b"half")
    older.mkdir()
    (older / INDEX).write_bytes(b"{")
    fresh.write_bytes(b"somebody is writing")
    for path in (old, older):
        os.utime(path, (time.time() - 2 * whole.STALE_SECONDS,) * 2)
    other = tmp_path / "notes.part"
    other.write_bytes(b"the user's own")
    os.utime(other, (0, 0))
    WRITERS["text"](tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {fresh.name, "out", "notes.part"}
    assert all(map(whole.is_unfinished, (fresh, older / INDEX))) and not whole.is_unfinished(other)


def test_files_are_written_over_and_read_back(tmp_path: Path) -> None:
    for name, write, read in (("a.psd", write_psd, read_psd), ("a.ora", write_ora, read_ora)):
        write(mixed_document(2), tmp_path / name, {})
        write(DOCUMENT, tmp_path / name, {})
        same(DOCUMENT, read(tmp_path / name))
    assert {path.name for path in tmp_path.iterdir()} == {"a.psd", "a.ora"}
