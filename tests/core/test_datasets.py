"""Data sets of layered scenes: what is saved comes back, what is damaged is set aside with the reason, and the rest is kept."""

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from layerdiff_core.composite import composite
from layerdiff_core.datasets.appending import append
from layerdiff_core.datasets.dataset import SHEET_SIDE, Dataset, remarks, sheet
from layerdiff_core.datasets.sample import FORMAT, carried_prompts, pack, unpack
from layerdiff_core.datasets.shards import SHARD_BYTES, read_index, write_shard
from layerdiff_core.files.safe import FileError
from layerdiff_core.layers import Document
from tests.datasets import SIDE, png, scene, tar
from tests.documents import alter, mixed_document


def members(number: int = 0, **facts: Any) -> dict[str, bytes]:
    """A packed scene with some of its facts changed; None removes one."""
    packed = pack(scene(number))
    changed = {**json.loads(packed["json"]), **facts}
    return packed | {"json": json.dumps({name: value for name, value in changed.items() if value is not None}).encode()}


def shard(path: Path, samples: dict[str, dict[str, bytes]]) -> None:
    tar(path, {f"{key}.{extension}": data for key, parts in samples.items() for extension, data in parts.items()})


class TestSample:
    def test_comes_back_to_the_bit(self) -> None:
        sample = scene(3)
        again = unpack(pack(sample), "it")
        for name in ("prompt", "layer_prompts", "source", "licence", "scores", "complete"):
            assert getattr(again, name) == getattr(sample, name), name
        for one, other in zip(composite(again.document), composite(sample.document)):
            assert torch.equal((one * 255).round(), (other * 255).round())
        assert [layer.name for layer in again.document.layers] == ["thing 0", "thing 1", "thing 2"]

    def test_layers_are_cropped_and_placed(self) -> None:
        facts = json.loads(pack(scene(0))["json"])
        assert facts["layers"][0]["box"] == [0, 0, SIDE, SIDE] and facts["layers"][1]["box"] == [6, 3, 16, 13]

    def test_any_document_looks_the_same(self) -> None:
        document = mixed_document()
        alter(document, 2, rotation=0.4, flip_h=True, w=30, h=11)
        again = unpack(pack(replace(scene(0), document=document, layer_prompts=["x"] * 8)), "it").document
        for one, other in zip(composite(again), composite(document)):
            assert (one - other).abs().max() * 255 <= 2

    def test_prompts_go_with_the_layers(self) -> None:
        carried = Document.from_socket(scene(5).with_prompts().to_socket())
        assert carried_prompts(carried) == ("scene 5", ["a thing 0", "a thing 1", "a thing 2"])
        assert carried_prompts(scene(5).document) == ("", ["thing 0", "thing 1", "thing 2"])

    @pytest.mark.parametrize(("facts", "reason"), [
        ({"format": "other"}, FORMAT), ({"version": 2}, "version is 2"), ({"prompt": None}, "prompt is missing"),
        ({"canvas": [24, "x"]}, r"canvas is \[24, 'x'\]"), ({"canvas": [24, 0]}, "24 x 0"), ({"canvas": [16000, 16000]}, "large"),
        ({"scores": {"a": "good"}}, "scores is"), ({"licence": 5}, "licence is 5"),
        ({"scores": {"a": float("nan")}}, "scores is"),
        ({"layers": []}, r"layers is \[\]"), ({"layers": [3]}, "layer 0 is int"), ({"background_complete": 1}, "complete is 1"),
        ({"layers": [{"file": "00.png", "prompt": "x", "box": [0, 0, 9, 9]}]}, "9 x 9 pixels, and the PNG 24 x 24"),
        ({"layers": [{"file": "07.png", "prompt": "x", "box": [0, 0, 24, 24]}]}, "'07.png' is missing"),
        ({"layers": [{"file": "00.png", "box": [0, 0, 24, 24]}]}, "layer 0: prompt is missing"),
        ({"layers": [{"file": "00.png", "prompt": "x", "box": [0, 0, 24]}]}, "layer 0: box is"),
        ({"layers": [{"file": "00.png", "prompt": "x", "box": [0, 0, 24, 24], "opacity": 7}]}, "layer 0.*opacity"),
        ({"layers": [{"file": "00.png", "prompt": "x", "box": [0, 0, 24, 24]}] * 51}, "more than 50 layers"),
    ])  # fmt: skip
    def test_what_is_wrong_is_named(self, facts: dict[str, Any], reason: str) -> None:
        with pytest.raises(FileError, match=reason):
            unpack(members(**facts), "it")

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"5", b" " * (3 << 20)])
    def test_a_damaged_description(self, data: bytes) -> None:
        with pytest.raises(FileError, match="it.*json"):
            unpack(members() | {"json": data}, "it")

    def test_an_image_that_is_a_bomb(self) -> None:
        buffer = io.BytesIO()
        Image.new("L", (15000, 15000)).save(buffer, "PNG")
        with pytest.raises(FileError, match="large"):
            unpack(members() | {"00.png": buffer.getvalue()}, "it")

    def test_wrong_numbers_of_prompts_and_bad_values(self) -> None:
        with pytest.raises(ValueError, match="2 layer prompts for 3 layers"):
            pack(replace(scene(0), layer_prompts=["a", "b"]))
        sample = scene(0)
        alter(sample.document, 1, image=torch.full((1, SIDE, SIDE, 3), float("nan")))
        with pytest.raises(ValueError, match="thing 1.*not finite"):
            pack(sample)


