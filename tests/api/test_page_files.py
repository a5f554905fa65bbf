"""What the page gets from the server: help pages, thumbnails of workflows, the English locale, the layer panel's layers."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests import models
from tests.api.graphs import STARTER, changed, layered, node
from tools import locales, setup
from tools.host import Server

DOCS = setup.ROOT / "web" / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("images/*")])
WORKFLOWS = sorted((setup.ROOT / "workflows").glob("*.json"))
LARGEST_PICTURE_BYTES = 200_000


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_help_page_or_its_picture_is_where_the_page_looks_for_it(server: Server, path: Path) -> None:
    assert server.client.get_bytes(f"/extensions/layerdiff/docs/{path.relative_to(DOCS).as_posix()}") == path.read_bytes()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_its_picture_where_the_page_looks_for_it(server: Server, path: Path) -> None:
    picture = path.with_suffix(".jpg")
    assert picture.stat().st_size < LARGEST_PICTURE_BYTES
    assert server.client.get_bytes(f"/api/workflow_templates/layerdiff/{picture.name}") == picture.read_bytes()


def test_the_host_has_read_the_locale(server: Server) -> None:
    nodes = server.client.get("/i18n")["en"]["nodeDefs"]
    ours = {name: text for name, text in nodes.items() if name.startswith("LayerDiff")}
    assert ours == json.loads((locales.ENGLISH / "nodeDefs.json").read_text("utf-8"))


def test_a_run_that_has_nothing_to_do_gives_the_panel_its_layers_again(pack: ModuleType, server: Server,
                                                                       served_models: Path) -> None:
    """A reloaded page has lost them."""
    models.write_starter(pack, served_models / STARTER)
    graph = changed(layered(), {
        "6": node("LayerDiffCompositeLayers", layers=["5", 0], colour_space="display", edits=""),
        "7": node("SaveImage", images=["6", 0], filename_prefix="again"),
    })  # fmt: skip
    first, again = server.client.run(graph).outputs, server.client.run(graph).outputs
    for panel in ("5", "6"):
        assert again[panel]["layer_panel"] == first[panel]["layer_panel"] != []
