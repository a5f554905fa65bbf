"""The page's modules compute the same pixels as the server in each mode, placement and colour space, in a real Chromium."""

import base64
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page

from layerdiff_core.blend import MODES
from layerdiff_core.composite import composite
from layerdiff_core.edits import apply_edits, fingerprint, layer_bytes
from layerdiff_core.layer_fields import FIELDS
from layerdiff_core.layers import Document, make_document
from tests import models
from tests.api.graphs import STARTER, changed, layered, node
from tests.documents import alter
from tools.host import Server

WIDE, HIGH = 61, 47
TOLERANCE = 2
MODULES = "/extensions/layerdiff/layers"
COMPOSITE = """async ([modules, payload, text]) => {
    const [{ loadDocument }, { parse, applyEdits }, { composite }] =
        await Promise.all(["load", "edits", "composite"].map(name => import(`${modules}/${name}.js`)));
    const loaded = await loadDocument(payload, file => file.filename);
    const result = composite(applyEdits(loaded, parse(text)), loaded.canvas, loaded.linear);
    return [result.width, result.height, Array.from(result.data)];
}"""


def document(seed: int = 0, layers: int = 3) -> Document:
    """Layers of 8-bit noise, smooth enough to be scaled, soft coverage, an opaque background below."""
    noise = torch.rand(layers, 4, 9, 12, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, size=(HIGH, WIDE), mode="bicubic").clamp(0, 1)
    rounded = (smooth * 255).round() / 255
    coverage = ((rounded[:, 3] * 1.6 - 0.3).clamp(0, 1) * 255).round() / 255
    coverage[0] = 1
    return make_document(rounded[:, :3].movedim(1, -1), coverage, [f"layer {k}" for k in range(layers)])


def data_url(pixels: np.ndarray) -> str:
    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, "PNG")
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode()


def payload(doc: Document, linear: bool) -> dict[str, Any]:
    """A node's payload, with the files' pixels instead of their names."""
    layers = []
    for layer in doc.layers:
        colours, coverage = map(data_url, layer_bytes(layer))
        files = {"colour": {"filename": colours}, "coverage": {"filename": coverage}}
        layers.append({name: getattr(layer, name) for name in FIELDS} | files)
    return {"made_for": fingerprint(doc), "stale": False, "canvas": doc.canvas, "linear": linear, "layers": layers}


def differences(page: Page, doc: Document, linear: bool, edits: dict[str, Any] | None = None) -> np.ndarray:
    """Between the page and the server, in levels of 255, [H,W,4]: colours as far as they are seen, and alpha."""
    text = json.dumps({"version": 1, **edits}) if edits else ""
    width, height, data = page.evaluate(COMPOSITE, [MODULES, payload(doc, linear), text])
    shown = np.array(data, np.float32).reshape(height, width, 4)
    image, alpha = composite(apply_edits(doc, text)[0], linear)
    colours, alpha = 255 * image[0].numpy(), alpha[0].numpy()
    assert (width, height) == doc.canvas and colours.std() > 5
    return np.abs(np.dstack([(shown[..., :3] - colours) * alpha[..., None], shown[..., 3] - 255 * alpha]))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_blend_mode(page: Page, mode: str, linear: bool) -> None:
    doc = document()
    alter(doc, 0, opacity=0.9)
    alter(doc, 2, blend_mode=mode, opacity=0.85)
    found = differences(page, doc, linear)
    if mode == "hard-mix":
        found[at_the_jump(doc, linear)] = 0
    assert found.max() <= TOLERANCE


def at_the_jump(doc: Document, linear: bool) -> np.ndarray:
    """Where the top layer's colour and the one beneath it sum up so nearly to 1 that hard-mix may take either side."""
    beneath, _ = composite(replace(doc, layers=doc.layers[:-1]), linear)
    near = ((beneath + doc.layers[-1].image - 1).abs() < 1e-3)[0].any(-1).numpy()
    assert near.mean() < 0.05
    return near


PLACEMENTS = {
    "opacity": {"opacity": 0.37},
    "offset": {"x": -13, "y": 9},
    "far_off": {"x": 5000},
    "larger": {"w": 100, "h": 90},
    "smaller": {"w": 23, "h": 17},
    "tiny": {"w": 3, "h": 2},
    "narrow_and_high": {"w": 20, "h": 110, "y": -20},
    "turned": {"rotation": 0.7},
    "turned_far": {"rotation": -20.0, "x": 5},
    "quarter_turn": {"rotation": math.pi / 2},
    "flipped": {"flip_h": True},
    "upside_down": {"flip_v": True},
    "everything": {"x": 7, "y": -5, "w": 40, "h": 60, "rotation": 2.3, "flip_h": True, "flip_v": True, "opacity": 0.8},
    "hidden": {"visible": False},
}


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_placement(page: Page, name: str, linear: bool) -> None:
    doc = document(1)
    alter(doc, 1, **PLACEMENTS[name])
    assert differences(page, doc, linear).max() <= TOLERANCE


