"""The layer panel gets its layers back: after a reload, in a second tab, in a subgraph, from a cached run."""

import uuid

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.browser.kinds import Kind, every_page
from tests.browser.panel_page import DECODE, NEAR, PanelPage, example
from tools.host import Server
from tools.page import HEIGHT, WIDTH, wait_until_ready

pytestmark = [every_page, pytest.mark.usefixtures("no_errors")]

SERIALIZED = "() => JSON.parse(JSON.stringify(app.graph.serialize()))"
NEST = """id => {
    const { subgraph, node } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
    return node.id;
}"""
ENTER = """id => {
    const node = app.graph.getNodeById(id);
    app.canvas.openSubgraph(node.subgraph, node);
}"""
SEE = """() => {
    const node = app.canvas.graph.nodes.find((each) => each.type === "LayerDiffDecodeLayers");
    [app.canvas.ds.scale, app.canvas.ds.offset] = [1, [500 - node.pos[0], 110 - node.pos[1]]];
    app.canvas.setDirty(true, true);
}"""


@pytest.fixture(scope="module")
def panel(page: Page, page_server: Server, kind: Kind) -> PanelPage:
    """The example after a run."""
    panel = PanelPage(page, page_server)
    panel.load(example(steps=1, seed=40 + 2 * kind.newest + kind.nodes_2))
    panel.run()
    return panel


def reload(panel: PanelPage, errors: list[str]) -> None:
    panel.page.reload()
    wait_until_ready(panel.page)
    # Errors of ComfyUI's own page while it starts.
    errors.clear()


def test_after_a_reload(panel: PanelPage, errors: list[str]) -> None:
    panel.button("Hide tree").click()
    shown = panel.shown()
    workflow = panel.page.evaluate(SERIALIZED)
    reload(panel, errors)
    panel.load(workflow)
    panel.panel.locator(".stage canvas").wait_for()
    assert np.array_equal(panel.shown(), shown)
    # What is done now counts: the edits before the reload were not thrown away, nor are these.
    panel.button("Hide bear").click()
    assert panel.edits()["layers"] == {"1": {"visible": False}, "2": {"visible": False}}
    assert np.abs(panel.run().astype(int) - panel.shown()).max() <= NEAR
    panel.reset()


def test_the_server_is_asked_once_and_for_little(panel: PanelPage, errors: list[str]) -> None:
    """The page recreates its nodes on every undo, which must not cost any requests over a slow connection."""
    workflow = panel.page.evaluate(SERIALIZED)
    reload(panel, errors)
    asked: list[str] = []
    panel.page.on("request", lambda request: asked.append(request.url) if "/jobs" in request.url or "/history" in request.url
                  else None)
    for _ in range(4):
        panel.load(workflow)
        panel.panel.locator(".stage canvas").wait_for()
    ours = [url for url in asked if "workflow_id=" in url]
    assert len(ours) == 1
    assert not any("/history" in url for url in asked)


def test_from_a_cached_run(panel: PanelPage, errors: list[str]) -> None:
    panel.run()
    workflow = panel.page.evaluate(SERIALIZED)
    reload(panel, errors)
    # Under another id ComfyUI's history does not know the workflow, so that Run alone can bring the layers.
    panel.load(workflow | {"id": str(uuid.uuid4())})
    assert panel.panel.locator(".stage canvas").is_hidden()
    assert "Run" in panel.panel.locator(".empty").inner_text()
    panel.page.get_by_test_id("queue-button").click()
    panel.panel.locator(".stage canvas").wait_for()
    panel.load(workflow)


def test_in_a_second_tab(panel: PanelPage, page_server: Server, errors: list[str]) -> None:
    workflow = panel.page.evaluate(SERIALIZED)
    shown = panel.shown()
    chromium = panel.page.context.browser
    assert chromium is not None
    other = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    other.goto(page_server.client.address)
    wait_until_ready(other)
    second = PanelPage(other, page_server)
    second.load(workflow)
    second.panel.locator(".stage canvas").wait_for()
    assert np.array_equal(second.shown(), shown)
    other.close()


def enter(panel: PanelPage, outer: int) -> None:
    """Open a subgraph and wait until its panel is in view and has its layers."""
    panel.page.evaluate(ENTER, outer)
    for _ in range(120):
        # The page moves the view once more when the subgraph has been drawn.
        panel.page.wait_for_timeout(500)
        panel.page.evaluate(SEE)
        if panel.panel.locator(".stage canvas").is_visible():
            return
    pytest.fail("the panel in the subgraph has no layers")


def test_in_a_subgraph(panel: PanelPage, errors: list[str]) -> None:
    page = panel.page
    shown = panel.shown()
    workflow = page.evaluate(SERIALIZED)
    outer = page.evaluate(NEST, DECODE)
    panel.press_run()
    enter(panel, outer)
    assert np.array_equal(panel.shown(), shown)
    nested = page.evaluate("() => JSON.parse(JSON.stringify(app.rootGraph.serialize()))")
    reload(panel, errors)
    page.evaluate("workflow => app.loadGraphData(workflow)", nested)
    enter(panel, outer)
    assert np.array_equal(panel.shown(), shown)
    page.evaluate("() => app.canvas.setGraph(app.rootGraph)")
    panel.load(workflow)


def test_another_workflow_whose_node_has_the_same_id_shows_its_own(panel: PanelPage, errors: list[str]) -> None:
    workflow, shown = panel.page.evaluate(SERIALIZED), panel.shown()
    panel.load(workflow | {"id": str(uuid.uuid4())})
    panel.change_seed(1)
    other = panel.run()
    assert np.abs(other.astype(int) - panel.shown()).max() <= NEAR and np.abs(other.astype(int) - shown).max() > 20
    panel.load(workflow)
    panel.panel.locator(".stage canvas").wait_for()
    assert np.array_equal(panel.shown(), shown)
