"""The pack in the real server, over HTTP and websocket."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.client import NodeFailed, PromptRefused
from tools.host import Server

PROMPT = json.loads((Path(__file__).parent / "text_to_layers.json").read_text("utf-8"))
PLAIN = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 8, "batch_size": 2, "color": 0xFF0000}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "plain"}},
}
NODES = {
    "LayerDiffLoadModel", "LayerDiffApplyAdapter", "LayerDiffEncodePrompts", "LayerDiffStackConditioning",
    "LayerDiffEmptyLatent", "LayerDiffEncodeLayers", "LayerDiffFreeLayers", "LayerDiffSelfMaskGuidance",
    "LayerDiffSMGKSampler", "LayerDiffKeepLayers", "LayerDiffDecodeLayers", "LayerDiffSetLayer", "LayerDiffCompositeLayers",
    "LayerDiffHealSeams", "LayerDiffImagesToLayers", "LayerDiffLayersFromMasks", "LayerDiffGetLayer", "LayerDiffMergeLayers",
    "LayerDiffPreviewLayers", "LayerDiffSaveLayers", "LayerDiffExportLayers", "LayerDiffImportLayers", "LayerDiffCreateAdapter",
    "LayerDiffLoadLora", "LayerDiffApplyControlNet", "LayerDiffRedrawLayers", "LayerDiffApplyLayerDiffuse",
    "LayerDiffLoadTransparentDecoder", "LayerDiffSaveSceneToDataset", "LayerDiffLoadDataset",
}


def test_the_pack_loads_without_a_complaint(server: Server) -> None:
    # Up to where it is ready: the errors that other tests ask for come later.
    log, ready, _ = server.log.read_text("utf-8").partition("To see the GUI go to")
    assert ready
    assert "IMPORT FAILED" not in log
    assert "Traceback" not in log


def test_all_nodes_are_registered(server: Server) -> None:
    info = server.client.get("/object_info")
    assert {name for name in info if name.startswith("LayerDiff")} == NODES


def test_each_node_explains_itself(server: Server) -> None:
    info = server.client.get("/object_info")
    for name in NODES:
        node = info[name]
        assert node["description"], name
        assert node["category"].startswith("LayerDiff/"), name
        inputs: dict[str, Any] = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        without = [label for label, spec in inputs.items() if not (len(spec) > 1 and spec[1].get("tooltip"))]
        assert without == [], f"{name} has inputs without a tooltip"


def test_the_demos_prompt_fits_the_nodes(server: Server) -> None:
    info = server.client.get("/object_info")
    for number, node in PROMPT.items():
        known = info[node["class_type"]]["input"]
        assert set(node["inputs"]) <= set(known.get("required", {})) | set(known.get("optional", {})), number
        assert set(known.get("required", {})) <= set(node["inputs"]), number


def test_a_plain_prompt_runs_and_its_progress_is_seen(server: Server) -> None:
    seen: list[tuple[str, Any]] = []
    result = server.client.run(PLAIN, lambda kind, data: seen.append((kind, data.get("node"))))
    assert ("executing", "1") in seen or ("executing", "2") in seen
    images = result.outputs["2"]["images"]
    assert len(images) == 2
    assert server.client.download(images[0])[:4] == b"\x89PNG"


def test_a_bad_prompt_is_refused_and_the_server_lives_on(server: Server) -> None:
    bad = {"1": {"class_type": "EmptyImage", "inputs": {"width": -1, "height": 8, "batch_size": 1, "color": 0}},
           "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "bad"}}}
    with pytest.raises(PromptRefused, match=r"node 1 \(EmptyImage\).*width"):
        server.client.run(bad)
    assert server.is_alive()
    assert server.client.run(PLAIN).outputs


def test_an_error_in_a_node_names_the_node(server: Server) -> None:
    failing = {
        "1": {"class_type": "RegexReplace", "inputs": {
            "string": "a", "regex_pattern": "(", "replace": "b", "case_insensitive": True, "multiline": False,
            "dotall": False, "count": 0}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    with pytest.raises(NodeFailed) as caught:
        server.client.run(failing)
    assert caught.value.node == "1"
    assert "RegexReplace" in str(caught.value)
    assert server.client.run(PLAIN).outputs
