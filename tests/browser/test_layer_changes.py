"""Changes to layers in the panel other than moving them, and the handles, in ComfyUI's real page."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.browser.kinds import Kind, every_page
from tests.browser.panel_page import DRAWN, NEAR, PanelPage, example
from tools.host import Server

pytestmark = [every_page, pytest.mark.usefixtures("no_errors")]

SIDE = 128
"""Pixels of the example's image."""


@pytest.fixture(scope="module")
def started(page: Page, page_server: Server, kind: Kind) -> PanelPage:
    panel = PanelPage(page, page_server)
    panel.load(example(steps=4, seed=80 + 2 * kind.newest + kind.nodes_2))
    assert far(panel.run(), panel.shown()) <= NEAR
    return panel


@pytest.fixture
def panel(started: PanelPage) -> Iterator[PanelPage]:
    """The panel with no edits and the bear selected."""
    started.reset()
    started.row("bear").locator(".pick").click()
    yield started


def far(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other).max())


def frame(panel: PanelPage) -> np.ndarray:
    """The four corners of the selected layer's frame, in pixels of the image."""
    panel.page.evaluate(DRAWN)
    points = panel.panel.locator(".box").get_attribute("points")
    box = panel.panel.locator(".frame").evaluate("element => element.clientWidth")
    assert points is not None
    return np.array(points.replace(",", " ").split(), float).reshape(4, 2) * SIDE / box


def number(panel: PanelPage, label: str) -> float:
    return float(panel.panel.get_by_role("spinbutton", name=label).input_value())


def enter(panel: PanelPage, label: str, value: int) -> None:
    panel.panel.get_by_role("spinbutton", name=label).fill(str(value))
    panel.page.keyboard.press("Enter")


def place_of(panel: PanelPage, selector: str) -> tuple[float, float]:
    return panel.centre_of(panel.panel.locator(selector))


@pytest.mark.parametrize(("corner", "opposite"), [(0, 2), (1, 3), (2, 0), (3, 1)])
def test_a_corner_scales_from_the_opposite_one_and_with_alt_from_the_middle(panel: PanelPage, corner: int, opposite: int) -> None:
    before = frame(panel)
    start, middle = place_of(panel, f"[data-corner='{corner}']"), place_of(panel, ".box")
    half = (start[0] + middle[0]) / 2, (start[1] + middle[1]) / 2
    panel.drag(start, half)
    after = frame(panel)
    assert np.abs(after[opposite] - before[opposite]).max() <= 1
    assert panel.edits()["layers"]["2"]["scale"] == pytest.approx(0.75, abs=0.03)
    # The corner follows the pointer.
    assert place_of(panel, f"[data-corner='{corner}']") == pytest.approx(half, abs=3)
    panel.reset()
    panel.page.keyboard.down("Alt")
    panel.drag(start, half)
    panel.page.keyboard.up("Alt")
    assert np.abs(frame(panel).mean(0) - before.mean(0)).max() <= 1
    assert panel.edits()["layers"]["2"]["scale"] == pytest.approx(0.5, abs=0.03)
    assert far(panel.run(), panel.shown()) <= NEAR


def test_x_and_y_are_the_layers_left_and_upper_edge_whatever_was_done_to_it(panel: PanelPage) -> None:
    def edges() -> tuple[float, ...]:
        return tuple(frame(panel).min(0).round())

    assert (number(panel, "Left edge"), number(panel, "Top edge")) == edges() != (0, 0)
    enter(panel, "Scale", 60)
    enter(panel, "Rotate", 30)
    assert (number(panel, "Left edge"), number(panel, "Top edge")) == pytest.approx(edges(), abs=1)
    enter(panel, "Left edge", 7)
    enter(panel, "Top edge", -12)
    assert edges() == pytest.approx((7, -12), abs=1)
    assert (number(panel, "Left edge"), number(panel, "Top edge")) == (7, -12)
    # An empty box changes nothing and shows the current value again.
    edits = panel.edits()
    panel.panel.get_by_label("Left edge").fill("")
    panel.page.keyboard.press("Tab")
    assert number(panel, "Left edge") == 7 and panel.edits() == edits


