"""Datasets through the real server: saved scenes are listed, loaded page by page, and run one by one."""

import shutil
import uuid
from collections.abc import Iterator

import pytest

from layerdiff_core.datasets.dataset import Dataset
from layerdiff_core.files.psd import write_psd
from tests.api.graphs import node
from tests.datasets import scene
from tools.client import PromptRefused
from tools.host import Server


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """A name for this run, in the server's folders, because these keep files of earlier runs."""
    name = uuid.uuid4().hex[:8]
    (server.data / "input" / name).mkdir()
    for number in range(3):
        write_psd(scene(number).document, server.data / "input" / name / f"{number}.psd", {})
    yield name
    shutil.rmtree(server.data / "input" / name)
    shutil.rmtree(server.data / "output" / "layered_datasets" / name, ignore_errors=True)


def test_save_then_load_pages(server: Server, name: str) -> None:
    for number in range(3):
        server.client.run({
            "1": node("LayerDiffImportLayers", file=f"{name}/{number}.psd"),
            "2": node("LayerDiffSaveSceneToDataset", layers=["1", 0], dataset=name, prompt=f"scene {number}", layer_prompts="",
                      background_complete=True, source="", licence="CC0-1.0"),
        })  # fmt: skip
    found = Dataset(server.data / "output" / "layered_datasets" / name)
    assert [sample.prompt for sample in found.page(0, 9)[0]] == ["scene 0", "scene 1", "scene 2"] and found.check() == []
    listed = server.client.get("/object_info/LayerDiffLoadDataset")["LayerDiffLoadDataset"]["input"]["required"]["dataset"]
    assert f"{name} [output]" in str(listed)
    graph = {
        "1": node("LayerDiffLoadDataset", dataset=f"{name} [output]", page=0, page_size=2),
        "2": node("LayerDiffPreviewLayers", layers=["1", 0], colour_space="display"),
    }
    result = server.client.run(graph)
    assert len(result.outputs["2"]["images"]) == 2 * 4, "the node that follows ran once for each scene"
    assert len(result.outputs["1"]["images"]) == 1, "the contact sheet is shown on the node"
    graph["1"]["inputs"]["dataset"] = f"../{name}"
    with pytest.raises(PromptRefused, match="no dataset"):
        server.client.run(graph)
