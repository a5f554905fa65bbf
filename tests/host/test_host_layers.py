"""ComfyUI's own layer nodes (since 0.31) and the pack's on the same documents: exchanging layers, and compositing them."""

import math
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import numpy as np
import pytest
import torch
from PIL import Image

from layerdiff_core import layers as core
from layerdiff_core.blend import MODES
from tests import w3c
from tests.api.graphs import STARTER, changed, layered, node
from tests.models import write_starter
from tools.host import Server

host = pytest.importorskip("comfy_extras.nodes_compositor",
                           reason="This ComfyUI has no layer nodes; they came with 0.31.", exc_type=ImportError)

LEVEL = 1 / 255
WIDE, HIGH = 40, 30
OTHER_FORMULA = {
    "soft-light": "ComfyUI has Pegtop's formula, b² (1 - 2s) + 2bs; the W3C text that of Photoshop.",
    "hue": "ComfyUI keeps the largest channel (HSV); the W3C text the luminosity.",
    "saturation": "ComfyUI keeps the largest channel (HSV); the W3C text the luminosity.",
    "color": "ComfyUI keeps the middle of the largest and the smallest channel (HSL); the W3C text the luminosity.",
    "luminosity": "ComfyUI multiplies the colour beneath, which may go beyond white; the W3C text adds, and clips the colour.",
}
NOT_CLAMPED = {"linear-dodge", "linear-burn", "linear-light", "grain-extract", "grain-merge"}
"""ComfyUI keeps values outside 0..1. The W3C text, like the pack, clamps them before coverage and opacity are applied."""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for the previews that ComfyUI's node saves."""
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))


def layered_image(doc: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Create Layered Image: colour [H,W,3], alpha [H,W,1], and what it tells the page."""
    clone = host.ImageCompositor.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    made = clone.execute(doc)
    image, transparency = made.args
    return image[0, ..., :3].numpy(), 1 - transparency[0].numpy()[..., None], made.ui


def composited(pack: ModuleType, doc: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Composite Layers with colour_space linear: colour and alpha likewise."""
    image, transparency = pack.nodes.composite.LayerDiffCompositeLayers.execute(doc, "linear").args[:2]
    return image[0].numpy(), 1 - transparency[0].numpy()[..., None]


def make_document(images: torch.Tensor, coverage: torch.Tensor, names: list[str]) -> dict[str, Any]:
    """A LAYERS document as our nodes write it."""
    return core.make_document(images, coverage, names).to_socket()


def ordered(doc: dict[str, Any]) -> list[dict[str, Any]]:
    """Its layers as our nodes read it, bottom first."""
    return core.Document.from_socket(doc).to_socket()["layers"]


def document(layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"version": 1, "layers": [layer | {"z_index": number} for number, layer in enumerate(layers)]}


def bytes_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)) / 255


def smooth(seed: int, channels: int = 3) -> torch.Tensor:
    """An image [1,H,W,channels] that may be turned and scaled without another filter making it another image."""
    small = torch.rand(1, channels, 3, 4, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, size=(HIGH, WIDE), mode="bicubic").clamp(0, 1)
    return large.movedim(1, -1).mul(255).round() / 255


def far(pack: ModuleType, doc: dict[str, Any]) -> np.ndarray:
    """Between the two nodes: colours as far as they are seen, and alpha, [H,W,4]."""
    (image, alpha), (theirs, their_alpha, _) = composited(pack, doc), layered_image(doc)
    return np.abs(np.concatenate([image * alpha - theirs * their_alpha, alpha - their_alpha], -1))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in OTHER_FORMULA])
def test_both_stack_a_mode_to_the_same_picture(pack: ModuleType, mode: str) -> None:
    for name, layers in list(w3c.scenes(mode).items())[:3]:
        *_, special = w3c.composite(layers, linear=True)
        found = far(pack, document(layers))
        assert found[..., :3][~special].max() < LEVEL and found[..., 3].max() < LEVEL and (~special).mean() > 0.1, name
        if mode not in w3c.OTHERS and mode != "color-burn":
            assert found.max() < LEVEL, name


@pytest.mark.parametrize("mode", sorted({*OTHER_FORMULA, *NOT_CLAMPED, "color-burn"}))
def test_where_they_differ_ours_is_what_the_w3c_text_says(pack: ModuleType, mode: str) -> None:
    layers = w3c.scenes(mode)["half-transparent on opaque"]
    wanted, *_ = w3c.composite(layers, linear=True)
    image, _ = composited(pack, document(layers))
    theirs, *_ = layered_image(document(layers))
    assert np.abs(image - wanted).max() < LEVEL
    assert np.abs(theirs - wanted).max() > LEVEL, "ComfyUI follows the text now: let the test above compare this mode."