@pytest.mark.parametrize("linear", [False, True])
def test_a_canvas_that_nothing_covers_whole(page: Page, linear: bool) -> None:
    doc = document(2)
    alter(doc, 0, visible=False)
    alter(doc, 1, rotation=0.5, w=30, opacity=0.6)
    alter(doc, 2, blend_mode="overlay", x=11)
    assert differences(page, doc, linear).max() <= TOLERANCE


EDITS: dict[str, dict[str, Any]] = {
    "order": {"order": [1, 2, 0, 3]},
    "order_of_some": {"order": [2, 0]},
    "solo_of_older_edits": {"solo": 1, "layers": {"1": {"visible": False}}},
    "deleted": {"order": [2, 1, 0, 3], "layers": {"1": {"deleted": True}, "2": {"opacity": 0.5, "right": 4}}},
    "copies": {"order": [0, 51, 1, 50], "copies": {"50": 3, "51": 2}, "layers": {
        "50": {"right": -9, "scale": 0.6, "blend_mode": "screen"}, "51": {"rotation": 25}, "2": {"scale": 0.8}}},
    "eyes": {"layers": {"0": {"visible": False}, "3": {"visible": True}}},
    "moves": {"layers": {"1": {"right": 9, "down": -4}, "2": {"right": -30, "locked": True}}},
    # 61 * 0.5 and 47 * 0.5 end in .5: the page has to round as Python does.
    "halves": {"layers": {"1": {"scale": 0.5}, "2": {"scale": 1.5, "right": 1}}},
    "turns": {"layers": {"1": {"rotation": 33.5}, "2": {"rotation": -120, "scale": 0.7, "down": 3}}},
    "all": {"order": [0, 3, 2, 1], "layers": {
        "1": {"opacity": 0.4, "blend_mode": "screen", "right": 5},
        "2": {"blend_mode": "luminosity", "scale": 1.2},
        "3": {"blend_mode": "difference", "rotation": 10}}},
}  # fmt: skip


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("name", EDITS)
def test_edits(page: Page, name: str, linear: bool) -> None:
    doc = document(3, layers=4)
    alter(doc, 3, x=4, y=3, w=50, rotation=0.2, visible=name != "eyes")
    assert differences(page, doc, linear, EDITS[name]).max() <= TOLERANCE


REDRAWN = """async ([modules, payload, texts]) => {
    const [{ loadDocument }, { parse, applyEdits }, { composite }] =
        await Promise.all(["load", "edits", "composite"].map(name => import(`${modules}/${name}.js`)));
    const loaded = await loadDocument(payload, file => file.filename);
    return texts.map(text => Array.from(composite(applyEdits(loaded, parse(text)), loaded.canvas, loaded.linear).data));
}"""


def test_what_is_drawn_anew_after_a_change_is_all_that_changed(page: Page) -> None:
    doc = document(4, layers=4)
    alter(doc, 0, visible=False)
    alter(doc, 2, w=20, h=15, x=30, y=20, blend_mode="multiply")
    changes: list[dict[str, Any]] = [{"right": 9}, {"right": 14, "rotation": 8}, {"opacity": 0.5}, {"visible": False}, {},
                                     {"blend_mode": "screen"}]  # fmt: skip
    steps = [{"layers": {"2": change}} for change in changes] + [{"order": [2, 1, 0, 3]}, {"layers": {"3": {"deleted": True}}}]
    steps += [{"copies": {"50": 2}, "layers": {"50": change}} for change in ({"right": -25, "scale": 0.9}, {"scale": 1.1})]
    steps += [{}, {}]
    texts = [json.dumps({"version": 1, **step}) for step in steps]
    shown = page.evaluate(REDRAWN, [MODULES, payload(doc, False), texts])
    for step, data in zip(steps, shown):
        alone = page.evaluate(COMPOSITE, [MODULES, payload(doc, False), json.dumps({"version": 1, **step})])[2]
        assert data == alone, step
    assert len({bytes(data) for data in shown}) == len(steps) - 2


GRAPH_EDITS = {"version": 1, "order": [0, 2, 1], "layers": {
    "1": {"opacity": 0.7, "right": 6, "blend_mode": "multiply"}, "2": {"rotation": 20, "scale": 0.8}}}  # fmt: skip
