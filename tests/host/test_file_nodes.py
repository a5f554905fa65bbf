"""The nodes for layered files where a package is missing."""

import sys
from pathlib import Path
from types import ModuleType

import folder_paths
import pytest
from comfy_api.latest import io

from tests.documents import mixed_document


@pytest.fixture
def without_psd_tools(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pack.nodes.exchange.Document.__module__.removesuffix(".layers") + ".files"
    for name in [name for name in sys.modules if name.startswith(("psd_tools", f"{files}.psd"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules[files], "psd", raising=False)
    monkeypatch.setitem(sys.modules, "psd_tools", None)


@pytest.mark.usefixtures("without_psd_tools")
def test_psd_says_what_to_install_and_the_others_go_on(
    pack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    export = pack.nodes.exchange.LayerDiffExportLayers.PREPARE_CLASS_CLONE(
        {"hidden_inputs": {io.Hidden.prompt: None, io.Hidden.extra_pnginfo: None}}
    )
    with pytest.raises(ValueError, match=r"psd_tools.*pip install psd-tools"):
        export.execute(mixed_document().to_socket(), "x", "psd", False, "display")
    assert not list((tmp_path / "output").rglob("*.psd"))
    (tmp_path / "x.psd").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install psd-tools"):
        pack.nodes.exchange.LayerDiffImportLayers.execute("x.psd")
    saved = export.execute(mixed_document().to_socket(), "x", "ora", False, "display").ui["files"]
    assert [file["filename"] for file in saved] == ["x_00001_.ora"]
