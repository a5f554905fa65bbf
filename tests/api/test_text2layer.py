"""The Text2Layer graphs that the pack offers, through the real server with the starter that comes with it."""

import json
from pathlib import Path

import pytest

from tests.api.graphs import Graph
from tools.host import Server

HERE = Path(__file__).parent
OUTPUTS = {"text_to_two_layers": {"7": 3, "9": 1}, "foreground_for_background": {"7": 3, "12": 3}}


def quick(name: str) -> Graph:
    """The graph with few steps and a small image."""
    graph: Graph = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    for node in graph.values():
        changes = {"steps": 2, "width": 64, "height": 64}
        node["inputs"] |= {key: value for key, value in changes.items() if key in node["inputs"]}
    return graph


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_graph_runs(server: Server, name: str) -> None:
    outputs = server.client.run(quick(name)).outputs
    for number, count in OUTPUTS[name].items():
        pictures = outputs[number]["images"]
        assert len(pictures) == count
        assert server.client.download(pictures[0])[:4] == b"\x89PNG"


def test_two_foregrounds_give_three_layers(server: Server) -> None:
    graph = quick("text_to_two_layers")
    graph["1"]["inputs"]["model_name"] = "text2layer_two_foregrounds.safetensors"
    graph["2"]["inputs"]["text"] = "a house on the left and a red car on the right in a meadow"
    graph["4"]["inputs"]["layers"] = 3
    assert len(server.client.run(graph).outputs["7"]["images"]) == 4


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_graph_names_every_input(server: Server, name: str) -> None:
    info = server.client.get("/object_info")
    for number, node in json.loads((HERE / f"{name}.json").read_text("utf-8")).items():
        known = info[node["class_type"]]["input"]
        assert node["inputs"].keys() == known.get("required", {}).keys() | known.get("optional", {}).keys(), number