class TestDataset:
    def test_pages_in_order_over_shards(self, tmp_path: Path) -> None:
        for part in range(3):
            shard(tmp_path / f"{part}.tar", {f"{part}{n}": pack(scene(10 * part + n)) for n in range(4)})
        steps: list[None] = []
        found = Dataset(tmp_path, lambda: steps.append(None))
        assert len(found) == 12 and not found.faults and len(steps) == 3
        samples, faults = found.page(1, 5)
        assert [sample.prompt for sample in samples] == [f"scene {n}" for n in (11, 12, 13, 20, 21)] and not faults
        assert [sample.prompt for sample in found.page(2, 5)[0]] == ["scene 22", "scene 23"]
        assert found.page(3, 5) == ([], [])

    def test_no_shards(self, tmp_path: Path) -> None:
        (tmp_path / ".layerdiff-12345678.part").write_bytes(b"")
        with pytest.raises(FileError, match="no .tar files"):
            Dataset(tmp_path)

    @pytest.mark.parametrize("name", ["../k.json", "/etc/k.json", "a/../../k.json", "c:\\k.json", ".json"])
    def test_hostile_names(self, tmp_path: Path, name: str) -> None:
        tar(tmp_path / "a.tar", {"good." + extension: data for extension, data in pack(scene(1)).items()} | {name: b"{}"})
        found = Dataset(tmp_path)
        assert [entry.key for entry in found.entries] == ["good"]
        assert ["leads to another folder" in fault.reason for fault in found.faults] == [True]

    @pytest.mark.parametrize("kind", [
        tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE])
    def test_links_and_devices(self, tmp_path: Path, kind: bytes) -> None:
        link = tarfile.TarInfo("bad.00.png")
        link.type, link.linkname = kind, "/etc/passwd"
        shard(tmp_path / "a.tar", {"good": pack(scene(1))})
        with tarfile.open(tmp_path / "a.tar", "a") as file:
            file.addfile(link)
        found = Dataset(tmp_path)
        assert [entry.key for entry in found.entries] == ["good"] and "plain files" in found.faults[0].reason

    @pytest.mark.parametrize("size", [1 << 40, -512])
    def test_sizes_that_lie(self, tmp_path: Path, size: int) -> None:
        shard(tmp_path / "a.tar", {"good": pack(scene(1))})
        lie = tarfile.TarInfo("bad.json")
        lie.pax_headers = {"size": str(size)}
        header = lie.tobuf(tarfile.PAX_FORMAT)
        data = (tmp_path / "a.tar").read_bytes().rstrip(b"\0")
        (tmp_path / "a.tar").write_bytes(data + b"\0" * (-len(data) % 512) + header)
        found = Dataset(tmp_path)
        assert [entry.key for entry in found.entries] == ["good"] and found.faults

    def test_a_shard_cut_anywhere_keeps_what_is_whole(self, tmp_path: Path) -> None:
        shard(tmp_path / "whole.tar", {f"{n}": pack(scene(n, 2)) for n in range(3)})
        data = (tmp_path / "whole.tar").read_bytes()
        (tmp_path / "whole.tar").unlink()
        ends = [max(offset + size for offset, size in entry.members.values()) for entry in _index(tmp_path, data)]
        for cut in range(1, len(data), 389):
            found = _cut(tmp_path, data[:cut])
            usable = [sample.prompt for sample in found.page(0, 9)[0]]
            finished = sum(end <= cut for end in ends)
            assert usable == [f"scene {n}" for n in range(finished)]
            if finished < 3 and cut > (ends[finished - 1] if finished else 0) + 1024:
                assert found.check()

    def test_changed_bytes_never_end_it(self, tmp_path: Path) -> None:
        shard(tmp_path / "a.tar", {f"{n}": pack(scene(n, 2)) for n in range(3)})
        data = bytearray((tmp_path / "a.tar").read_bytes())
        generator = torch.Generator().manual_seed(0)
        for _ in range(150):
            changed = bytearray(data)
            for place in torch.randint(len(data), (3,), generator=generator).tolist():
                changed[place] = int(torch.randint(256, (1,), generator=generator))
            for fault in _cut(tmp_path, bytes(changed)).check():
                assert str(fault).startswith("cut.tar")

    def test_two_samples_of_a_name(self, tmp_path: Path) -> None:
        for name, number in (("a.tar", 1), ("b.tar", 2)):
            shard(tmp_path / name, {"same": pack(scene(number))})
        found = Dataset(tmp_path)
        assert [sample.prompt for sample in found.page(0, 9)[0]] == ["scene 1"]
        assert str(found.faults[0]).startswith("b.tar, sample same: a.tar has a sample of the same name")

    def test_a_file_twice_and_a_sample_without_description(self, tmp_path: Path) -> None:
        tar(tmp_path / "a.tar", {"x.json": b"{}", "./x.json": b"{}", "y.00.png": png(), "folder/z.json": members()["json"]})
        found = Dataset(tmp_path)
        assert {fault.key: fault.reason for fault in found.faults} == {
            "x": "it has two files .json", "y": "it has no json. It is not a layered scene, or was cut off"}
        assert [entry.key for entry in found.entries] == ["folder/z"]

    def test_the_check_names_the_sample_and_what_a_training_will_not_like(self, tmp_path: Path) -> None:
        empty = scene(2)
        alter(empty.document, 1, coverage=torch.zeros(1, SIDE, SIDE))
        alter(empty.document, 0, coverage=torch.full((1, SIDE, SIDE), 0.5))
        shard(tmp_path / "a.tar", {"good": pack(scene(1)), "bad": members() | {"01.png": b"no"},
                                   "odd": pack(replace(empty, prompt="", layer_prompts=["a", " ", "c"]))})
        found = Dataset(tmp_path)
        assert [(fault.key, fault.usable) for fault in found.check()] == [("bad", False)] + [("odd", True)] * 4
        assert remarks(found.load(2)) == ["the prompt is empty", "the prompt of layer 1 is empty",
                                          "nothing is visible in layer 1", "the background has holes"]

    def test_statistics(self, tmp_path: Path) -> None:
        shard(tmp_path / "a.tar", {str(n): pack(scene(n, 2 + n % 2)) for n in range(4)} | {"bad": {"json": b"{}"}})
        figures = Dataset(tmp_path).statistics()
        assert figures["samples"] == 5 and figures["unreadable"] == 1 and figures["layers"] == {"2": 2, "3": 2}
        assert figures["canvases"] == {"24 x 24": 4} and figures["licences"] == {"CC0-1.0": 4}
        assert figures["scores"] == {"mask": 0.5015} and figures["layer_area"]["0"] == 1.0 > figures["layer_area"]["1"] > 0.1

    def test_sheet(self) -> None:
        picture = sheet([scene(0, 2), scene(1, 4, side=300)])
        side = SHEET_SIDE + 8
        assert picture.shape == (1, 2 * side + 8, 5 * side + 8, 3)
        assert torch.isfinite(picture).all() and picture[0, side + 20 :, 4 * side + 20 :].std() > 0.05