def inside(panel: PanelPage, selector: str) -> list[tuple[float, float]]:
    """The centres of the handles. Each must lie within the stage, with nothing on top of it."""
    stage = panel.panel.locator(".stage").bounding_box()
    assert stage is not None
    places = [panel.centre_of(handle) for handle in panel.panel.locator(selector).all()]
    for x, y in places:
        assert stage["x"] <= x <= stage["x"] + stage["width"] and stage["y"] <= y <= stage["y"] + stage["height"]
        assert panel.page.evaluate("([x, y]) => document.elementFromPoint(x, y).dataset.handle !== undefined", [x, y])
    return places


@pytest.mark.parametrize("place", [(0, 0), (0, 100), (-300, 20), (50, -500), (900, 900)])
def test_handles_of_a_layer_beyond_the_picture_bring_it_back(panel: PanelPage, place: tuple[int, int]) -> None:
    enter(panel, "Left edge", place[0])
    enter(panel, "Top edge", place[1])
    panel.page.evaluate(DRAWN)
    places = inside(panel, "[data-handle=scale], [data-handle=turn]")
    assert len(places) == 5
    assert min(np.hypot(*np.subtract(a, b)) for a in places for b in places if a != b) > 12
    before = number(panel, "Left edge")
    if max(map(abs, place)) > SIDE:
        x, y = place_of(panel, "[data-handle=move]")
        panel.drag((x, y), (x + (30 if place[0] < 900 else -30), y))
        assert abs(number(panel, "Left edge") - before) > 5


def test_handles_of_a_layer_larger_than_the_picture_are_reached(panel: PanelPage) -> None:
    enter(panel, "Scale", 1500)
    panel.page.evaluate(DRAWN)
    assert len(inside(panel, "[data-handle=scale], [data-handle=turn]")) == 5
    start, opposite = place_of(panel, "[data-corner='0']"), frame(panel)[2]
    panel.drag(start, (start[0] + 40, start[1] + 40))
    assert panel.edits()["layers"]["2"]["scale"] < 14.9
    assert np.abs(frame(panel)[2] - opposite).max() <= 8


def test_the_turn_handle_of_a_layer_at_the_upper_edge_does_not_lie_on_it(panel: PanelPage) -> None:
    enter(panel, "Scale", 40)
    enter(panel, "Top edge", 0)
    knob = place_of(panel, "[data-handle=turn]")
    middle = place_of(panel, ".box")
    assert np.hypot(*np.subtract(knob, middle)) > 25
    panel.drag(knob, (knob[0] + 25, knob[1] - 25))
    assert panel.edits()["layers"]["2"]["rotation"] != 0


def test_a_layer_is_renamed_by_double_click_or_f2(panel: PanelPage) -> None:
    box = panel.panel.get_by_label("Layer name")
    panel.row("tree").locator(".name").dblclick()
    assert box.input_value() == "tree"
    box.fill("palm & sand")
    panel.page.keyboard.press("Enter")
    assert box.count() == 0 and panel.edits()["layers"] == {"1": {"name": "palm & sand"}}
    panel.page.keyboard.press("F2")
    box.fill("forgotten")
    panel.page.keyboard.press("Escape")
    assert box.count() == 0 and panel.edits()["layers"] == {"1": {"name": "palm & sand"}}
    panel.page.keyboard.press("F2")
    box.fill("  ")
    panel.page.keyboard.press("Delete")
    panel.button("Hide background").click()
    assert panel.edits()["layers"] == {"0": {"visible": False}, "1": {"name": "palm & sand"}}
    panel.row("palm & sand").locator(".name").dblclick()
    box.fill("tree")
    panel.page.keyboard.press("Enter")
    assert panel.edits()["layers"] == {"0": {"visible": False}}


