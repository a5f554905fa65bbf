"""The workflows that the pack offers. That each loads and means what it should is in test_every_page."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page

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
