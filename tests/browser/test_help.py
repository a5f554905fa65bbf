"""The page shows a node's help with its picture."""

from playwright.sync_api import Page

NODE = "LayerDiffSetLayer"
# The node lies where no bar of the page does, so that it can be pressed.
SHOW = """type => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [400, 300];
}"""
TITLE = (460, 285)


def test_the_help_panel_shows_the_picture_of_the_node(page: Page) -> None:
    page.evaluate(SHOW, NODE)
    help_button = page.get_by_test_id("info-button")
    # A page that has just opened misses the first press.
    for _ in range(10):
        page.mouse.click(*TITLE)
        page.wait_for_timeout(1000)
        if help_button.is_visible():
            break
    help_button.click()
    picture = page.locator(f".node-help-content img[src$='{NODE}.webp']")
    picture.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