def test_a_copy_is_a_layer_of_its_own_on_both_sides(panel: PanelPage) -> None:
    panel.row("tree").locator(".pick").click()
    duplicate = panel.button("Duplicate layer")
    duplicate.click()
    assert panel.edits()["copies"] == {"50": 1} and panel.edits()["order"] == [0, 1, 50, 2]
    enter(panel, "Left edge", 60)
    enter(panel, "Scale", 70)
    duplicate.click()
    assert panel.edits()["copies"] == {"50": 1, "51": 1}
    enter(panel, "Rotate", 90)
    assert panel.panel.locator(".row .name").all_inner_texts() == ["bear", "tree copy 2", "tree copy", "tree", "background"]
    change = panel.edits()["layers"]
    assert change["51"]["scale"] == change["50"]["scale"] == 0.7 and "1" not in change
    panel.row("tree").last.locator(".eye").click()
    assert far(panel.run(), panel.shown()) <= NEAR
    panel.row("tree copy 2").locator(".pick").click()
    panel.button("Delete layer").click()
    assert list(panel.edits()["copies"]) == ["50"] and panel.edits()["order"] == [0, 1, 50, 2]
    panel.button("Delete layer").click()
    assert "copies" not in panel.edits() and panel.edits()["layers"] == {"1": {"visible": False}}


PAN = "by => { app.canvas.ds.offset[1] += by; app.canvas.setDirty(true, true); }"


@pytest.fixture
def panned(panel: PanelPage, kind: Kind) -> Iterator[PanelPage]:
    """The panel with the end of its list in the window: nodes drawn as elements are taller."""
    by = -250 * kind.nodes_2
    panel.page.evaluate(PAN, by)
    yield panel
    panel.page.evaluate(PAN, -by)


def test_the_list_scrolls_to_the_layer_that_is_picked_on_the_picture(panned: PanelPage) -> None:
    panel = panned
    middle = frame(panel).mean(0) / SIDE
    panel.row("background").locator(".pick").click()
    for _ in range(7):
        panel.button("Duplicate layer").click()
    scrolled = "element => element.scrollTop"
    rows = panel.panel.locator(".list")
    # The copies lie beneath the bear.
    rows.evaluate("element => { element.scrollTop = element.scrollHeight; }")
    assert rows.evaluate(scrolled) > 38
    panel.page.evaluate(DRAWN)
    panel.page.mouse.click(*panel.at(*middle))
    assert "selected" in (panel.row("bear").get_attribute("class") or "")
    assert rows.evaluate(scrolled) <= 2
    # It stays where the user scrolls it afterwards.
    rows.evaluate("element => { element.scrollTop = element.scrollHeight; }")
    before = rows.evaluate(scrolled)
    panel.button("Hide background").click()
    assert rows.evaluate(scrolled) == before > 38
    assert panel.page.evaluate("() => document.scrollingElement.scrollTop + document.scrollingElement.scrollLeft") == 0


def test_edits_of_more_layers_than_there_are_now_are_fitted_when_they_are_applied(page: Page) -> None:
    texts = page.evaluate("""async () => {
        const { Editor } = await import("/extensions/layerdiff/layers/editor.js");
        const pixels = { width: 1, height: 1, rgb: new Uint8ClampedArray(3), coverage: new Uint8ClampedArray([255]) };
        const layer = { x: 0, y: 0, w: 1, h: 1, rotation: 0, opacity: 1, visible: true, blend_mode: "normal", pixels };
        const layers = ["a", "b"].map((name) => ({ ...layer, name }));
        const texts = [];
        for (const changes of [{ 0: { opacity: 0.5 }, 3: { opacity: 0.2 } }, { 0: { deleted: true }, 1: { deleted: true } }]) {
            const editor = new Editor((text) => texts.push(text));
            editor.text = JSON.stringify({
                version: 1, made_for: "others", order: [3, 1, 50, 0, 51, 2], copies: { 50: 1, 51: 3 }, layers: changes,
            });
            editor.show({ madeFor: "these", canvas: [1, 1], linear: false, layers });
            texts.push([editor.stale, editor.layers.map((each) => [each.name, each.opacity])]);
            editor.apply();
        }
        return texts;
    }""")
    assert texts[0] == texts[2] == [True, [["a", 1], ["b", 1]]]
    applied = {"version": 1, "made_for": "these", "order": [1, 50, 0], "copies": {"50": 1}}
    assert json.loads(texts[1]) == applied | {"layers": {"0": {"opacity": 0.5}}}
    assert json.loads(texts[3]) == applied | {"layers": {"0": {"deleted": True}, "1": {"deleted": True}}}
