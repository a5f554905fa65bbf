"""Take the pictures of the nodes for their help pages, and those of the workflows, from ComfyUI's real page.

`python -m tools.pictures nodes` or `python -m tools.pictures workflows`; the latter draws with the starter.
"""

import json
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

from . import browser, setup
from .client import HostError
from .host import Server
from .page import HEIGHT, WIDTH, open_page

NODE_PICTURES = setup.ROOT / "web" / "docs" / "images"
WORKFLOWS = setup.ROOT / "workflows"
RUN = {"text_to_layers", "edit_in_page", "layers_to_psd", "text_to_two_layers", "foreground_for_background"}
RUN_LIMIT_SECONDS = 300
PIXELS = 2
WORKFLOW_WIDTH = 1200
MARGIN = 10
# Where the page lays its bars and buttons over the canvas: left, top, right, bottom.
BARS = (70, 95, 30, 30)

# Small text is drawn at any zoom, and nothing that says where the picture was taken.
SETTINGS = {"LiteGraph.Canvas.MinFontSizeForLOD": 0, "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
            "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False, "Comfy.Graph.CanvasMenu": False}
# Names that the workflows choose: files of these names are in the lists, so that the page does not ask for them.
MODELS = {"checkpoints": "v1-5-pruned-emaonly-fp16.safetensors", "layered_models": "my_adapter.safetensors"}
# What else than its default a node is shown with: the first file in the list is the starter, which is no adapter.
VALUES = {"adapter_name": MODELS["layered_models"]}

NODES = "() => Object.keys(LiteGraph.registered_node_types).filter(name => name.startsWith('LayerDiff'))"
# Removed, not cleared: a node of the same id would get the values of the one before. Wide enough for its title.
ALONE = """([type, values]) => {
    [...app.graph.nodes].forEach(node => app.graph.remove(node));
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.setSize([Math.max(node.size[0], 290), node.size[1]]);
    node.widgets?.filter(widget => widget.name in values).forEach(widget => { widget.value = values[widget.name]; });
}"""
LOAD = "workflow => app.loadGraphData(workflow)"
# Nodes and groups with their titles: left, top, right, bottom.
BOUNDS = """() => {
    const boxes = [...app.graph.nodes, ...app.graph.groups].map(item => {
        item.updateArea?.(app.canvas.ctx);
        return item.boundingRect ?? [...item.pos, ...item.size];
    });
    return [Math.min(...boxes.map(b => b[0])), Math.min(...boxes.map(b => b[1])),
            Math.max(...boxes.map(b => b[0] + b[2])), Math.max(...boxes.map(b => b[1] + b[3]))];
}"""
VIEW = """([scale, x, y]) => {
    app.canvas.deselectAll();
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [x, y];
    app.canvas.setDirty(true, true);
}"""
NO_MESSAGES = "[data-testid=queue-notification-banner] { display: none }"
SHOWN = "() => app.graph.nodes.filter(node => node.type.includes('Save')).every(node => node.imgs?.length)"

OPEN_PANEL = ".layerdiff-panel.open"


def take(page: Page) -> Image.Image:
    """A picture [RGB] of the graph alone, as large as the page has room for, at most in its own size."""
    left, top, right, bottom = page.evaluate(BOUNDS)
    width, height = right - left + 2 * MARGIN, bottom - top + 2 * MARGIN
    scale = min(1.0, (WIDTH - BARS[0] - BARS[2]) / width, (HEIGHT - BARS[1] - BARS[3]) / height)
    page.evaluate(VIEW, [scale, BARS[0] / scale - left + MARGIN, BARS[1] / scale - top + MARGIN])
    page.mouse.move(WIDTH - 5, HEIGHT - 5)
    # Text boxes follow the canvas some frames later.
    page.wait_for_timeout(700)
    clip = {"x": float(BARS[0]), "y": float(BARS[1]), "width": width * scale, "height": height * scale}
    return Image.open(BytesIO(page.screenshot(clip=clip))).convert("RGB")  # type: ignore[arg-type]


def take_nodes(page: Page) -> None:
    """Write a picture of each node of the pack."""
    NODE_PICTURES.mkdir(exist_ok=True)
    for name in page.evaluate(NODES):
        page.evaluate(ALONE, [name, VALUES])
        save(take(page), NODE_PICTURES / f"{name}.webp", quality=85, method=6)


def take_workflows(page: Page, server: Server) -> None:
    """Write a picture of each workflow, with what it drew where it can be run."""
    page.add_style_tag(content=NO_MESSAGES)
    for path in sorted(WORKFLOWS.glob("*.json")):
        page.evaluate(LOAD, json.loads(path.read_text("utf-8")))
        if path.stem in RUN:
            run(page, server)
        picture = take(page)
        size = (WORKFLOW_WIDTH, round(picture.height * WORKFLOW_WIDTH / picture.width))
        save(picture.resize(size, Image.Resampling.LANCZOS), path.with_suffix(".jpg"), quality=88)


def run(page: Page, server: Server) -> None:
    """Press the page's Run and wait until the pictures are in their nodes. Raises HostError."""
    before = server.client.get("/history").keys()
    page.get_by_test_id("queue-button").click()
    deadline = time.monotonic() + RUN_LIMIT_SECONDS
    while not (new := [entry for key, entry in server.client.get("/history").items() if key not in before]):
        if time.monotonic() > deadline:
            raise HostError(f"The workflow did not finish within {RUN_LIMIT_SECONDS} s.")
        page.wait_for_timeout(500)
    status = new[0]["status"]
    if status["status_str"] != "success":
        raise HostError(f"The workflow failed: {status['messages'][-1]}")
    page.wait_for_function(SHOWN)
    if page.locator(OPEN_PANEL).count():
        page.locator(f"{OPEN_PANEL} .stage canvas").wait_for()


def save(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture and say how large it became."""
    picture.save(path, **options)
    print(f"{path.relative_to(setup.ROOT)}: {picture.width} x {picture.height}, {path.stat().st_size / 1024:.0f} KB")


def model_folders() -> Path:
    """The file that gives ComfyUI a folder with files of the names in MODELS, empty ones."""
    lines = ["pictures:"]
    for key, name in MODELS.items():
        folder = setup.DEV / "data" / "pictures" / "models" / key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        lines.append(f"  {key}: {json.dumps(str(folder))}")
    path = setup.DEV / "data" / "pictures" / "models.yaml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def main(arguments: list[str]) -> int:
    """Take the pictures that the argument names."""
    if arguments not in (["nodes"], ["workflows"]):
        print(__doc__)
        return 2
    chromium = browser.find()
    if chromium is None:
        print(browser.MISSING, file=sys.stderr)
        return 1
    with Server("pictures", "--extra-model-paths-config", str(model_folders())) as server:
        server.client.post("/settings", SETTINGS)
        with open_page(server, chromium, PIXELS) as page:
            if arguments == ["nodes"]:
                take_nodes(page)
            else:
                take_workflows(page, server)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