@pytest.mark.parametrize("mode", MODES)
def test_over_a_backdrop_that_is_not_everywhere(pack: ModuleType, mode: str) -> None:
    """ComfyUI clips a layer with a mode other than normal to the layers below. In the W3C text it is unblended outside them."""
    *_, top = w3c.scenes(mode)["half-transparent on half-transparent"]
    base = {"type": "raster", "image": bytes_of(*top["image"].shape), "mask": torch.zeros_like(top["mask"])}
    base["mask"][:, :, :20] = 1
    doc = document([base, top])
    (image, alpha), (_, their_alpha, _) = composited(pack, doc), layered_image(doc)
    covered = (1 - top["mask"][0].numpy()[..., None]) * top["opacity"]
    assert np.abs(alpha[:, :20] - covered[:, :20]).max() < 1e-5
    assert (np.abs(image - top["image"][0].numpy()) * alpha)[:, :20].max() < LEVEL
    assert np.abs(their_alpha[:, :20] - covered[:, :20] * (mode == "normal")).max() < 1e-5
    if mode not in {*OTHER_FORMULA, *w3c.OTHERS, "color-burn"}:
        assert far(pack, doc)[:, 20:].max() < LEVEL


FIELDS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "opacity": {"opacity": 0.4},
    "hidden": {"visible": False},
    "moved": {"x": 11, "y": -6},
    "flipped": {"flip_h": True},
    "upside down": {"flip_v": True},
    "all at once": {"x": -8, "y": 5, "opacity": 0.7, "flip_h": True, "flip_v": True},
    "below all others": {"z_index": -1},
}


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_of_ours_means_the_same_there(pack: ModuleType, name: str) -> None:
    images = torch.cat([smooth(seed) for seed in range(3)])
    coverage = bytes_of(3, HIGH, WIDE)
    coverage[0] = 1
    doc = make_document(images, coverage, ["background", "one", "two"])
    before, *_ = layered_image(doc)
    doc["layers"][1] |= FIELDS[name]
    assert far(pack, doc).max() < LEVEL
    after, _, told = layered_image(doc)
    assert (np.abs(before - after).max() > 10 * LEVEL) == (name != "as it is")
    wanted = [{"name": layer["name"], "x": layer["x"], "y": layer["y"], "width": layer["w"], "height": layer["h"],
               "rotation": layer["rotation"], "visible": layer["visible"], "opacity": layer["opacity"],
               "blend": layer["blend_mode"], "flipH": layer["flip_h"], "flipV": layer["flip_v"]} for layer in ordered(doc)]
    assert told["compositor_bboxes"] == wanted


@pytest.mark.parametrize("rotation", [math.pi / 2, -math.pi / 2])
def test_a_quarter_turn_lies_a_row_higher_there(pack: ModuleType, rotation: float) -> None:
    """ComfyUI rounds the turned corners down, -0.0000000000000002 to -1. Ours lies where the box is."""
    images = torch.cat([smooth(seed) for seed in range(2)])
    doc = make_document(images, torch.ones(2, HIGH, WIDE), ["background", "turned"])
    doc["layers"][1] |= {"rotation": rotation, "flip_h": True}
    lower = doc | {"layers": [doc["layers"][0], doc["layers"][1] | {"y": 1}]}
    assert host.placed_bounds(0, 0, WIDE, HIGH, rotation)[1] == (HIGH - WIDE) // 2 - 1
    (image, _), (theirs, *_) = composited(pack, doc), layered_image(lower)
    assert np.abs(image - theirs).max() < LEVEL
    # Turned the other way it is another image.
    doc["layers"][1]["rotation"] = -rotation
    assert np.abs(composited(pack, doc)[0] - theirs).max() > 10 * LEVEL


@pytest.mark.parametrize("change", [{"rotation": 0.5}, {"rotation": -2.2, "x": 4, "flip_h": True}, {"w": 90, "h": 25},
                                    {"w": 13, "h": 50, "y": -9}], ids=str)
