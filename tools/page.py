"""ComfyUI's real page in a headless Chromium, for the page tests and the node images."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from . import browser
from .host import Server

WIDTH, HEIGHT = 1750, 950
# The page opens with one of ComfyUI's workflows. Until it is loaded, it would replace anything a test puts on the canvas.
READY = """() => window.app?.extensionManager && window.LiteGraph?.registered_node_types.LayerDiffLoadModel
           && document.querySelector("canvas") && window.app.graph?.nodes.length"""
# Otherwise the page shows new users its templates on top of the graph, and opens the panel that was open last time.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.RightSidePanel.IsOpen": False}
NODES_2 = "Comfy.VueNodes.Enabled"


def wait_until_ready(page: Page) -> None:
    """Wait for a page that loads or reloads. On a busy machine this takes longer than Playwright's usual 30 seconds."""
    page.wait_for_function(READY, timeout=120_000)


@contextmanager
def open_page(server: Server, chromium: Path, pixels: int = 1, nodes_2: bool = False) -> Iterator[Page]:
    """The page of `server`, ready for use, in the browser `chromium`. pixels: screen pixels per CSS pixel.

    nodes_2: whether the page renders nodes as elements (its setting Nodes 2.0) rather than on a canvas.
    """
    server.client.post("/settings", {**SETTINGS, NODES_2: nodes_2})
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=chromium, args=list(browser.FLAGS))
        page = window.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=pixels)
        page.goto(server.client.address)
        wait_until_ready(page)
        page.wait_for_function("on => Boolean(LiteGraph.vueNodesMode) === on", arg=nodes_2)
        yield page
        window.close()
