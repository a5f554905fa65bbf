"""Save Scene to Dataset and Load Layered Dataset."""

from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import pytest
import torch
from comfy_api.latest import io

from layerdiff_core.datasets.dataset import Dataset
from layerdiff_core.datasets.sample import pack
from layerdiff_core.datasets.shards import write_shard
from layerdiff_core.layers import Document
from tests.datasets import scene
from tests.documents import alter


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))


def save(pack: ModuleType, number: int = 0, layers: dict[str, Any] | None = None, **inputs: Any) -> io.NodeOutput:
    values = {"dataset": "foxes", "prompt": "", "layer_prompts": "", "background_complete": True, "source": "", "licence": ""}
    return pack.nodes.dataset.LayerDiffSaveSceneToDataset.execute(
        layers or scene(number).with_prompts().to_socket(), **(values | inputs))


def load(pack: ModuleType, dataset: str = "foxes [output]", page: int = 0, page_size: int = 8) -> io.NodeOutput:
    node = pack.nodes.dataset.LayerDiffLoadDataset.PREPARE_CLASS_CLONE(
        {"hidden_inputs": {io.Hidden.prompt: None, io.Hidden.extra_pnginfo: None}})
    return node.execute(dataset, page, page_size)


def said(output: io.NodeOutput) -> list[str]:
    return output.ui["warnings"][0]


def test_scenes_come_back_page_by_page(pack: ModuleType) -> None:
    counts = [save(pack, number).args[1] for number in range(5)]
    assert counts == [1, 2, 3, 4, 5]
    layers, prompts, layer_prompts, sheet, count, pages = load(pack, page=1, page_size=2).args
    assert prompts == ["scene 2", "scene 3"] and (count, pages) == (5, 3)
    assert layer_prompts[0] == "thing 0: a thing 0\nthing 1: a thing 1\nthing 2: a thing 2"
    assert [layer.name for layer in Document.from_socket(layers[1]).layers] == ["thing 0", "thing 1", "thing 2"]
    assert sheet.shape[0] == 1 and torch.isfinite(sheet).all()
    assert len(load(pack, page=2, page_size=2).args[0]) == 1


def test_what_is_loaded_is_not_saved_twice(pack: ModuleType) -> None:
    save(pack)
    again = save(pack, layers=load(pack).args[0][0], source="source 0", licence="")
    assert again.args[1] == 2, "it has another source"
    third = save(pack, layers=load(pack).args[0][0])
    assert third.args[1] == 2 and said(third) == ["This scene is in the dataset already, and was not added again."]


def test_prompts_from_the_inputs_come_first(pack: ModuleType, tmp_path: Path) -> None:
    save(pack, prompt="a fox", layer_prompts="sky: a blue sky\n\na red fox\nbee: a bee (small:1.2)", licence="CC0-1.0",
         background_complete=False)
    sample = Dataset(tmp_path / "output" / "layered_datasets" / "foxes").load(0)
    assert (sample.prompt, sample.layer_prompts) == ("a fox", ["a blue sky", "a red fox", "a bee (small:1.2)"])
    assert sample.licence == "CC0-1.0" and not sample.complete


def test_layers_without_prompts_get_their_names_and_warnings(pack: ModuleType, tmp_path: Path) -> None:
    plain = scene(0).document
    alter(plain, 1, coverage=torch.zeros(1, 24, 24))
    warned = save(pack, layers=plain.to_socket())
    assert said(warned) == ["This scene may not be good for training: the prompt is empty.",
                            "This scene may not be good for training: nothing is visible in layer 1."]
    assert Dataset(tmp_path / "output" / "layered_datasets" / "foxes").load(0).layer_prompts == ["thing 0", "thing 1", "thing 2"]


def test_what_the_prompts_output_gives_the_prompts_node_takes(pack: ModuleType) -> None:
    document = scene(0).document
    alter(document, 1, name="odd (name: x\n")
    save(pack, layers=document.to_socket(), layer_prompts="a\nb: c\nd")
    text = load(pack).args[2][0]
    assert pack.nodes.dataset.parse_layer_prompts(text) == [("thing 0", "a"), ("odd name x", "c"), ("thing 2", "d")]


@pytest.mark.parametrize(("inputs", "reason"), [
    ({"dataset": "../x"}, "not a valid file name"), ({"dataset": ""}, "empty"), ({"dataset": "a/b"}, "not a valid file name"),
    ({"dataset": "C:\\x"}, "not a valid"), ({"layer_prompts": "a\nb"}, "2 layer prompts for 3 layers"),
])  # fmt: skip
def test_what_cannot_be_saved(pack: ModuleType, tmp_path: Path, inputs: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        save(pack, **inputs)
    assert not list(tmp_path.rglob("*.tar"))


def test_faults_are_told_and_the_rest_is_loaded(pack: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "input" / "layered_datasets" / "theirs"
    write_shard(folder / "a.tar", [(f"k{n}", pack_of(n, n == 1)) for n in range(3)])
    data = (folder / "a.tar").read_bytes()
    (folder / "b.tar").write_bytes(data[:700])
    assert pack.nodes.dataset._datasets() == ["theirs"]
    output = load(pack, "theirs")
    assert output.args[1] == ["scene 0", "scene 2"] and output.args[4] == 3
    assert len(said(output)) == 2 and "a.tar, sample k1" in said(output)[0] and "b.tar" in said(output)[1]
    with pytest.raises(ValueError, match=r"No scene on page 1 can be read\. a\.tar, sample k1"):
        load(pack, "theirs", page=1, page_size=1)


def pack_of(number: int, broken: bool) -> dict[str, bytes]:
    members = pack(scene(number))
    return members | {"01.png": b"\x89PNG"} if broken else members


def test_what_cannot_be_loaded(pack: ModuleType, tmp_path: Path) -> None:
    node = pack.nodes.dataset.LayerDiffLoadDataset
    assert "No dataset is selected" in node.validate_inputs(pack.nodes.dataset.NO_DATASET)
    assert "no dataset '../../x'" in node.validate_inputs("../../x")
    save(pack)
    assert node.validate_inputs("foxes [output]") is True and "no dataset 'foxes'" in node.validate_inputs("foxes")
    with pytest.raises(ValueError, match="There is no page 1.*1 scenes on 1 pages, numbered 0 to 0"):
        load(pack, page=1)
    with pytest.raises(ValueError, match="page_size is 0"):
        load(pack, page_size=0)


def test_a_changed_dataset_is_read_again(pack: ModuleType) -> None:
    node = pack.nodes.dataset.LayerDiffLoadDataset
    save(pack)
    before = node.fingerprint_inputs("foxes [output]", 0, 8)
    assert node.fingerprint_inputs("foxes [output]", 0, 8) == before
    save(pack, 1)
    assert node.fingerprint_inputs("foxes [output]", 0, 8) != before
    linked = node.fingerprint_inputs(None, 0, 8)
    assert linked != linked
