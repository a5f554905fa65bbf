"""Heal Seams in ComfyUI: its schema, and that it outputs the layers and their composite."""

from types import ModuleType

import pytest
import torch


def test_healed_layers_and_their_composite(pack: ModuleType) -> None:
    node = pack.nodes.seams.LayerDiffHealSeams
    schema = node.GET_SCHEMA()
    assert schema.node_id == "LayerDiffHealSeams" and schema.description and schema.search_aliases
    assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])
    mask = torch.ones(1, 32, 32)
    mask[:, 6:26, 6:26] = 0
    image = torch.tensor([0.9, 0.1, 0.1]).expand(1, 32, 32, 3).clone()
    image[:, 8:24, 8:24] = torch.tensor([0.1, 0.2, 0.9])
    ground = {"image": torch.full((1, 32, 32, 3), 0.5), "mask": None, "type": "raster"}
    thing = {"image": image, "mask": mask, "type": "raster", "name": "blue with a red rim", "z_index": 1}
    layers, composite = node.execute({"version": 1, "canvas": (32, 32), "layers": [ground, thing]}, 3, "display").args
    assert [layer["name"] for layer in layers["layers"]] == ["Layer 1", "blue with a red rim"]
    assert composite.shape == (1, 32, 32, 3)
    assert (composite[..., 0] - composite[..., 2]).max() < 0.05  # no red is left
    assert (composite[0, 10:22, 10:22] - image[0, 10:22, 10:22]).abs().max() < 1e-5


def test_a_wrong_document_is_explained(pack: ModuleType) -> None:
    with pytest.raises(ValueError, match="LAYERS document"):
        pack.nodes.seams.LayerDiffHealSeams.execute(None, 3, "display")
