"""What the tests of LayerDiffuse on an SDXL MODEL share: files, inputs of the node, and a short sampling."""

from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import torch
from torch import Tensor

from tests import layerdiffuse, models, published
from tests.layerdiffuse import image

WIDTH, CONTEXT, POOLED = 32, 96, 40
GIVEN = {"transparent_attn": None, "transparent_conv": None, "fg2ble": "foreground", "bg2ble": "background",
         "fgble2bg": "foreground", "bgble2fg": "background"}
"""The given layer of each file."""


def base(memory: str = "plain", seed: int = 0) -> Any:
    return models.sdxl(WIDTH, CONTEXT, POOLED, seed, memory)


def write_files(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Writes each file for a narrow UNet where the pack finds them. Returns their tensors by name."""
    folder_paths.add_model_folder_path("layer_model", str(folder), is_default=True)
    weights = {key: tuple(weight.shape) for key, weight in base().model.diffusion_model.state_dict().items()}
    return {name: published.write(folder / f"layer_xl_{name}.safetensors", published.xl_shapes(name, weights), scale=0.5)
            for name in GIVEN}


def given(name: str, **size: int) -> dict[str, Tensor]:
    """What the node needs beside a file."""
    inputs: dict[str, Tensor] = {}
    if name not in GIVEN:
        return inputs
    if GIVEN[name]:
        inputs[str(GIVEN[name])] = image(1, **size)
    if GIVEN[name] == "foreground":
        inputs["coverage"] = image(2, **size)[..., 0]
    if published.XL_GIVEN[name] == 2:
        inputs["blended"] = image(3, **size)
    return inputs


def apply(pack: ModuleType, base: Any, vae: Any, name: str, **inputs: Any) -> tuple[Any, Any]:
    return pack.nodes.layerdiffuse.LayerDiffApplyLayerDiffuse.execute(
        base, vae, f"layer_xl_{name}.safetensors", **(inputs or given(name))).args


def prompts(count: int, seed: int = 4) -> list[Any]:
    """Random prompts as CONDITIONINGs, each with its pooled output."""
    generator = torch.Generator().manual_seed(seed)
    return [[[torch.randn(1, 77, CONTEXT, generator=generator), {"pooled_output": torch.randn(1, POOLED, generator=generator)}]]
            for _ in range(count)]


def stacked(pack: ModuleType, each: list[Any]) -> Any:
    """One conditioning of all layers, through Stack Layer Conditioning."""
    sockets = {f"layer{number}": one for number, one in enumerate(each)}
    return pack.nodes.prompts.LayerDiffStackConditioning.execute(sockets).args[0]


def draw(model: Any, noise: Tensor, positive: Any) -> Tensor:
    return layerdiffuse.draw(model, noise, positive, negative=prompts(1, seed=9)[0])
