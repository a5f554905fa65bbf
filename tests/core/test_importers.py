"""Importers: folders of layered files, MLCID as it was published, other parquet files; run lengths; stopping and going on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from layerdiff_core.composite import composite
from layerdiff_core.datasets.dataset import Dataset
from layerdiff_core.datasets.importing import REJECTED, SHARD_SAMPLES, Item, Report, import_scenes
from layerdiff_core.datasets.layered_files import layered_files
from layerdiff_core.datasets.mlcid import Pictures, mlcid, read_row
from layerdiff_core.datasets.run_lengths import read_mask
from layerdiff_core.datasets.sample import Sample
from layerdiff_core.datasets.tables import MAPS, FieldMap, tables
from layerdiff_core.datasets.tables import read_row as read_table_row
from layerdiff_core.files.ora import write_ora
from layerdiff_core.files.png_folder import write_png_folder
from layerdiff_core.files.psd import write_psd
from layerdiff_core.files.safe import FileError
from tests.datasets import SIDE, broken, disc, mlcid_row, png, run_lengths, run_text, scene
from tests.documents import same

ROOT = Path(__file__).resolve().parent.parent.parent


def items(count: int, broken: tuple[int, ...] = ()) -> list[Item]:
    def make(number: int) -> Any:
        if number in broken:
            raise ValueError(f"{number} is broken")
        return scene(number, 2)

    return [Item(f"k{n:05}", f"scene {n}", lambda n=n: make(n)) for n in range(count)]


class TestImport:
    def test_all_that_is_good_once(self, tmp_path: Path) -> None:
        folder = tmp_path / "set"
        report = import_scenes(items(SHARD_SAMPLES + 5, broken=(3, 7)), folder)
        assert (report.added, report.present, report.rejected) == (
            SHARD_SAMPLES + 3, 0, {"scene 3": "3 is broken", "scene 7": "7 is broken"})
        assert json.loads((folder / REJECTED).read_text()) == report.rejected
        assert len(list(folder.glob("*.tar"))) == 2
        again = import_scenes(items(SHARD_SAMPLES + 5, broken=(3,)), folder)
        assert (again.added, again.present) == (1, SHARD_SAMPLES + 3)
        assert len(Dataset(folder)) == SHARD_SAMPLES + 4 and Dataset(folder).check() == []

    def test_errors_of_every_kind_are_set_aside(self, tmp_path: Path) -> None:
        def fail() -> Any:
            raise RecursionError("too deep")

        report = import_scenes([Item("a", "one", fail), *items(1)], tmp_path)
        assert report.added == 1 and report.rejected == {"one": "RecursionError: too deep"}

    def test_what_stops_it_keeps_what_is_done(self, tmp_path: Path) -> None:
        class Stop(Exception):
            pass

        def step(report: Report) -> None:
            if report.added == 4:
                raise Stop

        with pytest.raises(Stop):
            import_scenes(items(9), tmp_path, step)
        assert len(Dataset(tmp_path)) == 4
        assert import_scenes(items(9), tmp_path).added == 5


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from layerdiff_core.datasets import importing
from layerdiff_core.datasets.dataset import Dataset
from tests.datasets import scene
torch.set_num_threads(1)  # what OpenMP has started does not survive a fork
importing.SHARD_SAMPLES = 3
folder, dice, finished, kills = Path(sys.argv[1]), random.Random(0), set(), 0
items = [importing.Item(f"k{n:05}", f"scene {n}", lambda n=n: scene(n, 2, 16)) for n in range(200)]
importing.import_scenes(items[:3], folder)
started = time.monotonic()
importing.import_scenes(items[:9], folder)
longest = 3 * (time.monotonic() - started)
while kills < 20:
    child = os.fork()
    if child == 0:
        importing.import_scenes(items, folder)
        os._exit(0)
    time.sleep(dice.uniform(0.001, longest))
    os.kill(child, signal.SIGKILL)
    kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    found = Dataset(folder)
    keys = [entry.key for entry in found.entries]
    assert not found.faults and finished <= set(keys) and len(keys) < 200, (found.faults, len(keys))
    finished = set(keys)
report = importing.import_scenes(items, folder)
found = Dataset(folder)
assert sorted(entry.key for entry in found.entries) == [f"k{n:05}" for n in range(200)] and found.check() == []
print(len(finished), report.added, report.present)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked to be killed")
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Twenty times in one import: what was in a shard stays, nothing is there twice, and in the end all is there."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    finished, added, present = map(int, done.stdout.split())
    assert finished == present > 9 and added + present == 200


class TestLayeredFiles:
    def test_every_kind_with_its_words(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        document = scene(1).document
        write_ora(document, tmp_path / "deep" / "a_red_fox.ora", {})
        write_psd(document, tmp_path / "b.psd", {})
        write_png_folder(document, tmp_path / "c", {})
        (tmp_path / "b.txt").write_text("a meadow\nsky\nfox\nbee\n")
        (tmp_path / "c.txt").write_text("only the scene")
        (tmp_path / "d.ora").write_bytes(b"PK no zip")
        (tmp_path / "e.psd").write_bytes((tmp_path / "b.psd").read_bytes())
        (tmp_path / "e.txt").write_text("a meadow\nsky\n")
        report = import_scenes(layered_files(tmp_path, "CC0-1.0"), tmp_path / "set")
        assert report.added == 3 and set(report.rejected) == {"d.ora", "e.psd"}
        assert "cannot be read" in report.rejected["d.ora"] and "1 layer prompts" in report.rejected["e.psd"]
        samples = {sample.source: sample for sample in Dataset(tmp_path / "set").page(0, 9)[0]}
        assert {name: (sample.prompt, sample.layer_prompts) for name, sample in samples.items()} == {
            "b.psd": ("a meadow", ["sky", "fox", "bee"]),
            "c/layers.json": ("only the scene", ["thing 0", "thing 1", "thing 2"]),
            "deep/a_red_fox.ora": ("a red fox", ["thing 0", "thing 1", "thing 2"]),
        }  # fmt: skip
        assert {sample.licence for sample in samples.values()} == {"CC0-1.0"}
        for sample in samples.values():
            for one, other in zip(composite(sample.document), composite(document)):
                assert (one - other).abs().max() * 255 < 1


class TestRunLengths:
    # Written by COCO's own tools (pycocotools.mask.encode) for the mask that `shape` makes.
    THEIRS = "X14;4N0O2O000001N102L60K2O000001Ni0"

    @staticmethod
    def shape() -> torch.Tensor:
        return torch.maximum(disc(20, 7, 8, 5), disc(20, 15, 12, 3))[:17]

    def test_coco_s_own_text(self) -> None:
        mask = self.shape()
        assert torch.equal(read_mask({"counts": self.THEIRS, "size": [17, 20]}), mask)
        assert run_text(mask) == self.THEIRS, "the tests write what COCO writes"

    @pytest.mark.parametrize("kind", [list, bytes, str])
    def test_every_form(self, kind: type) -> None:
        for seed in range(30):
            mask = (torch.rand(9, 7, generator=torch.Generator().manual_seed(seed)) < (0.05 + seed / 31)).float()
            if mask.any():
                counts: Any = run_lengths(mask) if kind is list else run_text(mask)
                read = read_mask({"counts": counts.encode() if kind is bytes else counts, "size": [9, 7]})
                assert torch.equal(read, mask)

    @pytest.mark.parametrize(("mask", "reason"), [
        (None, "not {counts"), ({"counts": [4]}, "not {counts"), ({"counts": [4], "size": None}, "size"),
        ({"counts": [4], "size": [2]}, "size"), ({"counts": [4], "size": [2, -2]}, "size"),
        ({"counts": [4], "size": ["2", 2]}, "size"),
        ({"counts": [1, 2], "size": [2, 2]}, "3 pixels"), ({"counts": [5, -1], "size": [2, 2]}, "below 0"),
        ({"counts": [2**62, 2**62, 2**62, 2**62 + 4], "size": [2, 2]}, "above its 4"),
        ({"counts": [0.5], "size": [2, 2]}, "numbers"), ({"counts": None, "size": [2, 2]}, "numbers"),
        ({"counts": "\x00", "size": [2, 2]}, "text"), ({"counts": "P", "size": [2, 2]}, "cut off"),
        ({"counts": "P" * 99, "size": [2, 2]}, "text"), ({"counts": [4], "size": [2, 2]}, "empty"),
        ({"counts": [4], "size": [99999, 99999]}, "million"),
    ])  # fmt: skip
    def test_damaged_ones(self, mask: Any, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            read_mask(mask)


class TestMlcid:
    def test_a_row(self, tmp_path: Path) -> None:
        sample = read_row(mlcid_row(1, tmp_path), Pictures(tmp_path))
        assert sample.layer_prompts == ["background", "a ball", "a plate"] and not sample.complete
        assert (sample.licence, sample.source) == ("CC-BY-SA-4.0", "https://example.org/pictures/1.png?size=large")
        bottom, ball, plate = sample.document.layers
        assert bottom.coverage.amin() == 1 and bottom.image.shape == (1, SIDE, SIDE, 3)
        covered = torch.zeros(SIDE, SIDE)
        covered[ball.y : ball.y + ball.h, ball.x : ball.x + ball.w] = ball.coverage[0]
        apart = disc(SIDE, 8, 8, 5) * (1 - disc(SIDE, 16, 15, 8))
        assert (covered - apart)[:, : SIDE // 2].abs().mean() < 0.1, "the mask is the right way round"

    def test_pictures_by_name(self, tmp_path: Path) -> None:
        row = mlcid_row(0, tmp_path)
        for file in list(tmp_path.iterdir()):
            file.unlink()
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "0.png").write_bytes(png())
        assert read_row(row, Pictures(tmp_path)).prompt == "a ball on a table, 0"
        (tmp_path / "0.png").write_bytes(png())
        with pytest.raises(FileError, match="2 files have its name"):
            read_row(row, Pictures(tmp_path))

    def test_masks_of_another_size_are_scaled_and_of_another_shape_refused(self, tmp_path: Path) -> None:
        row = mlcid_row(0, tmp_path)
        row["mask"] = [{"counts": run_text(disc(48, 16, 16, 10)), "size": [48, 48]}]
        ball = read_row(row, Pictures(tmp_path)).document.layers[1]
        assert abs(ball.x + ball.w / 2 - 8) < 1.5
        row["mask"] = [{"counts": run_text(disc(48, 16, 16, 10)[:30]), "size": [30, 48]}]
        with pytest.raises(ValueError, match="not the same aspect ratio"):
            read_row(row, Pictures(tmp_path))

    def test_a_thousand_rows_with_fifty_broken_ones(self, tmp_path: Path) -> None:
        """As the authors published it: 950 scenes and 50 reasons; and a file that is cut off takes no other with it."""
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pictures = tmp_path / "pictures"
        pictures.mkdir()
        rows, wanted = [], {}
        for number in range(1000):
            row = mlcid_row(number, pictures)
            if number % 20 == 0:
                row, wanted[f"part-{number // 500}.parquet, row {number % 500}"] = broken(row, number // 20 % 10, pictures)
            rows.append(row)
        for part in range(2):
            parquet.write_table(pyarrow.Table.from_pylist(rows[500 * part : 500 * part + 500]), tmp_path / f"part-{part}.parquet")
        (tmp_path / "part-2.parquet").write_bytes((tmp_path / "part-1.parquet").read_bytes()[:-100])
        report = import_scenes(mlcid(tmp_path, Pictures(pictures)), tmp_path / "set")
        assert report.added == 950 and len(report.rejected) == 51
        assert "damaged or cut off" in report.rejected.pop("part-2.parquet")
        assert report.rejected.keys() == wanted.keys()
        assert [what for what in wanted if wanted[what] not in report.rejected[what]] == []
        found = Dataset(tmp_path / "set")
        assert len(found) == 950 and found.statistics()["layers"] == {"2": 450, "3": 500}
        assert found.check() == [] and found.statistics()["background_to_be_inpainted"] == 950
        again = import_scenes(mlcid(tmp_path, Pictures(pictures)), tmp_path / "set")
        assert (again.added, again.present) == (0, 950)


class TestTables:
    def test_prismlayers(self, tmp_path: Path) -> None:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

        def image(side: int, mode: str = "RGBA") -> dict[str, Any]:
            return {"bytes": png(side, side, mode), "path": None}

        rows = [{
            "whole_caption": "a desk", "base_caption": "a wall", "base_image": image(40, "RGB"), "whole_image": image(40, "RGB"),
            "layer_count": 2, "layer_00": image(10), "layer_00_caption": "a cup", "layer_00_box": [3, 4, 13, 14],
            "layer_00_width_dst": 10, "layer_00_height_dst": 10, "layer_01": image(10), "layer_01_caption": "a lamp",
            "layer_01_box": [20, 0, 40, 5], "layer_01_width_dst": 20, "layer_01_height_dst": 5,
        }]  # fmt: skip
        rows += [rows[0] | {"layer_01": None}, rows[0] | {"layer_count": 70},
                 rows[0] | {"layer_00": {"bytes": None, "path": "x.png"}}]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
        report = import_scenes(tables(tmp_path / "a.parquet", MAPS["prismlayers"], "Apache-2.0"), tmp_path / "set")
        assert report.added == 1 and [next(iter(reason.split("\n"))) for reason in report.rejected.values()] == [
            "the field 'layer_01' is empty", "layer_count is 70, expected 1 to 49 layers",
            "a.parquet, row 3, layer_00 has no image inside. Only images that are stored in the parquet file are read."]
        sample = Dataset(tmp_path / "set").load(0)
        assert (sample.prompt, sample.layer_prompts) == ("a desk", ["a wall", "a cup", "a lamp"])
        assert [(layer.x, layer.y, layer.w, layer.h) for layer in sample.document.layers] == [
            (0, 0, 40, 40), (3, 4, 10, 10), (20, 0, 20, 5)]
        assert sample.licence == "Apache-2.0"

    def test_crello_s_labels_and_shares(self, tmp_path: Path) -> None:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        row = {"id": "5f", "title": "A card", "canvas_width": 1, "canvas_height": 0, "left": [0.0, 0.5], "top": [0.0, 0.25],
               "width": [1.0, 0.25], "height": [1.0, 0.5],
               "image": [{"bytes": png(16, 1, "RGBA"), "path": ""}, {"bytes": png(16, 2, "RGBA"), "path": ""}]}
        features = {"canvas_width": {"names": ["20", "40"], "_type": "ClassLabel"},
                    "canvas_height": {"names": ["20"], "_type": "ClassLabel"}}
        table = pyarrow.Table.from_pylist([row])
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        parquet.write_table(table, tmp_path / "a.parquet")
        assert import_scenes(tables(tmp_path, MAPS["crello"]), tmp_path / "set").rejected == {}
        sample = Dataset(tmp_path / "set").load(0)
        assert sample.document.canvas == (40, 20) and sample.licence == "CDLA-Permissive-2.0"
        assert [(layer.x, layer.y, layer.w, layer.h) for layer in sample.document.layers] == [(0, 0, 40, 20), (20, 5, 10, 10)]

    def test_fields_within_lists(self) -> None:
        row = {"whole_caption": "a room", "base_image": png(30),
               "layers": [{"image": png(8, 1, "RGBA"), "caption": "a chair", "box": [1.0, 2.0, 9.0, 10.0]}]}
        sample = read_table_row(row, MAPS["synlayers"], "a row")
        assert [(layer.x, layer.y, layer.w, layer.h) for layer in sample.document.layers][1] == (1, 2, 8, 8)
        assert sample.layer_prompts == ["background", "a chair"]

    @pytest.mark.parametrize(("changes", "reason"), [
        ({"whole_caption": 5}, "whole_caption' is 5, expected text"), ({"base_image": png()[:60]}, "base_image cannot be read"),
        ({"layers": []}, "expected 1 to 49"), ({"layers": [{}]}, "no field 'layers.0.caption'"),
        ({"layers": [{"image": png(), "caption": "", "box": [5, 5, 5, 9]}]}, "layer 0 is 0 x 4"),
        ({"layers": [{"image": png(), "caption": "", "box": [1e300, 5, 5, 9]}]}, "layers.0.box.0"),
        ({"layers": [{"image": png(), "caption": "", "box": [float("nan"), 5, 5, 9]}]}, "layers.0.box.0"),
    ])  # fmt: skip
    def test_what_is_wrong_is_named(self, changes: dict[str, Any], reason: str) -> None:
        row = {"whole_caption": "x", "base_image": png(), "layers": [{"image": png(), "caption": "", "box": [0, 0, 4, 4]}]}
        with pytest.raises(FileError, match=reason):
            read_table_row({**row, **changes}, MAPS["synlayers"], "a row")

    def test_a_map_of_one_s_own(self, tmp_path: Path) -> None:
        path = tmp_path / "map.json"
        path.write_text(json.dumps({"scene_prompt": "p", "count": "n", "image": "i{n}", "background": "b"}))
        sample = read_table_row({"p": "x", "n": 1, "i0": png(), "b": png()}, FieldMap.read(path), "a row")
        same(sample.document, scene_of(png(), png()))
        for wrong in ('{"scene_prompt": "p"}', '{"what": 1}', "[]", "{"):
            path.write_text(wrong)
            with pytest.raises(FileError, match=r"map\.json"):
                FieldMap.read(path)


def scene_of(*images: bytes) -> Any:
    """The document of such a row: opaque layers that fill the canvas."""
    row = {"p": "x", "n": len(images) - 1, "b": images[0], "i": list(images[1:])}
    return read_table_row(row, FieldMap("p", "i", "i.{n}", background="b"), "a row").document


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(FileError, match="pip install pyarrow"):
        list(mlcid(tmp_path, Pictures(tmp_path)))


def test_no_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(FileError, match="no parquet file"):
        list(mlcid(tmp_path, Pictures(tmp_path)))


def test_a_name_that_is_not_utf_8_is_reported(tmp_path: Path) -> None:
    def unreadable() -> Sample:
        raise ValueError("no scene")

    report = import_scenes([Item("a", "caf\udce9.psd", unreadable)], tmp_path)
    assert list(report.rejected.values()) == ["no scene"]
    assert json.loads((tmp_path / REJECTED).read_text("utf-8")) == {"caf?.psd": "no scene"}
