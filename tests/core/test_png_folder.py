"""The folder of PNG files and its layers.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from layerdiff_core.composite import composite
from layerdiff_core.files.png_folder import INDEX, read_png_folder, write_png_folder
from layerdiff_core.layers import make_document
from tests.documents import mixed_document


def write(folder: Path, canvas: Any = (4, 4), layers: Any = ({"file": "a.png"},), **more: Any) -> Path:
    """A folder written by hand, with a.png of 3 x 2 in it. Returns its layers.json."""
    folder.mkdir(exist_ok=True)
    Image.new("RGBA", (3, 2), (255, 0, 0, 255)).save(folder / "a.png")
    index = {"format": "layers-png", "version": 1, "canvas": canvas, "layers": layers} | more
    (folder / INDEX).write_text(json.dumps(index), "utf-8")
    return folder / INDEX


def test_the_folder_holds_a_picture_for_each_layer_and_the_index(tmp_path: Path) -> None:
    doc = mixed_document()
    text = {"prompt": json.dumps({"1": "ä"}), "workflow": "{}"}
    write_png_folder(doc, tmp_path / "out", text)
    index = json.loads((tmp_path / "out" / INDEX).read_text("utf-8"))
    assert index.keys() == {"format", "version", "canvas", "composite", "colour_space", "layers"}
    assert index["canvas"] == [40, 33]
    files = [entry["file"] for entry in index["layers"]]
    assert files[:3] == ["00_background.png", "01_Katze-im-Regen.png", "02_猫.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*files, "composite.png", INDEX])
    for entry, layer in zip(index["layers"], doc.layers):
        assert {key: entry[key] for key in entry if key != "file"} == {
            key: getattr(layer, key) for key in ("name", "x", "y", "opacity", "blend_mode", "visible")
        }
        with Image.open(tmp_path / "out" / entry["file"]) as picture:
            assert picture.mode == "RGBA" and picture.size == (layer.w, layer.h) and picture.text == text
    with Image.open(tmp_path / "out" / "composite.png") as picture:
        assert np.abs(np.asarray(picture)[..., :3] / 255 - composite(doc)[0][0].numpy()).max() <= 0.51 / 255


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    doc = make_document(torch.rand(1, 4, 4, 3), torch.ones(1, 4, 4), ["cat"])
    with pytest.raises(FileExistsError):
        write_png_folder(doc, tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_what_a_handwritten_index_leaves_out_gets_its_default(tmp_path: Path) -> None:
    doc = read_png_folder(write(tmp_path / "in", layers=[{"file": "a.png"}, {"file": "a.png", "x": 1, "name": "cat"}]))
    asked = ("name", "x", "y", "w", "h", "opacity", "blend_mode", "visible")
    facts = [[getattr(layer, field) for field in asked] for layer in doc.layers]
    assert facts == [["Layer 1", 0, 0, 3, 2, 1.0, "normal", True], ["cat", 1, 0, 3, 2, 1.0, "normal", True]]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "..", ".", "", "C:secret.png", "sub/a.png", "sub\\a.png", "a\0.png", "link.png"]
)
def test_only_files_beside_the_index_are_read(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="is not allowed"):
        read_png_folder(write(tmp_path / "in", layers=[{"file": name}]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "other"}, "not a list of layers"),
        ({"version": 2}, "not a list of layers"),
        ({"canvas": [0, 4]}, "canvas is 0 x 4"),
        ({"canvas": [16384, 16384]}, "too large: its canvas would need 268 million"),
        ({"canvas": 7}, "cannot be read"),
        ({"canvas": [float("nan"), 4]}, "canvas is nan x 4"),
        ({"layers": []}, "0 layers"),
        ({"layers": 3}, "cannot be read"),
        ({"layers": [[]]}, "cannot be read"),
        ({"layers": [{}]}, "cannot be read.*'file'"),
        ({"layers": [{"file": 3}]}, "cannot be read"),
        ({"layers": [{"file": "b.png"}]}, "b.png beside layers.json is missing"),
        ({"layers": [{"file": INDEX}]}, "layers.json beside layers.json cannot be read"),
        ({"layers": [{"file": "a.png"}] * 51}, "more than 50 layers"),
        ({"layers": [{"file": "a.png", "opacity": 2}]}, "opacity 2"),
        ({"layers": [{"file": "a.png", "blend_mode": "dissolve"}]}, "Unknown blend mode 'dissolve'"),
        ({"layers": [{"file": "a.png", "name": 3}]}, "name 3"),
        ({"layers": [{"file": "a.png", "x": float("inf")}]}, "x = inf"),
    ],
)
def test_an_unsound_index_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_png_folder(write(tmp_path / "in", **fields))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000, b" " * (17 << 20)])
def test_an_index_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / INDEX).write_bytes(data)
    with pytest.raises(ValueError, match="layers.json (cannot be read|is not a list of layers|is longer than 2 MB)"):
        read_png_folder(tmp_path / INDEX)


@pytest.mark.parametrize("path", ["gone/layers.json", "."])
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="is missing|cannot be read"):
        read_png_folder(tmp_path / path)
