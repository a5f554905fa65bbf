"""The host's real page in a headless Chromium."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tools import browser
from tools.host import Server
from tools.page import open_page


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
    with open_page(server, chromium) as page:
        yield page
