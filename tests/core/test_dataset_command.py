"""dev.py dataset: import, check and sheet."""

import json
from pathlib import Path

import pytest
from PIL import Image

from layerdiff_core.datasets.dataset import Dataset
from layerdiff_core.files.ora import write_ora
from tests.datasets import png, scene
from tools import dataset


def run(*arguments: object) -> int:
    return dataset.main([str(each) for each in arguments])


def test_import_check_and_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, out = tmp_path / "files", tmp_path / "set"
    files.mkdir()
    for number in range(2):
        write_ora(scene(number).document, files / f"{number}.ora", {})
    (files / "bad.ora").write_bytes(b"no")
    assert run("import", "layers", files, out, "--licence", "CC0-1.0") == 0
    told = capsys.readouterr().out
    assert "2 added, 0 there already, 1 set aside." in told and "bad.ora cannot be read" in told
    assert run("check", out) == 0
    assert '"CC0-1.0": 2' in capsys.readouterr().out
    assert run("sheet", out, tmp_path / "sheet.png", "--size", 1) == 0
    assert Image.open(tmp_path / "sheet.png").size == (4 * 32 + 8, 32 + 8)
    assert run("sheet", out, tmp_path / "none.png", "--page", 9) == 1
    shard = next(out.glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:900])
    capsys.readouterr()
    assert run("check", out) == 1 and f"FAULT: {shard.name}" in capsys.readouterr().out
    assert run("check", files) == 1 and "no .tar files" in capsys.readouterr().out


def test_mlcid_and_a_map_of_one_s_own(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"p": "x", "i": [png(), png(number=1)], "b": png(number=2)}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    fields = tmp_path / "map.json"
    fields.write_text(json.dumps({"scene_prompt": "p", "count": "i", "image": "i.{n}", "background": "b"}))
    assert run("import", "table", tmp_path, tmp_path / "set", "--fields", fields) == 0
    assert len(Dataset(tmp_path / "set").load(0).document.layers) == 3
    assert run("import", "mlcid", tmp_path, tmp_path / "other", "--images", tmp_path) == 0
    assert "no column 'URL'" in (tmp_path / "other" / "rejected.json").read_text()
    with pytest.raises(SystemExit):
        run("import", "table", tmp_path, tmp_path / "set")
