"""LayerDiffuse's templates through the real server and ComfyUI's own loaders, with stand-ins for the files that they need."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from layerdiff_core.files.psd import read_psd
from tests.api.graphs import Graph, changed, refuse
from tests.layerdiffuse import CHECKPOINT, SERVED, write_served
from tools.client import Interrupted, PromptRefused
from tools.host import Server

HERE = Path(__file__).parent
TEMPLATES = ("layerdiffuse_joint", "layerdiffuse_add_foreground")
SIDE = 64


@pytest.fixture(scope="module")
def files(server: Server, served_models: Path) -> None:
    """Stand-ins for the files that the templates need, and the image that comes with ComfyUI."""
    (server.data / "input").mkdir(parents=True, exist_ok=True)
    Image.effect_mandelbrot((90, 60), (-2, -1, 1, 1), 50).convert("RGB").save(server.data / "input" / "example.png")
    write_served(served_models)


def graph(name: str, **changes: Any) -> Graph:
    """A template with the stand-ins, two steps, one pass of the decoder and a small image."""
    quick = {"steps": 2, "width": SIDE, "height": SIDE, "megapixels": 0.01, "quality": "fast (1 pass)"}
    found: Graph = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    for node in found.values():
        node["inputs"] |= {key: value for key, value in quick.items() if key in node["inputs"]}
        node["inputs"] |= {key: SERVED[str(value)] for key, value in node["inputs"].items() if str(value) in SERVED}
    return changed(found, changes)


@pytest.mark.parametrize("name", TEMPLATES)
def test_missing_files_are_named_by_comfyui(server: Server, name: str) -> None:
    """As on the first day: nothing is downloaded, and every file that the template needs is in the message."""
    with pytest.raises(PromptRefused) as caught:
        server.client.run(json.loads((HERE / f"{name}.json").read_text("utf-8")))
    said = json.dumps(caught.value.errors)
    file = "layer_sd15_joint" if name.endswith("joint") else "layer_sd15_bg2fg"
    assert all(each in said for each in (CHECKPOINT, file, "layer_sd15_vae_transparent_decoder", "not in list"))
    assert server.is_alive()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_graph_names_every_input(server: Server, name: str) -> None:
    info = server.client.get("/object_info")
    for number, node in json.loads((HERE / f"{name}.json").read_text("utf-8")).items():
        required, optional = (info[node["class_type"]]["input"].get(part, {}).keys() for part in ("required", "optional"))
        assert required <= node["inputs"].keys() <= required | optional, number


def written_psd(server: Server, outputs: dict[str, Any], number: str) -> list[str]:
    """The names of the layers in the PSD that an export node wrote."""
    (file,) = outputs[number]["files"]
    return [layer.name for layer in read_psd(server.data / "output" / file["subfolder"] / file["filename"]).layers]


def test_joint_to_a_psd_with_progress_and_previews(server: Server, files: None) -> None:
    """Two scenes at once: the preview shows all six frames."""
    seen: list[tuple[str, int, int]] = []
    previews: list[bytes] = []
    outputs = server.client.run(
        graph("layerdiffuse_joint", **{"4.scenes": 2, "6.steps": 3}),
        lambda kind, data: seen.append((data["node"], data["value"], data["max"])) if kind == "progress" else None,
        previews.append).outputs
    assert [step for node, step, of in seen if node == "6" and of == 3][-1] == 3
    assert any(node == "7" for node, *_ in seen), "the decoder's progress"
    sizes = [Image.open(io.BytesIO(preview)).size for preview in previews]
    assert sizes and all(abs(wide / high - 6) < 0.1 for wide, high in sizes), sizes
    assert written_psd(server, outputs, "8") == ["background", "bear"]


def test_foregrounds_one_after_another_to_a_psd(server: Server, files: None) -> None:
    outputs = server.client.run(graph("layerdiffuse_add_foreground")).outputs
    assert written_psd(server, outputs, "12") == ["background", "bear", "tree"]
    sizes = {Image.open(io.BytesIO(server.client.download(file))).size for file in outputs["11"]["layer_pictures"][0]}
    assert sizes == {(125, 84)}, "no multiple of 64, and none of 8"


def test_an_interrupt_stops_and_the_next_run_works(server: Server, files: None) -> None:
    steps: list[int] = []

    def watch(kind: str, data: Any) -> None:
        if kind == "progress" and data["node"] == "6":
            steps.append(data["value"])
            if len(steps) == 2:
                server.client.interrupt()

    long = graph("layerdiffuse_joint", **{"6.steps": 200, "6.seed": 5})
    with pytest.raises(Interrupted, match="node 6"):
        server.client.run(long, watch)
    assert steps[-1] <= steps[1] + 2
    assert written_psd(server, server.client.run(graph("layerdiffuse_joint", **{"6.seed": 5})).outputs, "8")


def test_what_does_not_fit_is_said_at_its_node(server: Server, files: None) -> None:
    joint, add = (graph(name) for name in TEMPLATES)
    refuse(server, changed(joint, {"3.model_name": "narrow_decoder.safetensors"}), "3", "transparent decoder.*Load Transparent")
    refuse(server, changed(joint, {"2.decoder_name": "narrow_joint.safetensors"}), "2", "is not a transparent decoder")
    refuse(server, changed(joint, {"4.layers": 5}), "4", "5 layers were requested, but this LayerDiffuse model generates 2")
    refuse(server, changed(joint, {"5.layer_prompts": "a\nb\nc"}), "6", "got 4 prompts, but this MODEL generates 3 frames")
    refuse(server, changed(joint, {"7.vae": ["1", 2]}), "7", "8 channels")
    refuse(server, changed(add, {"8.vae": ["2", 0]}), "8", "not from the same Apply LayerDiffuse")
    refuse(server, changed(add, {"8.denoise": 0.5}), "8", "nothing to start from")
    refuse(server, changed(add, {"8.model": ["1", 0]}), "8", "not a layered one")
    refuse(server, changed(add, {"6.background": ["3", 0]}), "8", "canvas of the layers has 125 x 84 pixels, but the given")
