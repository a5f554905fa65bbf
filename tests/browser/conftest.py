"""The host's real page in a headless Chromium."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tools import browser
from tools.host import Server

READY = """() => window.app?.extensionManager && window.LiteGraph?.registered_node_types.LayerDiffLoadModel
           && document.querySelector("canvas")"""


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    """The page of the server, ready for use.

    Not for the whole session: while Playwright is open no test can run an event loop of its own.
    """
    chromium = browser.find()
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail(browser.MISSING)
        pytest.skip(browser.MISSING)
    # Else the page greets a new user with its templates, over the graph.
    server.client.post("/settings/Comfy.TutorialCompleted", True)
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=chromium, args=list(browser.FLAGS))
        page = window.new_page(viewport={"width": 1750, "height": 950})
        page.goto(server.client.address)
        page.wait_for_function(READY, timeout=120_000)
        yield page
        window.close()
