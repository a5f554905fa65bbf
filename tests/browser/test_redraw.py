"""Layers drawn anew from the panel in the real page: freed by a brush, drawn by Run, and all others as they were."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.kinds import Kind, every_page
from tests.browser.panel_page import DRAWN, LOAD, PanelPage
from tools import setup
from tools.host import Server
from tools.page import wait_until_ready

WORKFLOW = setup.ROOT / "workflows" / "redraw_one_layer.json"
SEEDS = itertools.count(100)
PICTURES = setup.ROOT / "output"
REDRAW, SAMPLER = 6, 4
VALUE = "([id, name]) => app.graph.getNodeById(id).widgets.find(widget => widget.name === name).value"
TYPE = """([id, name, value]) => {
    const widget = app.graph.getNodeById(id).widgets.find(widget => widget.name === name);
    widget.value = value;
    widget.callback?.(value);
}"""
# The whole of the tall node in view.
VIEW = """id => {
    const node = app.graph.getNodeById(id);
    [app.canvas.ds.scale, app.canvas.ds.offset] = [0.75, [700 - node.pos[0], 140 - node.pos[1]]];
    app.canvas.setDirty(true, true);
}"""


# The page has heard of a run once it has the layers that the server names.
HEARD = """([id, files]) => JSON.stringify(app.nodeOutputs[id]?.layer_panel?.[0].layers.map(
    layer => [layer.colour.filename, layer.coverage.filename])) === files"""
STEPS_BACK = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length"


class RedrawPage(PanelPage):
    """The page with the example on it; the layers are 0 background, 1 tree, 2 bear (snowman once it is drawn)."""

    def value(self, name: str) -> Any:
        return self.page.evaluate(VALUE, [REDRAW, name])

    def type(self, name: str, value: Any) -> None:
        self.page.evaluate(TYPE, [REDRAW, name, value])

    def layers(self) -> list[tuple[str, str]]:
        """Press Run; of each layer, as the server keeps it for the panel, the files of its colours and its mask."""
        entry = self.press_run()
        (payload,) = entry["outputs"][str(REDRAW)]["layer_panel"]
        files = [(layer["colour"]["filename"], layer["coverage"]["filename"]) for layer in payload["layers"]]
        self.page.wait_for_function(HEARD, arg=[REDRAW, json.dumps(files, separators=(",", ":"))])
        self.panel.locator(".stage canvas").wait_for()
        return files

    def free(self, count: int) -> None:
        """Wait until the panel shows this number of layers that the next run redraws."""
        expect(self.panel.locator(".brush.on")).to_have_count(count)

    def brush(self, label: str) -> Locator:
        return self.panel.locator(".brush").and_(self.page.get_by_label(label, exact=True))


pytestmark = every_page


@pytest.fixture
def workflow() -> dict[str, Any]:
    """With few steps, and a seed of its own: what a run need not draw again the page is not told of."""
    workflow: dict[str, Any] = json.loads(WORKFLOW.read_text("utf-8"))
    for node in workflow["nodes"]:
        if node["id"] == SAMPLER:
            node["widgets_values"][0], node["widgets_values"][2] = next(SEEDS), 2
        elif node["id"] == REDRAW:
            node["widgets_values"][0], node["widgets_values"][4] = "", 2
    return workflow


@pytest.fixture
def redrawing(page: Page, page_server: Server, workflow: dict[str, Any], errors: list[str]) -> Iterator[RedrawPage]:
    redrawing = RedrawPage(page, page_server)
    page.evaluate(LOAD, workflow)
    page.evaluate(VIEW, REDRAW)
    redrawing.panel.wait_for()
    errors.clear()
    yield redrawing
    assert errors == []


def test_only_the_layer_that_is_free_changes(redrawing: RedrawPage, kind: Kind) -> None:
    before = redrawing.layers()
    redrawing.page.get_by_text("No layer is set to be redrawn").first.wait_for()
    redrawing.free(0)
    redrawing.brush("Redraw bear at the next run").click()
    assert redrawing.value("redraw") == "2"
    redrawing.brush("Keep bear at the next run").wait_for()
    drawn = redrawing.layers()
    assert drawn[:2] == before[:2] and drawn[2] != before[2]
    redrawing.row("snowman").wait_for()
    # Another seed for the snowman alone, and then for the tree alone.
    redrawing.type("seed", 77)
    again = redrawing.layers()
    assert again[:2] == before[:2] and again[2] not in (before[2], drawn[2])
    redrawing.brush("Keep snowman at the next run").click()
    redrawing.brush("Redraw tree at the next run").click()
    assert redrawing.value("redraw") == "1"
    other = redrawing.layers()
    assert (other[0], other[2]) == (before[0], before[2]) and other[1] != before[1]
    PICTURES.mkdir(exist_ok=True)
    redrawing.page.evaluate(DRAWN)
    redrawing.page.screenshot(path=PICTURES / f"redraw_{'nodes_2' if kind.nodes_2 else 'canvas'}.png")


def test_what_is_free_travels_in_the_workflow_and_follows_the_text(redrawing: RedrawPage, errors: list[str]) -> None:
    redrawing.layers()
    redrawing.type("redraw", "Bear, 0")
    redrawing.free(2)
    redrawing.brush("Redraw tree at the next run").click()
    assert redrawing.value("redraw") == "0, 1, 2"
    redrawing.brush("Keep background at the next run").click()
    saved = redrawing.page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    prompt = redrawing.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert prompt[str(REDRAW)]["inputs"]["redraw"] == "1, 2"
    redrawing.page.reload()
    wait_until_ready(redrawing.page)
    # What ComfyUI's own page complains of while it starts.
    errors.clear()
    redrawing.page.evaluate(LOAD, saved)
    redrawing.page.evaluate(VIEW, REDRAW)
    assert redrawing.value("redraw") == "1, 2"
    redrawing.panel.locator(".stage canvas").wait_for()
    redrawing.brush("Keep tree at the next run").wait_for()
    redrawing.free(2)


def test_the_page_takes_a_brush_back(redrawing: RedrawPage) -> None:
    redrawing.layers()
    before = redrawing.page.evaluate(STEPS_BACK)
    redrawing.brush("Redraw tree at the next run").click()
    redrawing.page.wait_for_function(f"before => ({STEPS_BACK})() > before", arg=before)
    redrawing.page.evaluate("() => app.extensionManager.command.execute('Comfy.Undo')")
    redrawing.page.wait_for_function(f"args => ({VALUE})(args) === ''", arg=[REDRAW, "redraw"])
    redrawing.brush("Redraw tree at the next run").wait_for()


def test_a_layer_that_the_node_adds_is_always_drawn(redrawing: RedrawPage) -> None:
    redrawing.layers()
    redrawing.type("add_at", 9)
    brush = redrawing.brush("bear is added by this node")
    brush.wait_for()
    assert brush.is_disabled() and "on" in (brush.get_attribute("class") or "")
