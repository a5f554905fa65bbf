"""Warnings are shown on their node, and disappear when they no longer apply."""


import pytest
from playwright.sync_api import Page

from tests.browser.kinds import Kind, every_page
from tests.browser.panel_page import PanelPage, example
from tools.host import Server
from tools.page import wait_until_ready

pytestmark = [every_page, pytest.mark.usefixtures("no_errors")]

PROMPTS, LATENT = 2, 3
SET = """([id, name, value]) => { app.graph.getNodeById(id).widgets.find((widget) => widget.name === name).value = value; }"""
SAID = """id => app.graph.getNodeById(id).widgets.find(({ name }) => name === "warnings")?.element.textContent ?? "" """
SHOWN = f"([id, text]) => (({SAID})(id)).includes(text)"
VALUES = "() => app.graph.serialize().nodes.map((node) => node.widgets_values?.length ?? 0)"


def test_a_warning_comes_stays_after_a_reload_and_goes(page: Page, page_server: Server, kind: Kind, errors: list[str]) -> None:
    panel = PanelPage(page, page_server)
    panel.load(example(steps=1, seed=60 + 2 * kind.newest + kind.nodes_2))
    before = page.evaluate(VALUES)
    for node, name, value in ((PROMPTS, "layer_prompts", "background: a beach\ntree: a zeppelin\nbear: a teddy bear"),
                              (LATENT, "width", 32), (LATENT, "height", 32)):
        page.evaluate(SET, [node, name, value])
    panel.press_run()
    page.wait_for_function(SHOWN, arg=[PROMPTS, "zeppelin"])
    page.wait_for_function(SHOWN, arg=[LATENT, "32 x 32"])
    # A warning is not one of the node's values.
    assert page.evaluate(VALUES) == before
    assert page.locator(".layerdiff-warnings", has_text="zeppelin").first.evaluate("element => element.isConnected")
    workflow = page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    page.reload()
    wait_until_ready(page)
    errors.clear()
    panel.load(workflow)
    page.wait_for_function(SHOWN, arg=[PROMPTS, "zeppelin"])
    page.evaluate(SET, [PROMPTS, "layer_prompts", "background: a beach\ntree: a palm tree\nbear: a teddy bear"])
    panel.press_run()
    page.wait_for_function(f"id => ({SAID})(id) === ''", arg=PROMPTS)
    assert page.evaluate(SHOWN, [LATENT, "32 x 32"])
