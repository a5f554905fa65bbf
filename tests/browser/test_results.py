"""Files in the page: those written by Export Layers to File, and those dropped on the page."""

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from layerdiff_core.files.ora import read_ora, write_ora
from layerdiff_core.files.png_folder import write_png_folder
from layerdiff_core.files.psd import read_psd
from tests.browser.kinds import every_page
from tests.browser.panel_page import PanelPage
from tests.documents import mixed_document
from tools import setup
from tools.host import Server

pytestmark = [every_page, pytest.mark.usefixtures("no_errors")]

EXPORT = 7
SAMPLER = 4
# Files are made in the page, so that the test is free of what a real drag would need.
DROP = """async (files) => {
    const dataTransfer = new DataTransfer();
    for (const [name, data] of files) {
        const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
        dataTransfer.items.add(new File([bytes], name));
    }
    const canvas = document.querySelector("#graph-canvas");
    const [clientX, clientY] = [1500, 700];
    const event = new DragEvent("drop", { dataTransfer, clientX, clientY, bubbles: true, cancelable: true });
    canvas.dispatchEvent(event);
    return event.defaultPrevented;
}"""
TYPES = "() => app.graph.nodes.map((node) => node.type)"
IMPORTED = "() => app.graph.nodes.find((node) => node.type === 'LayerDiffImportLayers')?.widgets[0].value"
UPLOADED = f"name => ({IMPORTED})()?.endsWith(name)"
EMPTY = "() => { app.graph.clear(); }"


def workflow(format: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((setup.ROOT / "workflows" / "layers_to_psd.json").read_text("utf-8"))
    by_id = {node["id"]: node for node in loaded["nodes"]}
    by_id[SAMPLER]["widgets_values"][2] = 1
    by_id[EXPORT]["widgets_values"][1] = format
    return loaded


@pytest.fixture
def exported(page: Page, page_server: Server, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The example, run with the test's format, and the files listed by the server."""
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow(request.param))
    entry = PanelPage(page, page_server).press_run()
    page.evaluate("""id => {
        const node = app.graph.getNodeById(id);
        [app.canvas.ds.scale, app.canvas.ds.offset] = [1, [500 - node.pos[0], 110 - node.pos[1]]];
        app.canvas.setDirty(true, true);
    }""", EXPORT)
    files: list[dict[str, Any]] = entry["outputs"][str(EXPORT)]["files"]
    return files


@pytest.mark.parametrize("exported", ["psd", "ora", "png folder", "animation"], indirect=True)
def test_files_are_listed_with_size_and_download(page: Page, page_server: Server, exported: list[dict[str, Any]]) -> None:
    rows = page.locator(".layerdiff-results li")
    rows.first.wait_for()
    assert [row.locator(".name").inner_text() for row in rows.all()] == [file["filename"] for file in exported]
    for file, row in zip(exported, rows.all()):
        path = page_server.data / "output" / file["subfolder"] / file["filename"]
        with page.expect_download() as download:
            row.get_by_text("Download").click()
        assert Path(download.value.path()).read_bytes() == path.read_bytes()
        assert download.value.suggested_filename == path.name
        assert file["size"] == path.stat().st_size
        number, unit = row.locator(".size").inner_text().split()
        factor = {"bytes": 1, "kB": 1e3, "MB": 1e6}[unit]
        assert float(number) * factor == pytest.approx(path.stat().st_size, abs=0.06 * factor)
    page.wait_for_function("id => app.graph.getNodeById(id).imgs?.length || app.nodeOutputs[id].images.length", arg=EXPORT)


@pytest.mark.parametrize("exported", ["psd", "ora"], indirect=True)
def test_a_file_dropped_on_the_canvas_opens_its_workflow(page: Page, page_server: Server, exported: list[dict[str, Any]]) -> None:
    path = page_server.data / "output" / exported[0]["subfolder"] / exported[0]["filename"]
    types = page.evaluate(TYPES)
    page.evaluate(EMPTY)
    assert drop(page, path)
    page.wait_for_function("count => app.graph.nodes.length === count", arg=len(types))
    assert page.evaluate(TYPES) == types


def test_a_file_without_a_workflow_offers_an_import_node(page: Page, page_server: Server, tmp_path: Path) -> None:
    page.evaluate(EMPTY)
    path = tmp_path / f"{uuid.uuid4().hex}.ora"
    write_ora(mixed_document(3), path, {})
    assert drop(page, path)
    page.wait_for_function(UPLOADED, arg=path.name)
    sent = page_server.data / "input" / page.evaluate(IMPORTED)
    assert sent.read_bytes() == path.read_bytes() and len(read_ora(sent).layers) == 3
    sent.unlink()


def test_a_slow_upload_says_that_it_goes_on(page: Page, page_server: Server, tmp_path: Path) -> None:
    page.evaluate(EMPTY)
    path = tmp_path / f"{uuid.uuid4().hex}.ora"
    write_ora(mixed_document(3), path, {})
    held: list[Route] = []
    page.route("**/upload/image", lambda route: held.append(route))
    assert drop(page, path)
    page.get_by_text(f"Uploading {path.name}").last.wait_for()
    held.pop().continue_()
    page.wait_for_function(UPLOADED, arg=path.name)
    page.unroute("**/upload/image")
    (page_server.data / "input" / page.evaluate(IMPORTED)).unlink()


def test_a_damaged_file_offers_an_import_node_too(page: Page, page_server: Server, tmp_path: Path) -> None:
    page.evaluate(EMPTY)
    path = tmp_path / f"{uuid.uuid4().hex}.psd"
    path.write_bytes(b"8BPS" + bytes(30))
    assert drop(page, path)
    page.wait_for_function(UPLOADED, arg=path.name)
    (page_server.data / "input" / page.evaluate(IMPORTED)).unlink()


def test_a_folder_of_png_comes_back_through_the_page(page: Page, page_server: Server, tmp_path: Path) -> None:
    page.evaluate(EMPTY)
    document = mixed_document(3)
    write_png_folder(document, tmp_path / "layers", {})
    assert drop(page, *sorted((tmp_path / "layers").iterdir()))
    page.wait_for_function(UPLOADED, arg="/layers.json")
    page.evaluate("""() => {
        const importer = app.graph.nodes[0], save = LiteGraph.createNode("LayerDiffExportLayers");
        app.graph.add(save);
        save.widgets.find((widget) => widget.name === "filename_prefix").value = "from_folder";
        importer.connect(0, save, 0);
    }""")
    entry = PanelPage(page, page_server).press_run()
    (files,) = [output["files"] for output in entry["outputs"].values() if "files" in output]
    back = read_psd(page_server.data / "output" / files[0]["filename"])
    assert [layer.name for layer in back.layers] == [layer.name for layer in document.layers]


def test_files_of_others_are_left_to_the_page(page: Page, tmp_path: Path) -> None:
    saved = page.evaluate("() => JSON.stringify(app.graph.serialize())")
    (tmp_path / "flow.json").write_text(saved)
    page.evaluate(EMPTY)
    drop(page, tmp_path / "flow.json")
    page.wait_for_function("count => app.graph.nodes.length === count", arg=len(json.loads(saved)["nodes"]))


def drop(page: Page, *paths: Path) -> bool:
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    return bool(page.evaluate(DROP, files))
