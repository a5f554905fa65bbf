"""A new user's first minutes, and how many clicks they take: seeing layers, saving a PSD, changing a layer."""

import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page

from layerdiff_core.files.psd import read_psd
from tests.browser.kinds import every_page
from tests.browser.panel_page import PanelPage
from tools.host import Server
from tools.page import wait_until_ready

pytestmark = every_page
SHOWN_LAYERS = ".layerdiff-panel.open .row"


class Clicks:
    """Counts the user's clicks."""

    def __init__(self) -> None:
        self.count = 0

    def on(self, place: Locator) -> None:
        place.click()
        self.count += 1


@pytest.fixture(scope="module")
def started(page: Page, page_server: Server) -> tuple[Page, Server, int]:
    """The page after a new user's first run, and the number of clicks."""
    page.reload()
    wait_until_ready(page)
    clicks = Clicks()
    clicks.on(page.get_by_role("button", name="Templates").first)
    clicks.on(page.get_by_role("dialog").get_by_text("layerdiff", exact=True).first)
    clicks.on(page.get_by_role("dialog").get_by_text("text_to_layers", exact=True).first)
    page.get_by_role("dialog").wait_for(state="hidden")
    clicks.on(page.get_by_test_id("queue-button"))
    page.locator(SHOWN_LAYERS).nth(2).wait_for(timeout=120_000)
    return page, page_server, clicks.count


def test_four_clicks_to_the_layers(started: tuple[Page, Server, int]) -> None:
    page, server, clicks = started
    assert clicks <= 4
    shown = PanelPage(page, server).shown()
    assert shown.std() > 20 and [row.inner_text() for row in page.locator(SHOWN_LAYERS).all()] == ["bear", "tree", "background"]


def test_three_more_to_a_psd_on_the_disk(started: tuple[Page, Server, int]) -> None:
    page, server, _ = started
    clicks = Clicks()
    with page.expect_download() as download:
        clicks.on(page.locator(".layerdiff-results").get_by_text("Download").first)
    assert clicks.count <= 3 and re.fullmatch(r"layers_\d+_\.psd", download.value.suggested_filename)
    assert [layer.name for layer in read_psd(download.value.path()).layers] == ["background", "tree", "bear"]


def test_four_to_one_layer_changed_and_saved(started: tuple[Page, Server, int]) -> None:
    page, server, _ = started
    panel, clicks = PanelPage(page, server), Clicks()
    before = panel.shown()
    clicks.on(panel.button("Hide tree"))
    clicks.count += 1
    entry = panel.press_run()
    assert clicks.count <= 4
    saved = [output["images"][0] for output in entry["outputs"].values()
             if output.get("images") and output["images"][0]["type"] == "output"]
    picture = np.asarray(Image.open(BytesIO(server.client.download(saved[0]))).convert("RGB")).astype(int)
    assert np.abs(picture - before).max() > 50 and np.abs(picture - panel.shown()).max() <= 2
