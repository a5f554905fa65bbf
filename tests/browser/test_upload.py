"""A layered file comes from the user's computer into the import node."""

import base64
import uuid
from pathlib import Path

from playwright.sync_api import Page

from layerdiff_core.files.ora import write_ora
from tests.documents import mixed_document
from tools.host import Server

ADD = """() => {
    app.graph.clear();
    window.importer = LiteGraph.createNode("LayerDiffImportLayers");
    app.graph.add(window.importer);
}"""
PRESS = "() => window.importer.widgets.find((widget) => widget.type === 'button').callback()"
CHOSEN = "name => window.importer.widgets[0].value === name && window.importer.widgets[0].options.values.includes(name)"
DROP = """async ({name, data}) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
    transfer.items.add(new File([bytes], "notes.txt"));
    transfer.items.add(new File([bytes], name));
    const event = {dataTransfer: transfer};
    return window.importer.onDragOver(event) && await window.importer.onDragDrop(event);
}"""


def test_the_button_uploads_a_file(page: Page, server: Server, tmp_path: Path) -> None:
    file = tmp_path / f"{uuid.uuid4().hex}.ora"
    write_ora(mixed_document(3), file, {})
    page.evaluate(ADD)
    with page.expect_file_chooser() as chooser:
        page.evaluate(PRESS)
    chooser.value.set_files(file)
    page.wait_for_function(CHOSEN, arg=file.name)
    assert (server.data / "input" / file.name).read_bytes() == file.read_bytes()
    assert page.evaluate("async () => (await app.graphToPrompt()).output[window.importer.id].inputs") == {"file": file.name}
    (server.data / "input" / file.name).unlink()


def test_a_file_can_be_dropped_on_the_node(page: Page, server: Server, tmp_path: Path) -> None:
    file = tmp_path / f"{uuid.uuid4().hex}.ora"
    write_ora(mixed_document(3), file, {})
    page.evaluate(ADD)
    assert page.evaluate(DROP, {"name": file.name, "data": base64.b64encode(file.read_bytes()).decode()})
    page.wait_for_function(CHOSEN, arg=file.name)
    assert (server.data / "input" / file.name).read_bytes() == file.read_bytes()
    (server.data / "input" / file.name).unlink()