def test_turned_and_scaled_layers_lie_in_the_same_place(pack: ModuleType, change: dict[str, Any]) -> None:
    # Each of the two has filters of its own, so single pixels at the rim differ.
    def moved(right: int, down: int) -> dict[str, Any]:
        place = {"x": change.get("x", 0) + right, "y": change.get("y", 0) + down}
        return document([{"image": smooth(0)}, {"image": smooth(1), **change, **place}]) | {"canvas": (WIDE, HIGH)}

    theirs, *_ = layered_image(moved(0, 0))
    same = np.abs(composited(pack, moved(0, 0))[0] - theirs).mean()
    others = [np.abs(composited(pack, moved(*by))[0] - theirs).mean() for by in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    assert same < 2 * LEVEL and same < min(others) / 2


def add(layers: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    """ComfyUI's Add Layer."""
    return host.AddLayer.execute(layers=layers, **inputs).args[0]


def test_what_add_layer_makes_is_read_whole(pack: ModuleType) -> None:
    doc = add(image=smooth(0), name="ground")
    doc = add(doc, image=torch.cat([smooth(1), smooth(2)]), mask=bytes_of(2, HIGH, WIDE), name="both", opacity=0.6,
              blend_mode="screen", x=3, y=-4, rotation=180.0, flip_h=True, z_index=5)
    doc = add(doc, image=smooth(3, 4), mask=bytes_of(1, 8, 9), flip_v=True, z_index=2, blend_mode="multiply")
    doc = add(doc, image=smooth(4), name="small", width=10, height=8)
    layers = ordered(doc)
    assert [layer["name"] for layer in layers] == ["ground", "small", "Layer 3", "both", "both"]
    assert [(layer["opacity"], layer["blend_mode"], layer["flip_h"], layer["flip_v"]) for layer in layers[1:]] == [
        (1.0, "normal", False, False), (1.0, "multiply", False, True), (0.6, "screen", True, False), (0.6, "screen", True, False)]
    assert [(layer["w"], layer["h"]) for layer in layers[:2]] == [(WIDE, HIGH), (10, 8)]
    assert layers[3]["rotation"] == pytest.approx(math.pi) and (layers[3]["x"], layers[3]["y"]) == (3, -4)
    assert torch.equal(layers[4]["image"], smooth(2))
    changed_doc = pack.nodes.composite.LayerDiffSetLayer.execute(doc, 4, "top", 0, 1.0, "normal", True, 0, 0, 1.0, 0.0).args[0]
    assert [layer["name"] for layer in ordered(changed_doc)] == ["top", "ground", "small", "Layer 3", "both"]


def test_a_mask_of_one_is_transparent_to_both(pack: ModuleType) -> None:
    mask = torch.zeros(1, HIGH, WIDE)
    mask[:, :, : WIDE // 2] = 1
    doc = add(image=smooth(0), mask=mask)
    for alpha in (composited(pack, doc)[1], layered_image(doc)[1]):
        assert alpha[:, : WIDE // 2].max() == 0 and alpha[:, WIDE // 2 :].min() == 1


def test_layers_are_added_to_ours(pack: ModuleType) -> None:
    doc = make_document(smooth(0).repeat(2, 1, 1, 1), torch.ones(2, HIGH, WIDE), ["one", "two"])
    more = add(doc, image=bytes_of(1, 60, 70, 3), name="three", z_index=2, opacity=0.5)
    assert tuple(more["canvas"]) == (WIDE, HIGH) and [layer["name"] for layer in ordered(more)] == ["one", "two", "three"]
    assert far(pack, more).max() < LEVEL


def test_layers_from_bounding_boxes_lie_where_the_boxes_are(pack: ModuleType) -> None:
    boxes = [{"x": 2, "y": 3, "width": WIDE, "height": HIGH, "metadata": {"name": "whole", "z_index": 4}},
             {"x": -5, "y": 6, "width": WIDE, "height": HIGH, "metadata": {"content_rect": [4, 2, 20, 10], "desc": "cut"}}]
    doc = host.LayersFromBoundingBoxes.execute(torch.cat([smooth(0), smooth(1)]), [boxes], mask=bytes_of(2, HIGH, WIDE),
                                               canvas_width=50, canvas_height=44).args[0]
    cut, whole = ordered(doc)
    assert (cut["name"], cut["x"], cut["y"], cut["w"], cut["h"]) == ("cut", -1, 8, 20, 10)
    assert (whole["name"], whole["x"], whole["y"], whole["w"], whole["h"]) == ("whole", 2, 3, WIDE, HIGH)
    assert torch.equal(cut["mask"], bytes_of(2, HIGH, WIDE)[1:, 2:12, 4:24])
    assert far(pack, doc).max() < LEVEL and far(pack, doc).shape[:2] == (44, 50)


def test_a_graph_runs_through_both(pack: ModuleType, server: Server, served_models: Path) -> None:
    """On the server: Decode Layers, a layer of ComfyUI's on top, both composites, and a file of all."""
    write_starter(pack, served_models / STARTER)
    graph = changed(layered(), {
        "6": node("EmptyImage", width=20, height=30, batch_size=1, color=0x3366CC),
        "7": node("AddLayer", layers=["5", 0], image=["6", 0], name="card", x=30, y=8, opacity=0.5, z_index=9),
        "8": node("ImageCompositor", layers=["7", 0], compositor={}),
        "9": node("LayerDiffCompositeLayers", layers=["7", 0], colour_space="linear"),
        "10": node("SaveImage", images=["8", 0], filename_prefix="host_layers"),
        "11": node("SaveImage", images=["9", 0], filename_prefix="our_layers"),
        "12": node("LayerDiffExportLayers", layers=["7", 0], filename_prefix="both", format="psd", colour_space="display"),
    })
    outputs = server.client.run(graph).outputs
    theirs, ours = (server.client.download(outputs[number]["images"][0]) for number in ("10", "11"))
    # ComfyUI rounds each layer to bytes before it stacks them.
    assert np.abs(pixels(theirs) - pixels(ours)).max() <= 4 and pixels(ours).std() > 20
    assert [box["name"] for box in outputs["8"]["compositor_bboxes"]] == ["background", "balloon", "fox", "card"]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(float)
