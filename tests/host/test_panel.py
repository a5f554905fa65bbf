"""The data that nodes send to their layer panel, and the effect of its edits on their outputs."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import numpy as np
import pytest
import torch
from PIL import Image

EDITS = json.dumps({"version": 1, "order": [1, 0], "layers": {"0": {"opacity": 0.5, "right": 2}}})


@pytest.fixture
def nodes(pack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    return pack.nodes


@pytest.fixture
def layers() -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    image, mask = (torch.rand(2, 5, 7, *rest, generator=random) for rest in ((3,), ()))
    item = {"image": image, "mask": mask, "opacity": 0.75, "x": 1}
    return {"version": 1, "canvas": (7, 5), "layers": [item]}


def sent(output: Any) -> dict[str, Any]:
    """The payload of a node's output, as the page gets it."""
    (payload,) = json.loads(json.dumps(output.ui))["layer_panel"]
    return payload


def read(tmp_path: Path, file: dict[str, str]) -> np.ndarray:
    assert file["type"] == "temp"
    return np.array(Image.open(tmp_path / file["subfolder"] / file["filename"]))


def test_the_panel_gets_the_layers_before_the_edits_with_their_pixels(nodes: Any, layers: Any, tmp_path: Path) -> None:
    payload = sent(nodes.composite.LayerDiffCompositeLayers.execute(layers, "linear", EDITS))
    assert payload["canvas"] == [7, 5] and payload["linear"] is True and payload["stale"] is False
    assert len(payload["made_for"]) == 16
    for number, layer in enumerate(payload["layers"]):
        files = layer.pop("colour"), layer.pop("coverage")
        assert layer == {"name": "Layer 1", "x": 1, "y": 0, "w": 7, "h": 5, "opacity": 0.75, "blend_mode": "normal",
                         "rotation": 0.0, "visible": True, "flip_h": False, "flip_v": False}  # fmt: skip
        colours, coverage = (read(tmp_path, file) for file in files)
        item = layers["layers"][0]
        assert np.abs(colours - 255 * item["image"][number].numpy()).max() <= 0.51
        assert np.abs(coverage - 255 * (1 - item["mask"][number].numpy())).max() <= 0.51


def test_nothing_piles_up(nodes: Any, layers: Any, tmp_path: Path) -> None:
    run = nodes.composite.LayerDiffCompositeLayers.execute
    first = sent(run(layers, "display"))
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 4
    assert sent(run(layers, "display", EDITS))["layers"] == first["layers"]
    assert sorted(tmp_path.rglob("*.png")) == files


def test_the_composite_has_the_edits(nodes: Any, layers: Any) -> None:
    run = nodes.composite.LayerDiffCompositeLayers.execute
    change = nodes.composite.LayerDiffSetLayer.execute
    by_hand = change(layers, 0, "", 1, 0.5, "normal", True, 2, 0, 1.0, 0.0).args[0]
    expected, plain = run(by_hand, "display").args, run(layers, "display").args
    edited = run(layers, "display", EDITS).args
    assert torch.equal(edited[0], expected[0]) and torch.equal(edited[1], expected[1])
    assert [layer["name"] for layer in edited[3]["layers"]] == [layer["name"] for layer in by_hand["layers"]]
    assert not torch.allclose(expected[0], plain[0])


def test_edits_made_for_other_layers_are_said_to_be_stale_and_left_out(nodes: Any, layers: Any) -> None:
    run = nodes.composite.LayerDiffCompositeLayers.execute
    made_for = sent(run(layers, "display"))["made_for"]
    edits = {"version": 1, "made_for": made_for, "layers": {"1": {"visible": False}}}
    assert sent(run(layers, "display", json.dumps(edits)))["stale"] is False
    layers["layers"][0]["image"] = layers["layers"][0]["image"].flip(1)
    output, plain = run(layers, "display", json.dumps(edits)), run(layers, "display")
    assert sent(output)["stale"] is True and sent(output)["made_for"] != made_for
    assert torch.equal(output.args[0], plain.args[0])
    assert [layer["visible"] for layer in output.args[3]["layers"]] == [True, True]


class Vae:
    """Stands for a VAE of one channel that shows its latent in grey, eight times as large."""

    latent_channels = 1
    first_stage_model = torch.nn.Identity()

    def spacial_compression_encode(self) -> int:
        return 8

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent.repeat_interleave(8, 2).repeat_interleave(8, 3).movedim(1, -1).expand(-1, -1, -1, 3)


def latent(scenes: int) -> dict[str, Any]:
    """Scenes of two layers, 24 x 16 pixels each."""
    return {"samples": torch.rand(2 * scenes, 2, 2, 3, generator=torch.Generator().manual_seed(1)), "layers": 2}