class TestAppend:
    def test_adds_once_and_keeps_the_rest(self, tmp_path: Path) -> None:
        folder = tmp_path / "new"
        keys = [append(folder, scene(n)) for n in (0, 1, 0, 2)]
        assert [added for _, added in keys] == [True, True, False, True] and keys[0][0] == keys[2][0]
        assert len(list(folder.iterdir())) == 1
        assert [sample.prompt for sample in Dataset(folder).page(0, 9)[0]] == ["scene 0", "scene 1", "scene 2"]

    def test_a_full_shard_is_followed_by_a_new_one(self, tmp_path: Path) -> None:
        append(tmp_path, scene(0))
        first = next(tmp_path.iterdir())
        with first.open("ab") as file:
            file.truncate(SHARD_BYTES + 1)
        append(tmp_path, scene(1))
        assert len(list(tmp_path.iterdir())) == 2 and len(Dataset(tmp_path)) == 2

    def test_the_shard_of_another_process_is_not_touched(self, tmp_path: Path) -> None:
        shard(tmp_path / "99990101-000000-aaaaaaaa.tar", {"x": pack(scene(5))})
        before = (tmp_path / "99990101-000000-aaaaaaaa.tar").read_bytes()
        append(tmp_path, scene(0))
        assert (tmp_path / "99990101-000000-aaaaaaaa.tar").read_bytes() == before and len(Dataset(tmp_path)) == 2

    @pytest.mark.skipif(os.name == "nt", reason="Windows does not lock what a reader has open in this way")
    def test_a_reader_keeps_what_it_has_open(self, tmp_path: Path) -> None:
        append(tmp_path, scene(0))
        found = Dataset(tmp_path)
        append(tmp_path, scene(1))
        assert found.load(0).prompt == "scene 0"


