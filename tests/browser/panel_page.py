"""The layer panel in ComfyUI's real page, as seen and used with mouse and keyboard."""

import json
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page

from tools import setup
from tools.host import Server

DECODE, SAMPLER, SAVE_IMAGE = 5, 4, 9
NEAR = 2
"""The maximum difference between page and server, in levels of 255."""
RUN_LIMIT_SECONDS = 300

LOAD = "workflow => app.loadGraphData(workflow)"
VIEW = """id => {
    const node = app.graph.getNodeById(id);
    [app.canvas.ds.scale, app.canvas.ds.offset] = [1, [500 - node.pos[0], 110 - node.pos[1]]];
    app.canvas.setDirty(true, true);
}"""
TEXT = "id => app.graph.getNodeById(id).widgets.find(widget => widget.name === 'edits').value"
PIXELS = """() => {
    const canvas = document.querySelector('.layerdiff-panel.open .stage canvas');
    const { data, width, height } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return { width, height, data: [...data] };
}"""
SEED = "([id, by]) => { app.graph.getNodeById(id).widgets.find(widget => widget.name === 'seed').value += by; }"
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done))))"


def example(steps: int, seed: int) -> dict[str, Any]:
    """The workflow edit_in_page. Each page gets its own seed, so that its nodes run: cached nodes would send it nothing."""
    workflow: dict[str, Any] = json.loads((setup.ROOT / "workflows" / "edit_in_page.json").read_text("utf-8"))
    values = next(node for node in workflow["nodes"] if node["id"] == SAMPLER)["widgets_values"]
    values[0], values[2] = seed, steps
    return workflow


def heard(page: Page) -> list[str]:
    """A list that collects errors about the pack from the page's console from now on."""
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text) if message.type == "error" and is_ours(message) else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    return told


def is_ours(message: ConsoleMessage) -> bool:
    """Whether a message is about the pack.

    The page itself requests files that do not exist, help pages in other languages, and addresses on the internet.
    """
    place = message.location["url"]
    if "Failed to load resource" not in message.text:
        return True
    return "/view?" in place or ("/extensions/layerdiff/" in place and "/docs/" not in place)


class PanelPage:
    """The page with the example and its panel open. Layer 0 is the background, 1 the tree, 2 the bear."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.panel = page.locator(".layerdiff-panel.open")

    def load(self, workflow: dict[str, Any]) -> None:
        self.page.evaluate(LOAD, workflow)
        self.page.evaluate(VIEW, DECODE)
        self.panel.wait_for()

    def press_run(self) -> dict[str, Any]:
        """Press Run and wait for the end. Returns the run's entry in the server's history."""
        before = set(self.server.client.get("/history"))
        self.page.get_by_test_id("queue-button").click()
        for _ in range(2 * RUN_LIMIT_SECONDS):
            new = {key: entry for key, entry in self.server.client.get("/history").items() if key not in before}
            if new:
                break
            self.page.wait_for_timeout(500)
        (entry,) = new.values()
        assert entry["status"]["status_str"] == "success", str(entry["status"])[:2000]
        return dict(entry)

    def run(self) -> np.ndarray:
        """Press Run and wait for the layers in the panel. Returns the composite saved by the server, [H,W,3]."""
        entry = self.press_run()
        self.panel.locator(".stage canvas").wait_for()
        self.page.wait_for_timeout(500)
        saved = self.server.client.download(entry["outputs"][str(SAVE_IMAGE)]["images"][0])
        return np.asarray(Image.open(BytesIO(saved)).convert("RGB"))

    def shown(self) -> np.ndarray:
        """The composite in the panel, [H,W,3]."""
        return self.shown_rgba()[..., :3]

    def shown_rgba(self) -> np.ndarray:
        """The composite in the panel with alpha, [H,W,4]."""
        self.page.evaluate(DRAWN)
        picture = self.page.evaluate(PIXELS)
        return np.array(picture["data"], np.uint8).reshape(picture["height"], picture["width"], 4)

    def edits(self) -> dict[str, Any]:
        """The edits in the node's widget; {} if it is empty."""
        text = self.page.evaluate(TEXT, DECODE)
        return json.loads(text) if text else {}

    def button(self, label: str) -> Locator:
        return self.panel.get_by_label(label, exact=True)

    def row(self, name: str) -> Locator:
        return self.panel.locator(".row", has_text=name)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The screen position of a point of the image, given in 0..1 from its upper left."""
        box = self.panel.locator(".frame").bounding_box()
        assert box is not None
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.page.mouse.move(*end)
        self.page.mouse.up()

    def centre_of(self, place: Locator) -> tuple[float, float]:
        # The overlay follows the image in the page's next frames.
        self.page.evaluate(DRAWN)
        for _ in range(50):
            place.wait_for()
            box = place.bounding_box()
            if box is not None:
                break
            self.page.wait_for_timeout(100)
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def change_seed(self, by: int) -> None:
        """Make the next run give other layers."""
        self.page.evaluate(SEED, [SAMPLER, by])

    def reset(self) -> None:
        if self.page.evaluate(TEXT, DECODE):
            self.button("Reset all layer edits").click()
        assert self.edits() == {}
