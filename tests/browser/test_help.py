"""The page shows a node's help with its picture."""

from playwright.sync_api import Page

NODE = "LayerDiffSetLayer"
# The node lies where no bar of the page does, so that the buttons over it can be pressed.
SELECT = """type => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [400, 300];
    app.canvas.selectItems([node]);
}"""


def test_the_help_panel_shows_the_picture_of_the_node(page: Page) -> None:
    page.evaluate(SELECT, NODE)
    page.get_by_test_id("info-button").click()
    picture = page.locator(f".node-help-content img[src$='{NODE}.webp']")
    picture.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
