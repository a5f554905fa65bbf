"""The layer nodes in ComfyUI: schemas, results, files and errors."""

import json
import math
from pathlib import Path

import folder_paths
import pytest
import torch
from comfy.cli_args import args
from comfy_api.latest import io
from PIL import Image


@pytest.fixture
def nodes(pack):
    return pack.nodes


@pytest.fixture
def layers():
    torch.manual_seed(0)
    item = {"image": torch.rand(3, 16, 24, 3), "mask": torch.rand(3, 16, 24), "type": "raster"}
    return {"version": 1, "canvas": (24, 16), "layers": [item]}


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return tmp_path / "output"


def test_schemas(nodes):
    for node in [*nodes.composite.NODES, *nodes.save.NODES]:
        schema = node.GET_SCHEMA()
        assert schema.node_id.startswith("LayerDiff") and schema.description and schema.search_aliases
        assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])
        assert schema.inputs[0].io_type == "LAYERS"


def test_set_and_composite(nodes, layers):
    changed = nodes.composite.LayerDiffSetLayer.execute(
        layers, 2, "top", -1, 0.5, "multiply", True, 3, -2, 2.0, 90.0
    ).args[0]
    image, mask, count, edited = nodes.composite.LayerDiffCompositeLayers.execute(changed, "display").args
    assert image.shape == (1, 16, 24, 3) and mask.shape == (1, 16, 24) and count == 3
    top = changed["layers"][2]
    assert (top["name"], top["x"], top["y"], top["w"]) == ("top", 3 - 12, -2 - 8, 48)
    assert top["rotation"] == pytest.approx(math.pi / 2)
    assert "opacity" not in layers["layers"][0]
    everything = nodes.composite.LayerDiffCompositeLayers.execute(layers, "linear").args
    assert everything[1].min() >= 0 and 0 < everything[1].max() < 1


def save(nodes, layers, prefix, prompt=None, extra=None):
    node = nodes.save.LayerDiffSaveLayers
    prepared = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.prompt: prompt, io.Hidden.extra_pnginfo: extra}})
    return prepared.execute(layers, prefix, "display")


def test_save_follows_the_hosts_rules(nodes, layers, output):
    prompt, extra = {"1": {"class_type": "ü"}}, {"workflow": {"nodes": []}}
    first = save(nodes, layers, "sub/pic_%width%", prompt, extra)
    second = save(nodes, layers, "sub/pic_%width%", prompt, extra)
    assert first.args[0] is layers
    files = first.ui["images"]
    # The composite first, because ComfyUI uses the first image as the job's thumbnail.
    assert [file["filename"] for file in files] == [
        "pic_24_00001_composite.png",
        "pic_24_00001_00_Layer-1.png",
        "pic_24_00001_01_Layer-1.png",
        "pic_24_00001_02_Layer-1.png",
    ]
    assert second.ui["images"][0]["filename"].startswith("pic_24_00002_")
    for file in files:
        assert file["subfolder"] == "sub" and file["type"] == "output"
        picture = Image.open(output / "sub" / file["filename"])
        assert picture.size == (24, 16) and picture.mode == "RGBA"
        assert (
            json.loads(picture.text["prompt"]) == prompt and json.loads(picture.text["workflow"]) == extra["workflow"]
        )


def test_no_metadata_where_the_host_is_told_so(nodes, layers, output, monkeypatch):
    monkeypatch.setattr(args, "disable_metadata", True)
    file = save(nodes, layers, "x", {"1": {}}, {"workflow": {}}).ui["images"][0]
    assert Image.open(output / file["filename"]).text == {}


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/x/y"])
def test_nothing_is_written_outside_the_output_folder(nodes, layers, output, prefix):
    with pytest.raises(Exception, match="outside the output folder"):
        save(nodes, layers, prefix)
    assert [path for path in Path(output.parent).rglob("*") if path.is_file()] == []


def test_preview(nodes, layers, output):
    node = nodes.save.LayerDiffPreviewLayers
    prepared = node.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    result = prepared.execute(layers, "display")
    assert result.args[0] is layers and result.args[1].shape == (4, 16, 24, 3)
    files = result.ui.as_dict()["images"]
    assert len(files) == 4 and all(file["type"] == "temp" for file in files)
    assert not output.exists()


def test_a_wrong_document_is_explained(nodes, output):
    for call in (
        lambda: nodes.composite.LayerDiffCompositeLayers.execute(None, "display"),
        lambda: save(nodes, {"layers": []}, "x"),
        lambda: nodes.save.LayerDiffPreviewLayers.execute({"layers": [{}]}, "display"),
    ):
        with pytest.raises(ValueError, match="LAYERS document"):
            call()