RAN = """async ([modules, payload, text]) => {
    const [{ loadDocument }, { parse, applyEdits }, { composite }] =
        await Promise.all(["load", "edits", "composite"].map(name => import(`${modules}/${name}.js`)));
    const loaded = await loadDocument(payload, file => "/view?" + new URLSearchParams(file));
    const result = composite(applyEdits(loaded, parse(text)), loaded.canvas, loaded.linear);
    return [result.width, result.height, Array.from(result.data)];
}"""


@pytest.fixture(scope="module", autouse=True)
def ran(pack: ModuleType, server: Server, served_models: Path) -> dict[str, dict[str, Any]]:
    """What a graph with edits left, by colour space; run before the page opens, which lets no other event loop run."""
    if not (served_models / STARTER).exists():
        models.write_starter(pack, served_models / STARTER)
    outputs = {}
    for space in ("display", "linear"):
        graph = changed(layered(), {
            "6": node("LayerDiffCompositeLayers", layers=["5", 0], colour_space=space, edits=json.dumps(GRAPH_EDITS)),
            "7": node("SaveImage", images=["6", 0], filename_prefix="edited"),
        })  # fmt: skip
        outputs[space] = server.client.run(graph).outputs
    return outputs


@pytest.mark.parametrize("space", ["display", "linear"])
def test_a_graph_that_ran_without_the_page_has_the_pages_pixels(
    page: Page, server: Server, ran: dict[str, dict[str, Any]], space: str
) -> None:
    outputs = ran[space]
    saved = Image.open(io.BytesIO(server.client.download(outputs["7"]["images"][0])))
    shown_payload = outputs["6"]["layer_panel"][0]
    assert shown_payload["linear"] == (space == "linear")
    wide, high, data = page.evaluate(RAN, [MODULES, shown_payload, json.dumps(GRAPH_EDITS)])
    shown = np.array(data, np.float32).reshape(high, wide, 4)
    assert shown[..., 3].min() == 255 and shown[..., :3].std() > 1
    # ComfyUI's Save Image truncates values between two levels.
    assert np.abs(shown[..., :3] - np.array(saved) - 0.5).max() <= TOLERANCE + 0.5


def test_the_modes_are_the_servers_in_its_order(page: Page) -> None:
    assert page.evaluate("async path => (await import(path)).MODES", f"{MODULES}/blend.js") == list(MODES)


ROUND_TRIP = """async ([path, text]) => {
    const { parse, serialise } = await import(path);
    return serialise(parse(text));
}"""


@pytest.mark.parametrize("text", ["", '{"version":1,"made_for":"0123456789abcdef","order":[1,0],"copies":{"50":1},'
                                  '"layers":{"0":{"deleted":true},"1":{"name":"x","visible":false,"opacity":0.5,"right":3}}}'])
def test_edits_come_back_as_they_were(page: Page, text: str) -> None:
    assert page.evaluate(ROUND_TRIP, [f"{MODULES}/edits.js", text]) == text


@pytest.mark.parametrize("edits", [{}, {"made_for": "0123456789abcdef"}, {"order": [0, 1, 2]}, {"layers": {"1": {}}}, {"solo": 1},
                                   {"layers": {"2": {"right": 0, "scale": 1, "rotation": 0, "locked": False}}}])
def test_edits_that_change_nothing_are_no_text(page: Page, edits: dict[str, Any]) -> None:
    assert page.evaluate(ROUND_TRIP, [f"{MODULES}/edits.js", json.dumps({"version": 1, **edits})]) == ""


REACHABLE = "async ([module, points, view]) => (await import(module)).reachable(points, view)"


@pytest.mark.parametrize("centre", [(100, 75), (0, 0), (-4000, 75), (100, 9000), (5000, -5000), (195, 4)])
@pytest.mark.parametrize("size", [(60, 40), (0.1, 0.1), (3, 300), (5000, 20), (9000, 9000)])
@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 200])
def test_handles_lie_in_the_view_wherever_the_layer_lies(page: Page, centre: tuple[float, float], size: tuple[float, float],
                                                         degrees: float) -> None:
    turn = np.radians(degrees)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * size @ axes + centre
    view = {"left": -10, "top": -5, "right": 210, "bottom": 155}
    found: dict[str, Any] = page.evaluate(REACHABLE, [f"{MODULES}/handles.js", corners.tolist(), view])
    places = np.array([*found["held"], found["arm"][1]])
    assert (places >= (-10, -5)).all() and (places <= (210, 155)).all()
    # Of the corners some may fall together at the view's own; the turn handle lies apart from all.
    assert np.hypot(*(places[:4] - places[4]).T).min() > 12
    assert len(np.unique(places[:4].round(), axis=0)) >= 2
