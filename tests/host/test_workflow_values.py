"""The saved values in the pack's workflows: each node has a valid value for every widget.

The page assigns values to widgets in order, so a missing or additional value shifts all that follow.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from comfy_extras.nodes_compositing import JoinImageWithAlpha
from comfy_extras.nodes_mask import MaskComposite, MaskToImage, SolidMask
from comfy_extras.nodes_post_processing import ImageScaleToTotalPixels

import nodes
from tools import setup

WORKFLOWS = sorted((setup.ROOT / "workflows").glob("*.json"))
WIDGETS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}
AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")
# Nodes of the page, which the server does not know.
NOTES = ("MarkdownNote", "Note")
# ComfyUI's, from files that are not loaded here.
MORE_NODES = {"MaskToImage": MaskToImage, "JoinImageWithAlpha": JoinImageWithAlpha, "SolidMask": SolidMask,
              "MaskComposite": MaskComposite, "ImageScaleToTotalPixels": ImageScaleToTotalPixels}
# Their choices are files of the user's.
THE_USERS = {("CheckpointLoaderSimple", "ckpt_name"), ("LayerDiffApplyAdapter", "adapter_name"), ("LoadImage", "image"),
             ("LayerDiffApplyLayerDiffuse", "model_name"), ("LayerDiffLoadTransparentDecoder", "decoder_name")}


def widgets(kind: str) -> list[tuple[str, str, dict[str, Any]]]:
    """A node's widgets in the page's order: name, type and options; the one that the page puts after a seed as well."""
    if kind in NOTES:
        return [("text", "STRING", {})]
    inputs = (MORE_NODES.get(kind) or nodes.NODE_CLASS_MAPPINGS[kind]).INPUT_TYPES()
    found = []
    for name, (of, *more) in [entry for part in ("required", "optional") for entry in inputs.get(part, {}).items()]:
        options = more[0] if more else {}
        if isinstance(of, list):
            of, options = "COMBO", {**options, "options": of}
        if of in WIDGETS and not options.get("forceInput"):
            found.append((name, of, options))
            if options.get("control_after_generate") or name in ("seed", "noise_seed") and of == "INT":
                found.append(("control_after_generate", "COMBO", {"options": list(AFTER_GENERATE)}))
    return found


def wrong_values(node: dict[str, Any]) -> list[str]:
    """Describe what is wrong with a saved node's values."""
    wanted, values = widgets(node["type"]), node.get("widgets_values") or []
    if len(values) != len(wanted):
        return [f"{node['type']}: {len(values)} values for {len(wanted)} widgets ({', '.join(name for name, _, _ in wanted)})"]
    return [f"{node['type']}: {value!r} for {name}" for value, (name, of, options) in zip(values, wanted)
            if not is_taken(value, of, options, (node["type"], name) in THE_USERS)]


def is_taken(value: Any, of: str, options: dict[str, Any], any_choice: bool) -> bool:
    """Whether a value is valid for a widget: of its type, within its range, one of its choices."""
    if not isinstance(value, WIDGETS[of]) or of != "BOOLEAN" and isinstance(value, bool):
        return False
    if of == "COMBO":
        return any_choice or value in options["options"]
    return of not in ("INT", "FLOAT") or options.get("min", value) <= value <= options.get("max", value)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_widget_has_a_value_that_it_takes(pack: ModuleType, path: Path) -> None:
    saved = json.loads(path.read_text("utf-8"))["nodes"]
    assert [fault for node in saved for fault in wrong_values(node)] == []


@pytest.mark.parametrize("kind, values", [
    ("LayerDiffDecodeLayers", ["", 0.5, 0.4, 0]),
    ("LayerDiffDecodeLayers", ["", 0.5, 7, 0, ""]),
    ("KSampler", [7, 50, 2.5, "euler", "beta", 1]),
    ("KSampler", [7, "sometimes", 50, 2.5, "euler", "beta", 1]),
    ("LayerDiffLoadModel", ["other.safetensors"]),
    ("LayerDiffExportLayers", ["layers", "psd", 1, "display", ""]),
])  # fmt: skip
def test_a_wrong_value_would_be_found(pack: ModuleType, kind: str, values: list[Any]) -> None:
    assert wrong_values({"type": kind, "widgets_values": values})
