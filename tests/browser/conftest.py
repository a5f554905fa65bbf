"""ComfyUI's real page in a headless Chromium."""

import os
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Page

from tests.browser.kinds import Kind
from tests.browser.panel_page import heard
from tools import browser, front_end
from tools.host import Server
from tools.page import open_page

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")


@pytest.fixture(scope="session")
def newest_server() -> Iterator[Server]:
    """A second server, with the newest frontend."""
    if not (front_end.root() / "index.html").is_file():
        pytest.skip("The newest page is not here; dev.py test fetches it where COMFYUI_PATH is not set.")
    with Server(f"tests_newest_page{WORKER}", "--front-end-root", str(front_end.root())) as running:
        yield running


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which page a test gets: the one bundled with ComfyUI, unless the test asks for all."""
    return getattr(request, "param", Kind())


@pytest.fixture(scope="module")
def page_server(kind: Kind, request: pytest.FixtureRequest) -> Server:
    """The server of the page."""
    return request.getfixturevalue("newest_server" if kind.newest else "server")


@pytest.fixture(scope="module")
def page(page_server: Server, kind: Kind) -> Iterator[Page]:
    """The page, ready for use.

    Not for the whole session, because while Playwright is open no test can run its own event loop.
    """
    chromium = browser.find()
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail(browser.MISSING)
        pytest.skip(browser.MISSING)
    # ComfyUI's own input folder has an image of this name.
    Image.new("RGB", (64, 48), "teal").save(page_server.data / "input" / "example.png")
    with open_page(page_server, chromium, nodes_2=kind.nodes_2) as page:
        yield page


@pytest.fixture(scope="module")
def errors(page: Page) -> list[str]:
    """What the page's console has reported about the pack as an error since it was ready."""
    return heard(page)


@pytest.fixture
def no_errors(errors: list[str]) -> Iterator[None]:
    """The page must not have complained about the pack when a test is over."""
    errors.clear()
    yield
    assert errors == []
