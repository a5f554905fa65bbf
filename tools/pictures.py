"""Take screenshots of the nodes in ComfyUI's real page for their help pages, and draw the thumbnails of the workflows.

`python -m tools.pictures nodes` or `python -m tools.pictures workflows`; the latter runs them with the starter models.
"""

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

from . import browser, setup
from .host import Server
from .page import HEIGHT, WIDTH, open_page
from .sheet import PAPER, fit, on_checkerboard

NODE_PICTURES = setup.ROOT / "web" / "docs" / "images"
WORKFLOWS = setup.ROOT / "workflows"
PROMPTS = setup.ROOT / "tests" / "api"
PIXELS = 2
SIDE, GAP = 768, 12
MARGIN = 10
# The margins that the page's bars and buttons cover: left, top, right, bottom.
BARS = (70, 95, 30, 30)

# Draw small text at any zoom, and no badges that depend on this installation.
SETTINGS = {"LiteGraph.Canvas.MinFontSizeForLOD": 0, "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
            "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False, "Comfy.Graph.CanvasMenu": False}
# Values shown instead of the default: the first file in the list would be the starter, which is not an adapter.
VALUES = {"adapter_name": "my_adapter.safetensors", "dataset": "my_scenes [output]"}

# Workflows that need files of other authors. What the starter draws from their prompts is shown instead: the workflow whose
# prompt is run, with these inputs changed.
STAND_INS: dict[str, tuple[str, dict[str, Any]]] = {
    "layerdiffuse_joint": ("text_to_layers", {
        "2.global_prompt": "a teddy bear at a beach by day", "2.layer_prompts": "background: a beach by day\nbear: a teddy bear",
        "4.seed": 8}),
    "layerdiffuse_add_foreground": ("text_to_layers", {
        "2.global_prompt": "a teddy bear and a palm tree at a beach by day",
        "2.layer_prompts": "background: a beach by day\nbear: a teddy bear\ntree: a palm tree", "4.seed": 7}),
}

NODES = "() => Object.keys(LiteGraph.registered_node_types).filter(name => name.startsWith('LayerDiff'))"
# Nodes are removed one by one, not cleared, because a node with the same id would get the values of the previous one. The node
# is made wide enough for its title.
ALONE = """([type, values]) => {
    [...app.graph.nodes].forEach(node => app.graph.remove(node));
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.setSize([Math.max(node.size[0], 290), node.size[1]]);
    node.widgets?.filter(widget => widget.name in values && widget.options?.values).forEach(widget => {
        widget.options.values = [values[widget.name]];
        widget.value = values[widget.name];
    });
}"""
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


def take(page: Page) -> Image.Image:
    """A screenshot [RGB] of the graph only, as large as fits on the page, at most at its original size."""
    left, top, right, bottom = page.evaluate(BOUNDS)
    width, height = right - left + 2 * MARGIN, bottom - top + 2 * MARGIN
    scale = min(1.0, (WIDTH - BARS[0] - BARS[2]) / width, (HEIGHT - BARS[1] - BARS[3]) / height)
    page.evaluate(VIEW, [scale, BARS[0] / scale - left + MARGIN, BARS[1] / scale - top + MARGIN])
    page.mouse.move(WIDTH - 5, HEIGHT - 5)
    # Text boxes follow the canvas a few frames later.
    page.wait_for_timeout(700)
    clip = {"x": float(BARS[0]), "y": float(BARS[1]), "width": width * scale, "height": height * scale}
    return Image.open(BytesIO(page.screenshot(clip=clip))).convert("RGB")  # type: ignore[arg-type]


def take_nodes(page: Page) -> None:
    """Save a screenshot of each node of the pack."""
    NODE_PICTURES.mkdir(exist_ok=True)
    for name in page.evaluate(NODES):
        page.evaluate(ALONE, [name, VALUES])
        save(take(page), NODE_PICTURES / f"{name}.webp", quality=85, method=6)


def draw_workflows(server: Server) -> None:
    """Draw a thumbnail for each workflow."""
    for path in sorted(WORKFLOWS.glob("*.json")):
        draw_workflow(server, path)


def draw_workflow(server: Server, path: Path) -> None:
    """Draw a workflow's thumbnail: a large composite of its result, with its layers."""
    drawn, changes = STAND_INS.get(path.stem, (path.stem, {}))
    prompt = json.loads((PROMPTS / f"{drawn}.json").read_text("utf-8"))
    for place, value in changes.items():
        number, name = place.split(".")
        prompt[number]["inputs"][name] = value
    result = server.client.run(prompt)
    scenes: list[list[Image.Image]] = []
    for _, output in sorted(result.outputs.items(), key=lambda entry: int(entry[0])):
        if "layer_panel" in output and "layer_pictures" in output:
            layers = [open_rgba(server, file) for file in output["layer_pictures"][0]]
            # Several nodes may show the same layers.
            scenes += [layers] if layers not in scenes else []
    save(cover(scenes), path.with_suffix(".jpg"), quality=88)


def open_rgba(server: Server, file: dict[str, str]) -> Image.Image:
    return Image.open(BytesIO(server.client.download(file))).convert("RGBA")


def cover(scenes: list[list[Image.Image]]) -> Image.Image:
    """A square image [RGB]: the last scene's composite with its layers below; with two scenes, both composites."""
    composites = [stacked(layers) for layers in scenes]
    tiles = [on_checkerboard(fit(layer, SIDE // 3 - GAP)) for layer in scenes[-1]]
    if len(composites) == 1:
        picture = Image.new("RGB", (SIDE, SIDE), PAPER)
        large = SIDE - SIDE // 3 - GAP
        picture.paste(fit(composites[0], large).convert("RGB"), ((SIDE - large) // 2, 0))
        step = SIDE // len(tiles)
        for number, tile in enumerate(tiles):
            picture.paste(tile, (number * step + (step - tile.width) // 2, large + GAP))
        return picture
    half = (SIDE - GAP) // 2
    picture = Image.new("RGB", (SIDE, half), PAPER)
    for number, composite in enumerate(composites[:2]):
        picture.paste(fit(composite, half).convert("RGB"), (number * (half + GAP), 0))
    return picture


def stacked(layers: list[Image.Image]) -> Image.Image:
    composite = Image.new("RGBA", layers[0].size)
    for layer in layers:
        composite.alpha_composite(layer)
    return composite


def save(picture: Image.Image, path: Path, **options: Any) -> None:
    """Save an image and print its size."""
    picture.save(path, **options)
    print(f"{path.relative_to(setup.ROOT)}: {picture.width} x {picture.height}, {path.stat().st_size / 1024:.0f} KB")


def main(arguments: list[str]) -> int:
    """Create the images named by the argument."""
    if arguments not in (["nodes"], ["workflows"]):
        print(__doc__)
        return 2
    chromium = browser.find()
    if chromium is None:
        print(browser.MISSING, file=sys.stderr)
        return 1
    with Server("pictures") as server:
        if arguments == ["workflows"]:
            draw_workflows(server)
            return 0
        server.client.post("/settings", SETTINGS)
        with open_page(server, chromium, PIXELS) as page:
            take_nodes(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
