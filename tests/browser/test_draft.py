"""While a layer is dragged on a large canvas, the page draws only as many pixels as it shows, and all of them afterwards."""

import json
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Page

from layerdiff_core.composite import composite
from layerdiff_core.edits import apply_edits, fingerprint
from layerdiff_core.layers import Document, Layer
from tests.browser.test_page_pixels import MODULES, document, payload
from tests.documents import alter

FACTOR = 12
SHOWN = 220
STAGE = """async ([modules, payload, changes, wide]) => {
    const [{ loadDocument }, { Editor }, { Stage }] =
        await Promise.all(["load", "editor", "stage"].map(name => import(`${modules}/${name}.js`)));
    const frame = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const editor = new Editor(() => {});
    const stage = new Stage(editor);
    const panel = document.createElement("div");
    panel.className = "layerdiff-panel";
    panel.style = `position: fixed; z-index: 9999; width: ${wide}px; height: ${wide}px; display: flex`;
    stage.element.style = "width: 100%; height: 100%";
    panel.append(stage.element);
    document.body.append(panel);
    editor.show(await loadDocument(payload, file => file.filename));
    const pictures = [];
    for (const final of [true, false, false, true]) {
        editor.set(1, changes, { final });
        await frame();
        const canvas = stage.element.querySelector("canvas");
        const { width, height, data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        pictures.push([width, height, Array.from(data), canvas.getBoundingClientRect().width * devicePixelRatio]);
    }
    panel.remove();
    return pictures;
}"""


def test_a_drag_is_drawn_as_large_as_it_is_shown_and_ends_in_full(page: Page) -> None:
    small = document(7)
    wide, high = small.canvas
    doc = Document([enlarged(layer) for layer in small.layers], (wide * FACTOR, high * FACTOR))
    alter(doc, 2, blend_mode="overlay")
    change: dict[str, Any] = {"right": 31, "down": -17}
    text = json.dumps({"version": 1, "made_for": fingerprint(doc), "layers": {"1": change}})
    server = composite(apply_edits(doc, text)[0])[0][0].numpy() * 255
    pictures = []
    for width, height, data, shown in page.evaluate(STAGE, [MODULES, payload(doc, False), change, SHOWN]):
        pictures.append((np.array(data, np.float32).reshape(height, width, 4)[..., :3], shown))
    (first, _), (draft, shown), (again, _), (last, _) = pictures
    assert np.abs(first - server).max() <= 2 and np.array_equal(first, last)
    assert np.array_equal(draft, again) and abs(draft.shape[1] - shown) <= 1 and draft.shape[1] < SHOWN
    wanted = torch.nn.functional.interpolate(torch.from_numpy(server).movedim(-1, 0)[None], size=draft.shape[:2], mode="area")
    assert np.abs(draft - wanted[0].movedim(0, -1).numpy()).mean() < 3


def enlarged(layer: Layer) -> Layer:
    """The layer enlarged, each pixel becoming a square."""
    image, coverage = (part.repeat_interleave(FACTOR, 1).repeat_interleave(FACTOR, 2) for part in (layer.image, layer.coverage))
    return layer.with_pixels(image, coverage, w=image.shape[2], h=image.shape[1])
