"""Nodes that write files: on a full disk, after a process was killed, and with names that are not allowed."""

from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import pytest
import torch
from comfy_api.latest import io
from PIL import Image

from layerdiff_core.checkpoint import Header
from layerdiff_core.whole import ENDING, MARK
from tests.documents import mixed_document

UNFINISHED = f"{MARK}0a1b2c3d{ENDING}"
FORMATS = ["psd", "ora", "png folder", "animation"]


@pytest.fixture
def place(pack: ModuleType, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with output, temp and input of ComfyUI's, and the folder of models."""
    for name in ("output", "temp", "input"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "layered_models", ([str(tmp_path / "models")], {".safetensors"}))
    folder_paths.filename_list_cache.pop("layered_models", None)
    return tmp_path


def full_disk() -> Any:
    return pytest.importorskip("tests.full_disk", reason="needs limits of the system that Windows has not").full_disk()


def ready(node: Any) -> Any:
    return node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.prompt: {}, io.Hidden.extra_pnginfo: None}})


def export(pack: ModuleType, format: str = "psd", prefix: str = "x") -> list[str]:
    node = ready(pack.nodes.exchange.LayerDiffExportLayers)
    output = node.execute(mixed_document(4).to_socket(), prefix, format, False, "display")
    return [file["filename"] for file in output.ui["files"]]


def save(pack: ModuleType, prefix: str = "x") -> list[str]:
    node = ready(pack.nodes.save.LayerDiffSaveLayers)
    return [file["filename"] for file in node.execute(mixed_document(4).to_socket(), prefix, "display").ui["images"]]


def create(pack: ModuleType, name: str) -> str:
    return pack.nodes.train.LayerDiffCreateAdapter.execute(None, name, 0).args[0]


@pytest.mark.parametrize("format", FORMATS)
def test_export_on_a_full_disk(pack: ModuleType, place: Path, format: str) -> None:
    # First there is no space for the panel's images, then, once they exist, for the file.
    with full_disk(), pytest.raises(RuntimeError, match="The disk is full"):
        export(pack, format)
    assert not list(place.rglob("*.p*"))
    pack.nodes.host.panel.panel_ui(mixed_document(4), False)
    with full_disk(), pytest.raises(RuntimeError, match="x_00001_.*The disk is full"):
        export(pack, format)
    assert not list((place / "output").iterdir())
    assert {path.name for path in (place / "output").iterdir()} == set() != set(export(pack, format))


def test_save_on_a_full_disk(pack: ModuleType, place: Path) -> None:
    with full_disk(), pytest.raises(RuntimeError, match="The disk is full"):
        save(pack)
    assert not list((place / "output").iterdir())
    assert len(save(pack)) == 5 == len(list((place / "output").glob("x_00001_*.png")))


def test_a_picture_of_the_panel_that_could_not_be_written_is_written_the_next_time(pack: ModuleType, place: Path) -> None:
    document = mixed_document(2)
    with full_disk(), pytest.raises(RuntimeError, match="The disk is full"):
        pack.nodes.host.panel.panel_ui(document, False)
    (payload,) = pack.nodes.host.panel.panel_ui(document, False)["layer_panel"]
    for layer in payload["layers"]:
        for file in (layer["colour"], layer["coverage"]):
            with Image.open(place / "temp" / file["subfolder"] / file["filename"]) as picture:
                picture.load()


def test_an_adapter_on_a_full_disk(pack: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = Header("layerdiff", "adapter", {}, 0, "", "", "")
    monkeypatch.setattr(pack.nodes.train, "new_adapter", lambda model, seed: (header, {"unet.a": torch.ones(1000)}))
    with full_disk(), pytest.raises(RuntimeError, match="'new.safetensors' could not be written.*The disk is full"):
        create(pack, "new")
    assert not list((place / "models").iterdir())
    assert create(pack, "new") == "new.safetensors" and pack.nodes.host.folders.model_names() == ["new.safetensors"]


def test_what_is_unfinished_is_taken_for_nothing(pack: ModuleType, place: Path) -> None:
    exchange = pack.nodes.exchange
    for folder in ("output", "input"):
        unfinished = place / folder / UNFINISHED
        unfinished.mkdir(parents=True)
        for name in ("layers.json", "x.psd", "x_00007_.psd"):
            (unfinished / name).write_bytes(b"half")
    (place / "models").mkdir()
    (place / "models" / UNFINISHED).write_bytes(b"half")
    assert pack.nodes.host.folders.model_names() == []
    assert exchange._readable_files() == []
    assert "not a supported file" in exchange.LayerDiffImportLayers.validate_inputs(f"{UNFINISHED}/layers.json")
    assert export(pack) == ["x_00001_.psd"]


@pytest.mark.parametrize("name, words", [
    ("猫" * 90, "too long.*240 bytes.*80 Chinese"), ("x" * 241, "too long"), ("NUL", "device"), ("con", "device"),
    ("com1.safetensors", "device"), ("LPT9.old", "device"), ("aux ", "device"), ("a.", "period"),
    ("a.safetensors.", "period"),
    ("a .safetensors", "space"), (".hidden", "period"), ("", "empty"), ("  ", "empty"), ("a/b", "must not contain"),
    ("a\\b", "must not contain"), ("a:b", "must not contain"), ("a\0", "must not contain"), ("a\nb", "must not contain"),
    ("\ud800", "must not contain"),
])
def test_adapters_get_no_name_that_some_system_does_not_take(pack: ModuleType, place: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)is not a valid file name.*{words}") as caught:
        pack.nodes.host.folders.new_model_path(name)
    assert len(str(caught.value)) < 900


@pytest.mark.parametrize("name", ["猫" * 80, "x" * 240, "my adapter.v2", "console", "nul_1", "a.safetensors"])
def test_adapters_get_every_other_name(pack: ModuleType, place: Path, name: str) -> None:
    path = pack.nodes.host.folders.new_model_path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


@pytest.mark.parametrize("prefix, words", [
    ("猫" * 90, "name is too long"), ("9" * 5000, "name is too long"), ("猫" * 90 + "/x", "Cannot save files.*name is too long"),
    ("", "does not contain a file name"), ("sub/", "does not contain a file name"), (".", "does not contain a file name"),
    ("\ud800", "Cannot save files.*not allowed in file names"), ("a\0", "not allowed in file names"),
    ("sub\0/x", "not allowed in file names"),
])
def test_prefixes_that_make_no_name(pack: ModuleType, place: Path, prefix: str, words: str) -> None:
    for write in (export, save):
        with pytest.raises((ValueError, RuntimeError), match=words) as caught:
            write(pack, prefix=prefix)
        assert "Errno" not in str(caught.value)
    assert not [path for path in (place / "output").rglob("*") if path.is_file()]


def test_the_longest_prefix_counts_up(pack: ModuleType, place: Path) -> None:
    assert [save(pack, "猫" * 50)[0][51:56] for _ in range(2)] == ["00001", "00002"]


def test_no_file_is_written_over(pack: ModuleType, place: Path) -> None:
    names = [export(pack, "ora", prefix) for prefix in ("x", "x", "sub/x", "./x", "sub//x")]
    assert names == [["x_00001_.ora"], ["x_00002_.ora"], ["x_00001_.ora"], ["x_00003_.ora"], ["x_00002_.ora"]]
