"""What must work in all pages that users have: bundled with ComfyUI or newest, with or without Nodes 2.0.

All in one file, so that each page, which is slow to open, is opened only once.
"""

import base64
import datetime
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from layerdiff_core.files.ora import write_ora
from tests.browser.kinds import Kind, every_page
from tests.browser.panel_page import DECODE, NEAR, VIEW, PanelPage, example
from tests.documents import mixed_document
from tools import setup
from tools.host import Server
from tools.page import wait_until_ready

pytestmark = [every_page, pytest.mark.usefixtures("no_errors")]

WORKFLOWS = sorted((setup.ROOT / "workflows").glob("*.json"))
TWINS = setup.ROOT / "tests" / "api"
LOAD = "workflow => window.app.loadGraphData(workflow)"
UNKNOWN = "() => window.app.graph.nodes.map(node => node.type).filter(type => !window.LiteGraph.registered_node_types[type])"
COUNT = "() => window.app.graph.nodes.length"
PROMPT = "async () => (await window.app.graphToPrompt()).output"


def test_nodes_are_drawn_as_the_test_means(page: Page, kind: Kind) -> None:
    page.evaluate("() => { app.graph.clear(); app.graph.add(LiteGraph.createNode('LayerDiffSetLayer')); }")
    page.wait_for_timeout(500)
    assert page.locator(".lg-node").count() == int(kind.nodes_2)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_loads_and_means_the_same_as_its_twin(page: Page, path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    page.evaluate(LOAD, workflow)
    assert page.evaluate(UNKNOWN) == []
    assert page.evaluate(COUNT) == len(workflow["nodes"])
    assert page.evaluate(PROMPT) == json.loads((TWINS / path.name).read_text("utf-8"))


# Two nodes are compared, ours with ComfyUI's.
NAMES = """async ([ours, prefix]) => {
    app.graph.clear();
    const picture = LiteGraph.createNode("EmptyImage");
    app.graph.add(picture);
    picture.widgets.find((widget) => widget.name === "width").value = 48;
    for (const type of [ours, "SaveImage"]) {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        const widget = node.widgets.find((each) => each.name === "filename_prefix");
        widget.value = prefix;
    }
    const prompt = Object.values((await app.graphToPrompt()).output);
    return prompt.filter((node) => "filename_prefix" in node.inputs).map((node) => node.inputs.filename_prefix);
}"""


@pytest.mark.parametrize("node", ["LayerDiffSaveLayers", "LayerDiffExportLayers"])
def test_names_of_files_are_filled_in_as_for_save_image(page: Page, node: str) -> None:
    names: list[Any] = page.evaluate(NAMES, [node, "%date:yyyy%/%EmptyImage.width%_x"])
    assert names[0] == names[1]
    assert names[0] in {f"{datetime.date.today().year + more}/48_x" for more in (0, -1)}


ADD = """() => {
    app.graph.clear();
    window.importer = LiteGraph.createNode("LayerDiffImportLayers");
    app.graph.add(window.importer);
    [app.canvas.ds.scale, app.canvas.ds.offset] = [1, [500 - window.importer.pos[0], 300 - window.importer.pos[1]]];
    app.canvas.setDirty(true, true);
}"""
BUTTON = "choose file to upload"
# Where it lies on the screen.
WIDGET = """label => {
    const { y } = window.importer.widgets.find((widget) => widget.name === label);
    return y && [500 + window.importer.size[0] / 2, 300 + y + 10];
}"""
CHOSEN = "name => window.importer.widgets[0].value === name && window.importer.widgets[0].options.values.includes(name)"
# What the browser sends to what lies under the pointer; whether the page says that it takes the files.
DROP = """([x, y, name, data]) => {
    const dataTransfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
    dataTransfer.items.add(new File([bytes], "notes.txt"));
    dataTransfer.items.add(new File([bytes], name));
    const send = (type) => {
        const event = new DragEvent(type, { dataTransfer, clientX: x, clientY: y, bubbles: true, cancelable: true });
        document.elementFromPoint(x, y).dispatchEvent(event);
        return event.defaultPrevented;
    };
    send("dragenter");
    return send("dragover") && send("drop");
}"""
TITLE = (600, 285)


@pytest.fixture
def file(page: Page, page_server: Server, tmp_path: Path) -> Any:
    """Upload a user's file to the import node on the page, which has it in the end."""
    file = tmp_path / f"{uuid.uuid4().hex}.ora"
    write_ora(mixed_document(3), file, {})
    page.evaluate(ADD)
    page.wait_for_timeout(500)
    yield file
    page.wait_for_function(CHOSEN, arg=file.name)
    sent = page_server.data / "input" / file.name
    assert sent.read_bytes() == file.read_bytes()
    assert page.evaluate("async () => (await app.graphToPrompt()).output[window.importer.id].inputs") == {"file": file.name}
    sent.unlink()


def test_the_button_uploads_a_file(page: Page, kind: Kind, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        if kind.nodes_2:
            page.get_by_role("button", name=BUTTON).click()
        else:
            page.mouse.click(*page.evaluate(WIDGET, BUTTON))
    chooser.value.set_files(file)


def test_a_file_can_be_dropped_on_the_node(page: Page, file: Path) -> None:
    assert page.evaluate(DROP, [*TITLE, file.name, base64.b64encode(file.read_bytes()).decode()])




def test_the_panel_opens_edits_and_keeps_what_was_edited(page: Page, page_server: Server, kind: Kind, errors: list[str]) -> None:
    """Run, edit with the mouse, run again, save, reopen: each time the page shows what the server computed."""
    panel = PanelPage(page, page_server)
    panel.load(example(steps=2, seed=int(kind.nodes_2)))
    assert np.abs(panel.run().astype(int) - panel.shown()).max() <= NEAR
    before = panel.shown()

    panel.button("Hide tree").click()
    panel.row("bear").locator(".pick").click()
    middle = panel.centre_of(panel.panel.locator(".box"))
    panel.drag(middle, (middle[0] - 40, middle[1] - 20))
    change = panel.edits()["layers"]
    assert change["1"] == {"visible": False} and change["2"]["right"] < -5 and change["2"]["down"] < -2
    assert np.abs(panel.shown().astype(int) - before).max() > 30
    assert np.abs(panel.run().astype(int) - panel.shown()).max() <= NEAR

    title = page.locator(".layerdiff-panel .title").first
    title.click()
    assert panel.panel.count() == 0
    title.click()
    panel.panel.locator(".stage canvas").wait_for()

    # Not run yet when it is saved.
    panel.panel.get_by_label("Blend mode").select_option("multiply")
    edits, shown = panel.edits(), panel.shown()
    assert edits["layers"]["2"]["blend_mode"] == "multiply"
    saved = page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    prompt = page.evaluate(PROMPT)
    assert json.loads(prompt[str(DECODE)]["inputs"]["edits"]) == edits
    page.reload()
    wait_until_ready(page)
    # Errors of ComfyUI's own page while it starts.
    errors.clear()
    panel.load(saved)
    assert panel.edits() == edits
    assert np.abs(panel.run().astype(int) - panel.shown()).max() <= NEAR
    assert np.array_equal(panel.shown(), shown)


# The service behind the page's node search: names of what a word finds, best first.
SEARCH = """words => document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s.get("nodeDef")
    .nodeSearchService.searchNode(words, [], { limit: 64 }).map((found) => found.name)"""
# The node, and among how many first. Once the page knows how often nodes are used, those come before others in this order.
FOUND = {
    "layer": ("SetLayer", 1), "text to layers": ("SMGKSampler", 1), "text2layer": ("LoadModel", 1),
    "regenerate": ("FreeLayers", 8), "redraw": ("RedrawLayers", 1), "regenerate layer": ("RedrawLayers", 2),
    "edit layer": ("RedrawLayers", 4), "inpaint layer": ("RedrawLayers", 2),
    "remove background layer": ("SetLayer", 1), "delete layer": ("SetLayer", 1),
    "rotate layer": ("SetLayer", 1), "alpha": ("DecodeLayers", 9), "split layers": ("DecodeLayers", 1),
    "merge layers": ("MergeLayers", 1), "photoshop": ("ExportLayers", 1), "halo": ("HealSeams", 5),
}  # fmt: skip


def test_the_words_that_users_have_find_the_nodes(page: Page) -> None:
    found = {words: page.evaluate(SEARCH, words) for words in FOUND}
    places = {words: found[words].index(f"LayerDiff{node}") for words, (node, _) in FOUND.items()}
    assert {words: place for words, place in places.items() if place >= FOUND[words][1]} == {}
    ours = [name for name in found["layer"] if name.startswith("LayerDiff")]
    # ComfyUI has nodes for layers of its own from 0.31 on; nothing else comes before one of ours.
    assert len(ours) == 30 and all("layer" in name.lower() for name in found["layer"][: found["layer"].index(ours[-1])])


# A node alone, where no bar of the page lies.
LINK = """([type]) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    [app.canvas.ds.scale, app.canvas.ds.offset] = [1, [700 - node.pos[0], 300 - node.pos[1]]];
    app.canvas.setDirty(true, true);
}"""
# Where on the screen its slot of this type is.
SLOT = """([side, slot]) => {
    const [node] = app.graph.nodes;
    const [x, y] = side === "output" ? node.getOutputPos(node.findOutputSlotByType(slot))
        : node.getInputPos(node.findInputSlotByType(slot));
    return [x + app.canvas.ds.offset[0], y + app.canvas.ds.offset[1] + app.canvas.canvas.getBoundingClientRect().top];
}"""
SUGGESTED = {
    ("LayerDiffDecodeLayers", "output", "LAYERS"): ["CompositeLayers", "SetLayer", "SaveLayers", "ExportLayers"],
    ("LayerDiffSaveLayers", "input", "LAYERS"): ["DecodeLayers", "ImportLayers", "SetLayer", "CompositeLayers"],
    ("LayerDiffEncodePrompts", "input", "LAYER_ENHANCER"): ["LoadModel", "ApplyAdapter"],
}


@pytest.mark.parametrize("slot", SUGGESTED, ids=lambda slot: f"{slot[2]} {slot[1]}")
def test_the_menu_of_a_dropped_link_suggests_our_nodes_first(page: Page, slot: tuple[str, str, str]) -> None:
    page.evaluate(LINK, slot)
    page.wait_for_timeout(500)
    x, y = page.evaluate(SLOT, slot[1:])
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + (300 if slot[1] == "output" else -300), y + 200, steps=10)
    page.mouse.up()
    entries = page.locator(".litecontextmenu .litemenu-entry")
    entries.first.wait_for()
    texts = entries.all_inner_texts()
    page.keyboard.press("Escape")
    page.mouse.click(600, 850)
    assert texts[texts.index("Reroute") + 1:] == [f"LayerDiff{name}" for name in SUGGESTED[slot]]


def test_the_panels_undo_outlives_a_change_to_another_workflow_and_back(page: Page, page_server: Server, kind: Kind) -> None:
    panel = PanelPage(page, page_server)
    panel.load(example(steps=2, seed=2 + int(kind.nodes_2)))
    panel.run()
    panel.button("Hide tree").click()
    panel.button("Hide bear").click()
    panel.row("background").locator(".pick").click()
    panel.button("Undo layer edit").click()
    edits = panel.edits()
    page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("() => app.graph.nodes.length === 0")
    page.evaluate("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    panel.panel.wait_for()
    page.wait_for_timeout(1000)
    page.evaluate(VIEW, DECODE)
    page.wait_for_timeout(500)
    assert panel.edits() == edits and "selected" in (panel.row("background").get_attribute("class") or "")
    panel.button("Redo layer edit").click()
    assert panel.edits()["layers"] == {"1": {"visible": False}, "2": {"visible": False}}
    for _ in range(2):
        panel.button("Undo layer edit").click()
    assert panel.edits() == {} and panel.button("Hide tree").is_visible()


HELP = "LayerDiffSetLayer"
# The node lies where no bar of the page does, so that it can be pressed.
SHOW = """type => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [400, 300];
}"""
HELP_TITLE = (460, 285)


def test_the_help_panel_shows_the_picture_of_the_node(page: Page) -> None:
    """Must be the last test: with this panel open, frontend 1.47 no longer draws nodes after the graph was cleared."""
    page.evaluate(SHOW, HELP)
    help_button = page.get_by_test_id("info-button")
    # A page that has just opened misses the first press.
    for _ in range(10):
        page.mouse.click(*HELP_TITLE)
        page.wait_for_timeout(1000)
        if help_button.is_visible():
            break
    help_button.click()
    picture = page.locator(f".node-help-content img[src$='{HELP}.webp']")
    picture.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
