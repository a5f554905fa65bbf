"""The workflows that the pack offers: each loads in the host's page and means what its twin for the interface says."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))

LOAD = "workflow => window.app.loadGraphData(workflow)"
UNKNOWN = "() => window.app.graph.nodes.map(node => node.type).filter(type => !window.LiteGraph.registered_node_types[type])"
COUNT = "() => window.app.graph.nodes.length"
PROMPT = "async () => (await window.app.graphToPrompt()).output"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_loads_and_means_the_same_as_its_twin(page: Page, path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    twin = json.loads((ROOT / "tests" / "api" / path.name).read_text("utf-8"))
    page.evaluate(LOAD, workflow)
    assert page.evaluate(UNKNOWN) == []
    assert page.evaluate(COUNT) == len(workflow["nodes"])
    assert page.evaluate(PROMPT) == twin


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_node_of_a_workflow_lies_on_another(path: Path) -> None:
    nodes = json.loads(path.read_text("utf-8"))["nodes"]
    title = 30
    boxes = [(node["id"], *node["pos"], *node["size"]) for node in nodes]
    for number, (one, x, y, wide, high) in enumerate(boxes):
        for other, left, top, width, height in boxes[number + 1:]:
            apart = x + wide <= left or left + width <= x or y + high <= top - title or top + height <= y - title
            assert apart, f"nodes {one} and {other} overlap"


def test_the_page_offers_each_workflow_as_a_template(page: Page) -> None:
    offered = page.evaluate("async () => (await fetch('/api/workflow_templates')).json()")
    assert {path.stem for path in WORKFLOWS} <= set(offered["layerdiff"])
