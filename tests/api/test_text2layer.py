"""The Text2Layer graphs that the pack offers, through the real server over a model of random weights."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests import models
from tests.api.graphs import STACKED, Graph
from tools.host import Server

HERE = Path(__file__).parent
OUTPUTS = {"text_to_two_layers": {"7": 3, "9": 1}, "foreground_for_background": {"7": 3, "12": 3}}


@pytest.fixture(scope="module")
def model(pack: ModuleType, server: Server, served_models: Path) -> str:
    models.write_text2layer(pack, served_models / STACKED)
    return STACKED


def quick(name: str, model: str) -> Graph:
    """The graph over another model, with few steps."""
    graph: Graph = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    for node in graph.values():
        changes = {"model_name": model, "steps": 2, "width": 64, "height": 64}
        node["inputs"] |= {key: value for key, value in changes.items() if key in node["inputs"]}
    return graph


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_graph_runs(server: Server, model: str, name: str) -> None:
    outputs = server.client.run(quick(name, model)).outputs
    for number, count in OUTPUTS[name].items():
        pictures = outputs[number]["images"]
        assert len(pictures) == count
        assert server.client.download(pictures[0])[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_graph_names_every_input(server: Server, name: str) -> None:
    info = server.client.get("/object_info")
    for number, node in json.loads((HERE / f"{name}.json").read_text("utf-8")).items():
        known = info[node["class_type"]]["input"]
        assert node["inputs"].keys() == known.get("required", {}).keys() | known.get("optional", {}).keys(), number
