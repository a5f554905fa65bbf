"""The pack's layers in ComfyUI's own layer editor, which exists since 0.31 with Nodes 2.0."""

import importlib.util

import pytest
from playwright.sync_api import Page

from tests.browser.kinds import KINDS
from tests.browser.panel_page import DECODE, VIEW, PanelPage, example
from tools.host import Server

ADD = """id => {
    const decode = app.graph.getNodeById(id);
    const editor = LiteGraph.createNode("ImageCompositor");
    // Where no other node lies.
    editor.pos = [decode.pos[0], decode.pos[1] + 2000];
    app.graph.add(editor);
    const slot = (sockets) => sockets.findIndex((socket) => socket.name === "layers");
    decode.connect(slot(decode.outputs), editor, slot(editor.inputs));
    return editor.id;
}"""

needs_node = pytest.mark.skipif(importlib.util.find_spec("comfy_extras.nodes_compositor") is None,
                                reason="This ComfyUI has no node with the layer editor; it came with 0.31.")
pytestmark = pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.nodes_2],
                                     ids=[name for name, kind in KINDS.items() if kind.nodes_2], indirect=True, scope="module")


@needs_node
def test_the_editor_opens_with_our_layers(page: Page, page_server: Server) -> None:
    panel = PanelPage(page, page_server)
    panel.load(example(steps=2, seed=7))
    added = page.evaluate(ADD, DECODE)
    panel.run()
    page.evaluate(VIEW, added)
    page.get_by_role("button", name="Open Compositor").click()
    editor = page.get_by_role("dialog")
    editor.get_by_text("bear").first.wait_for()
    said = editor.inner_text()
    # Top layer first.
    assert -1 < said.index("bear") < said.index("tree") < said.index("background") < said.index("Background")
    page.keyboard.press("Escape")


SAVE = 6
OPEN = """id => {
    app.canvas.deselectAll();
    app.canvas.selectNode(app.graph.getNodeById(id));
    return app.extensionManager.command.execute("Comfy.LayerEditor.OpenLayerEditor");
}"""


@pytest.mark.parametrize("node", [DECODE, SAVE])
def test_the_editor_takes_the_layers_alone_from_nodes_that_show_them(page: Page, page_server: Server, node: int) -> None:
    if page.evaluate("() => !app.extensionManager.command.commands.some(({ id }) => id.includes('LayerEditor'))"):
        pytest.skip("This page has no layer editor for a node's pictures.")
    panel = PanelPage(page, page_server)
    panel.load(example(steps=2, seed=7))
    panel.run()
    page.evaluate(VIEW, DECODE)
    # The panel shows the images, so the node does not show them again.
    assert page.locator(f"[data-node-id='{DECODE}'] .image-preview").count() == 0
    page.evaluate(OPEN, node)
    editor = page.get_by_role("dialog")
    editor.get_by_text("bear", exact=True).first.wait_for()
    said = editor.inner_text().splitlines()
    assert [line for line in said if line in ("bear", "tree", "background")][:3] == ["bear", "tree", "background"]
    assert not any("composite" in line for line in said)
    page.keyboard.press("Escape")
