"""What the page asks the server for: help pages and the English locale."""

import json
from pathlib import Path

import pytest

from tools import locales, setup
from tools.host import Server

PAGES = sorted((setup.ROOT / "web" / "docs").glob("*.md"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_help_page_is_where_the_page_looks_for_it(server: Server, path: Path) -> None:
    assert server.client.get_bytes(f"/extensions/layerdiff/docs/{path.name}") == path.read_bytes()


def test_the_host_has_read_the_locale(server: Server) -> None:
    nodes = server.client.get("/i18n")["en"]["nodeDefs"]
    ours = {name: text for name, text in nodes.items() if name.startswith("LayerDiff")}
    assert ours == json.loads((locales.ENGLISH / "nodeDefs.json").read_text("utf-8"))