def test_the_reference_reader_reads_our_shards(tmp_path: Path) -> None:
    """The package webdataset, without its decoders."""
    webdataset = pytest.importorskip("webdataset")
    write_shard(tmp_path / "a.tar", [(f"k{n}", pack(scene(n))) for n in range(3)])
    write_shard(tmp_path / "b.tar", [("k3", pack(scene(3)))], tmp_path / "a.tar")
    found = list(webdataset.WebDataset(str(tmp_path / "b.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in found] == ["k0", "k1", "k2", "k3"]
    assert json.loads(found[3]["json"])["prompt"] == "scene 3" and found[3]["02.png"].startswith(b"\x89PNG")


def test_shards_of_the_reference_writer_are_read(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number in range(2):
            writer.write({"__key__": f"{number:06}", **pack(scene(number))})
    assert [sample.prompt for sample in Dataset(tmp_path).page(0, 9)[0]] == ["scene 0", "scene 1"]


def _index(folder: Path, data: bytes) -> list[Any]:
    (folder / "cut.tar").write_bytes(data)
    return read_index(folder / "cut.tar")[0]


def _cut(folder: Path, data: bytes) -> Dataset:
    for file in folder.iterdir():
        file.unlink()
    (folder / "cut.tar").write_bytes(data)
    return Dataset(folder)


def test_half_a_character_at_the_end_of_a_cut_text(tmp_path: Path) -> None:
    sample = replace(scene(1), prompt="cut \ud83d")
    append(tmp_path, sample)
    assert Dataset(tmp_path).load(0).prompt == "cut ?"
