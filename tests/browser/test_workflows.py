"""The pack's workflows. test_every_page tests that each of them loads correctly."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.kinds import Kind, every_page
from tests.browser.panel_page import PanelPage
from tools.host import Server
from tools.pictures import STAND_INS

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


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


BOXES = """() => app.graph.nodes.map((node) => {
    node.updateArea(app.canvas.ctx);
    return [node.id, ...node.boundingRect];
})"""


@every_page
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_node_grows_over_another_with_its_pictures(page: Page, page_server: Server, path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    for node in workflow["nodes"]:
        if node["type"] in ("KSampler", "LayerDiffSMGKSampler"):
            node["widgets_values"][2] = 1
        elif node["type"] == "LayerDiffRedrawLayers":
            node["widgets_values"][4] = 1
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    if path.stem not in STAND_INS:
        PanelPage(page, page_server).press_run()
    page.wait_for_timeout(1500)
    boxes = page.evaluate(BOXES)
    for number, (one, x, y, wide, high) in enumerate(boxes):
        for other, left, top, width, height in boxes[number + 1:]:
            apart = x + wide <= left or left + width <= x or y + high <= top or top + height <= y
            assert apart, f"nodes {one} and {other} overlap: {boxes}"


@every_page
def test_text_boxes_say_what_they_are(page: Page, kind: Kind) -> None:
    page.evaluate("workflow => app.loadGraphData(workflow)", json.loads((ROOT / "workflows" / "text_to_layers.json").read_text()))
    labels = page.locator(".lg-node label" if kind.nodes_2 else ".layerdiff-text label")
    labels.first.wait_for()
    said = [label.inner_text() for label in labels.all()]
    assert {"global_prompt", "layer_prompts", "negative_prompt"} <= set(said)
    # Three lines, one for each layer of the example.
    boxes = page.locator("textarea").all()
    assert all(box.evaluate("box => box.clientHeight / parseFloat(getComputedStyle(box).fontSize)") > 3 for box in boxes
               if box.is_visible())
