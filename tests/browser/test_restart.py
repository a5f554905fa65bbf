"""A restarted server has forgotten the layers: the panel says what to do, and Run does it."""

import numpy as np
from playwright.sync_api import Page

from tests.browser.panel_page import NEAR, PanelPage, example
from tools.host import Server
from tools.page import HEIGHT, SETTINGS, WIDTH, wait_until_ready


def test_after_a_restart_the_panel_says_run_and_run_does_it(page: Page) -> None:
    server = Server("tests_restart")
    chromium = page.context.browser
    assert chromium is not None
    window = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    panel = PanelPage(window, server)
    workflow = example(steps=1, seed=50)
    with server:
        server.client.post("/settings", SETTINGS)
        window.goto(server.client.address)
        wait_until_ready(window)
        panel.load(workflow)
        panel.run()
        panel.button("Hide tree").click()
        shown = panel.shown()
        workflow = window.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    with server:
        window.reload()
        wait_until_ready(window)
        panel.load(workflow)
        assert panel.panel.locator(".empty").inner_text() == "Run the workflow to see the layers here. Your edits are kept."
        assert np.abs(panel.run().astype(int) - panel.shown()).max() <= NEAR
        assert np.array_equal(panel.shown(), shown)
    window.close()
