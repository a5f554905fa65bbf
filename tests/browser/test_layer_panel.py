"""The layer panel in ComfyUI's real page: the server gives the same result as edits with mouse and keyboard."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Locator, Page

from tests.browser.kinds import Kind, every_page
from tests.browser.panel_page import DECODE, DRAWN, NEAR, SAMPLER, TEXT, VIEW, PanelPage
from tools import setup
from tools.host import Server
from tools.page import wait_until_ready

pytestmark = [every_page, pytest.mark.usefixtures("no_errors")]
WORKFLOW = setup.ROOT / "workflows" / "edit_in_page.json"
PICTURES = setup.ROOT / "output"
PAYLOAD = "id => app.nodeOutputs[id]?.layer_panel[0]"
ZOOM = "() => app.canvas.ds.scale"
THEME = "name => app.extensionManager.setting.set('Comfy.ColorPalette', name)"


@pytest.fixture(scope="module")
def started(page: Page, page_server: Server, errors: list[str]) -> PanelPage:
    """The example, run once with few steps, because image quality does not matter here."""
    workflow = json.loads(WORKFLOW.read_text("utf-8"))
    next(node for node in workflow["nodes"] if node["id"] == SAMPLER)["widgets_values"][2] = 4
    panel = PanelPage(page, page_server)
    panel.load(workflow)
    saved = panel.run()
    assert np.abs(saved.astype(int) - panel.shown()).max() <= NEAR
    return panel


@pytest.fixture
def panel(started: PanelPage) -> Iterator[PanelPage]:
    """The panel with no edits."""
    started.reset()
    yield started


def far(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other).max())


def test_what_is_done_by_mouse_the_server_does_too(panel: PanelPage) -> None:
    before = panel.shown()
    panel.drag(panel.centre_of(panel.row("background").locator(".grip")),
               panel.centre_of(panel.row("tree").locator(".grip")))
    panel.drag(panel.centre_of(panel.row("bear").locator(".grip")), panel.centre_of(panel.row("tree").locator(".name")))
    panel.button("Hide background").click()
    panel.button("Show background").click()
    panel.row("bear").locator(".pick").click()
    panel.drag(panel.centre_of(panel.panel.locator("[data-handle=scale]").first), panel.at(0.5, 0.3))
    panel.drag(panel.centre_of(panel.panel.locator("[data-handle=turn]")), panel.at(0.9, 0.4))
    panel.panel.get_by_label("Blend mode").select_option("multiply")
    slider = panel.panel.get_by_label("Opacity", exact=True)
    box = slider.bounding_box()
    assert box is not None
    slider.click(position={"x": 0.7 * box["width"], "y": box["height"] / 2})
    change = panel.edits()["layers"]["2"]
    assert change["blend_mode"] == "multiply" and 0.6 < change["opacity"] < 0.8
    assert change["scale"] != 1 and change["rotation"] != 0
    assert "order" in panel.edits()
    assert far(before, panel.shown()) > 50
    assert far(panel.run(), panel.shown()) <= NEAR


def test_what_is_done_by_keyboard_the_server_does_too(panel: PanelPage) -> None:
    before = panel.shown()
    keyboard = panel.page.keyboard
    panel.row("tree").locator(".pick").focus()
    keyboard.press("Enter")
    keyboard.press("Alt+ArrowUp")
    assert panel.edits()["order"] == [0, 2, 1]
    keyboard.press("Space")
    assert panel.edits()["layers"]["1"] == {"visible": False}
    keyboard.press("Space")
    panel.panel.get_by_role("application").focus()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown", "Shift++", "Shift+>", "-"):
        keyboard.press(key)
    change = panel.edits()["layers"]["1"]
    assert change["scale"] == pytest.approx(1.1 / 1.01, abs=0.01) and change["rotation"] == 15
    panel.panel.get_by_label("Opacity", exact=True).focus()
    for _ in range(5):
        keyboard.press("PageDown")
    assert panel.edits()["layers"]["1"]["opacity"] < 0.8
    assert far(before, panel.shown()) > 50
    assert far(panel.run(), panel.shown()) <= NEAR


def test_drag_on_the_picture_moves_the_layer_under_the_pointer(panel: PanelPage) -> None:
    payload = panel.page.evaluate(PAYLOAD, DECODE)
    width = payload["canvas"][0]
    panel.row("bear").locator(".pick").click()
    box = panel.panel.locator(".box")
    middle = panel.centre_of(box)
    panel.drag(middle, (middle[0] - 40, middle[1] - 20))
    frame = panel.panel.locator(".frame").bounding_box()
    assert frame is not None
    moved = panel.edits()["layers"]["2"]
    assert moved["right"] == pytest.approx(-40 * width / frame["width"], abs=1)
    assert moved["down"] == pytest.approx(-20 * width / frame["width"], abs=1)
    assert far(panel.run(), panel.shown()) <= NEAR


def test_solo_is_a_view_and_never_reaches_the_output(panel: PanelPage) -> None:
    before = panel.shown()
    panel.row("bear").locator(".pick").click()
    panel.button("Show only bear in the panel").click()
    assert panel.edits() == {}
    alone = panel.shown_rgba()
    assert 0.05 < (alone[..., 3] == 255).mean() < 0.8 and (alone[..., 3] == 0).any()
    # With another edit, so that the node runs again.
    panel.page.keyboard.press("Tab")
    panel.panel.get_by_role("application").focus()
    panel.page.keyboard.press("ArrowRight")
    saved = panel.run()
    assert (panel.shown_rgba()[..., 3] == 0).any()
    panel.button("Show all layers").click()
    assert far(saved, panel.shown()) <= NEAR and far(before, panel.shown()) > 50


def test_a_locked_layer_stays(panel: PanelPage) -> None:
    panel.row("bear").locator(".pick").click()
    middle = panel.centre_of(panel.panel.locator(".box"))
    panel.button("Lock bear").click()
    panel.drag(middle, (middle[0] - 30, middle[1]))
    panel.row("bear").locator(".pick").click()
    panel.panel.get_by_role("application").focus()
    panel.page.keyboard.press("ArrowRight")
    assert panel.edits()["layers"] == {"2": {"locked": True}}
    assert panel.panel.get_by_label("Blend mode").is_disabled()


def test_undo_and_redo_of_the_panel_and_of_the_page(panel: PanelPage) -> None:
    keyboard = panel.page.keyboard
    panel.button("Hide tree").click()
    panel.button("Hide bear").click()
    both = panel.shown()
    panel.button("Undo layer edit").click()
    assert panel.edits()["layers"] == {"1": {"visible": False}}
    panel.button("Redo layer edit").click()
    assert panel.edits()["layers"] == {"1": {"visible": False}, "2": {"visible": False}}
    panel.button("Show bear").focus()
    keyboard.press("Control+z")
    panel.button("Hide bear").wait_for()
    assert panel.edits()["layers"] == {"1": {"visible": False}}
    assert far(both, panel.shown()) > 50
    keyboard.press("Control+y")
    panel.button("Show bear").wait_for()
    assert far(both, panel.shown()) == 0


def test_edits_are_in_the_saved_workflow_and_come_back_with_it(panel: PanelPage, errors: list[str]) -> None:
    panel.button("Hide tree").click()
    panel.row("bear").locator(".pick").click()
    panel.panel.get_by_label("Blend mode").select_option("screen")
    panel.panel.get_by_label("Left edge").fill("-9")
    panel.page.keyboard.press("Enter")
    edits, shown = panel.edits(), panel.shown()
    workflow = panel.page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    prompt = panel.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert json.loads(prompt[str(DECODE)]["inputs"]["edits"]) == edits
    panel.page.reload()
    wait_until_ready(panel.page)
    # Errors of ComfyUI's own page while it starts.
    errors.clear()
    panel.load(workflow)
    assert panel.edits() == edits
    panel.panel.locator(".stage canvas").wait_for()
    assert far(shown, panel.shown()) == 0
    assert far(panel.run(), panel.shown()) <= NEAR
    assert far(shown, panel.shown()) == 0
    assert panel.button("Show tree").is_visible()


@pytest.fixture
def stale(panel: PanelPage) -> Iterator[Locator]:
    """The notice shown when other layers arrive after the tree was hidden."""
    panel.button("Hide tree").click()
    notice = panel.panel.locator(".notice")
    assert notice.is_hidden()
    panel.change_seed(1)
    saved = panel.run()
    notice.wait_for()
    # Neither the server nor the panel has applied the edits to the other layers, and no edit is lost.
    assert far(saved, panel.shown()) <= NEAR and panel.button("Hide tree").is_visible()
    assert panel.edits()["layers"] == {"1": {"visible": False}}
    yield notice
    panel.reset()
    panel.change_seed(-1)
    panel.run()


def test_edits_for_other_layers_are_done_to_them_where_the_user_applies_them(panel: PanelPage, stale: Locator) -> None:
    before = panel.shown()
    panel.panel.locator(".inside[inert]").wait_for()
    stale.get_by_text("Apply").click()
    assert stale.is_hidden() and panel.button("Show tree").is_visible()
    assert panel.edits()["layers"] == {"1": {"visible": False}}
    assert far(panel.run(), panel.shown()) <= NEAR and far(before, panel.shown()) > 30
    assert stale.is_hidden() and panel.panel.locator(".inside[inert]").count() == 0


def test_edits_for_other_layers_are_gone_where_the_user_discards_them(panel: PanelPage, stale: Locator) -> None:
    before = panel.shown()
    stale.get_by_text("Discard").click()
    assert stale.is_hidden() and panel.edits() == {}
    assert far(before, panel.shown()) == 0


def test_the_panel_opens_and_closes(panel: PanelPage) -> None:
    height = "id => app.graph.getNodeById(id).size[1]"
    title = panel.page.locator(".layerdiff-panel .title")
    open_height = panel.page.evaluate(height, DECODE)
    title.click()
    assert panel.panel.count() == 0 and title.get_attribute("aria-expanded") == "false"
    assert panel.page.evaluate(height, DECODE) < open_height - 200
    title.click()
    panel.panel.locator(".stage canvas").wait_for()
    assert panel.page.evaluate(height, DECODE) == open_height


def test_the_wheel_zooms_the_page_and_leaves_the_layers(panel: PanelPage) -> None:
    panel.row("bear").locator(".pick").click()
    panel.panel.get_by_role("application").focus()
    panel.page.mouse.move(*panel.at(0.5, 0.5))
    panel.page.mouse.wheel(0, -100)
    panel.page.wait_for_function(f"({ZOOM})() > 1")
    panel.page.evaluate(VIEW, DECODE)
    assert panel.edits() == {}


def test_fingers_move_layers_and_rows(panel: PanelPage) -> None:
    fingers = panel.page.context.new_cdp_session(panel.page)

    def touch(start: tuple[float, float], end: tuple[float, float]) -> None:
        for kind, points in (("touchStart", [start]), ("touchMove", [((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)]),
                             ("touchMove", [end]), ("touchEnd", [])):
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    panel.row("bear").locator(".pick").click()
    middle = panel.centre_of(panel.panel.locator(".box"))
    touch(middle, (middle[0] - 50, middle[1] - 30))
    moved = panel.edits()["layers"]["2"]
    assert moved["right"] < -10 and moved["down"] < -5
    touch(panel.centre_of(panel.row("bear").locator(".grip")), panel.centre_of(panel.row("background").locator(".name")))
    assert panel.edits()["order"].index(2) < 2
    panel.page.evaluate(DRAWN)
    # The page's own undo also includes edits by touch.
    panel.page.evaluate("() => app.extensionManager.command.execute('Comfy.Undo')")
    panel.page.wait_for_function(f"id => !({TEXT})(id).includes('order')", arg=DECODE)
    assert panel.edits()["layers"]["2"] == moved


def test_delete_deletes_the_layer_and_leaves_the_node(panel: PanelPage) -> None:
    panel.row("bear").locator(".pick").click()
    panel.page.keyboard.press("Delete")
    assert panel.edits()["layers"] == {"2": {"deleted": True}}
    assert panel.row("bear").count() == 0 and "selected" in (panel.row("tree").get_attribute("class") or "")
    assert panel.row("tree").evaluate("row => row.contains(document.activeElement)")
    panel.panel.get_by_role("application").focus()
    panel.page.keyboard.press("Backspace")
    assert panel.edits()["layers"] == {"1": {"deleted": True}, "2": {"deleted": True}}
    # One layer must remain.
    panel.page.keyboard.press("Delete")
    assert panel.button("Delete layer").is_disabled() and panel.row("background").count() == 1
    assert far(panel.run(), panel.shown()) <= NEAR
    panel.button("Undo layer edit").click()
    assert panel.row("tree").count() == 1 and panel.row("bear").count() == 0
    panel.reset()
    assert panel.row("bear").count() == 1


def test_the_panel_stays_when_nodes_2_is_switched(panel: PanelPage, kind: Kind) -> None:
    switch = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
    shown = panel.shown()
    for nodes_2 in (not kind.nodes_2, kind.nodes_2):
        panel.page.evaluate(switch, nodes_2)
        panel.page.wait_for_timeout(500)
        assert panel.page.locator(".lg-node .layerdiff-panel.open .row").first.is_visible() == nodes_2
        panel.page.evaluate(VIEW, DECODE)
        assert far(shown, panel.shown()) == 0
        panel.button("Hide tree").click()
        assert far(shown, panel.shown()) > 30
        panel.reset()


def test_the_sampler_shows_all_layers_while_it_draws(panel: PanelPage) -> None:
    panel.page.evaluate("() => app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', 'latent2rgb')")
    panel.page.evaluate("""() => {
        window.previews = [];
        app.api.addEventListener("b_preview_with_metadata", async ({ detail }) => {
            const { width, height } = await createImageBitmap(detail.blob);
            window.previews.push([Number(detail.displayNodeId), width / height]);
        });
    }""")
    panel.change_seed(1)
    panel.run()
    panel.page.evaluate("() => app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', 'default')")
    panel.change_seed(-1)
    panel.run()
    # Three layers side by side, with their masks below.
    assert [SAMPLER, pytest.approx(3 / 2, rel=0.01)] in panel.page.evaluate("() => window.previews")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_panel_is_drawn_in_each_theme(panel: PanelPage, theme: str) -> None:
    panel.page.evaluate(THEME, theme)
    panel.button("Hide tree").click()
    panel.row("bear").locator(".pick").click()
    panel.page.wait_for_timeout(800)
    colour = panel.panel.evaluate("element => getComputedStyle(element).color")
    bright = sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    assert (bright > 380) == (theme == "dark")
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / f"layer_panel_{theme}.png"
    panel.page.screenshot(path=path)
    assert path.stat().st_size > 10_000
    panel.page.evaluate(THEME, "dark")