def test_decode_applies_the_edits_to_the_chosen_scene_alone(nodes: Any) -> None:
    run = nodes.decode.LayerDiffDecodeLayers.execute
    edits = json.dumps({"version": 1, "layers": {"0": {"visible": False}}})
    plain = run(latent(2), Vae(), "", 0.5, 0.4, 1)
    output = run(latent(2), Vae(), "", 0.5, 0.4, 1, edits)
    assert eyes(output) == [[False, True]] and eyes(plain) == [[True, True]]
    assert torch.equal(output.args[3][0], plain.args[3][0]) and not torch.equal(output.args[3][1], plain.args[3][1])
    # A hidden layer also has an image and a mask.
    assert torch.equal(output.args[1], plain.args[1]) and torch.allclose(output.args[2], plain.args[2], atol=1e-6)
    assert sent(output) == sent(plain) and [layer["visible"] for layer in sent(output)["layers"]] == [True, True]


def eyes(output: Any) -> list[list[bool]]:
    """For each output scene, which layers are visible."""
    return [[layer["visible"] for layer in document["layers"]] for document in output.args[0]]


def test_pictures_and_masks_lie_where_the_edits_put_the_layers(nodes: Any) -> None:
    run = nodes.decode.LayerDiffDecodeLayers.execute
    edits = {"version": 1, "order": [1, 0, 50], "copies": {"50": 1}, "layers": {
        "1": {"right": 5, "down": -3, "opacity": 0.5}, "50": {"right": 24}}}  # fmt: skip
    _, images, coverage, *_ = run(latent(2), Vae(), "", 0.5, 0.4, 1).args
    _, moved_images, moved, *_ = run(latent(2), Vae(), "", 0.5, 0.4, 1, json.dumps(edits)).args
    # The first scene as it was; of the second the top layer first, the background, and a copy that was moved off.
    assert len(moved) == len(moved_images) == 5
    assert torch.equal(moved[:2], coverage[:2]) and torch.equal(moved_images[:2], images[:2])
    expected = torch.zeros(16, 24)
    expected[:-3, 5:] = coverage[3, 3:, :-5]
    assert torch.allclose(moved[2], expected, atol=1e-6) and expected.std() > 0.1
    inside = coverage[3, 3:, :-5] > 0.9
    assert torch.allclose(moved_images[2, :-3, 5:][inside], images[3, 3:, :-5][inside], atol=0.05)
    assert torch.equal(moved_images[3], images[2]) and torch.allclose(moved[3], coverage[2], atol=1e-6)
    assert not moved[4].any()


def test_a_deleted_layer_has_no_picture_and_no_mask(nodes: Any) -> None:
    run = nodes.decode.LayerDiffDecodeLayers.execute
    output = run(latent(1), Vae(), "", 0.5, 0.4, 0, json.dumps({"version": 1, "layers": {"1": {"deleted": True}}}))
    assert [len(part) for part in output.args[1:3]] == [1, 1] and len(output.args[0][0]["layers"]) == 1


def test_decode_applies_the_edits_to_all_scenes_where_all_are_chosen(nodes: Any) -> None:
    run = nodes.decode.LayerDiffDecodeLayers.execute
    made_for = sent(run(latent(3), Vae(), "", 0.5, 0.4, -1))["made_for"]
    edits: dict[str, Any] = {"version": 1, "layers": {"0": {"visible": False}, "1": {"right": 4}}}
    singles = [run(latent(3), Vae(), "", 0.5, 0.4, scene, json.dumps(edits)) for scene in range(3)]
    # The panel shows the first scene alone, and its edits are for all.
    output = run(latent(3), Vae(), "", 0.5, 0.4, -1, json.dumps(edits | {"made_for": made_for}))
    assert eyes(output) == [[False, True]] * 3 and sent(output) == sent(singles[0])
    assert torch.equal(output.args[3], torch.cat([single.args[3][n : n + 1] for n, single in enumerate(singles)]))
    for part in (1, 2):
        assert torch.equal(output.args[part], torch.cat([single.args[part][2 * n : 2 * n + 2]
                                                         for n, single in enumerate(singles)]))
    for document, single in zip(output.args[0], singles):
        assert torch.equal(document["layers"][1]["image"], single.args[0][0]["layers"][1]["image"])


@pytest.mark.parametrize("name", ["LayerDiffDecodeLayers", "LayerDiffCompositeLayers"])
def test_graphs_from_before_the_panel_still_run(nodes: Any, name: str) -> None:
    (node,) = (node for node in [*nodes.decode.NODES, *nodes.composite.NODES] if node.__name__ == name)
    last = node.GET_SCHEMA().inputs[-1]
    assert (last.id, last.optional, last.default, last.socketless) == ("edits", True, "", True)
