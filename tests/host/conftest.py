"""A folder of random models, known to ComfyUI, and the loader node's outputs for them."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch

import nodes
from tests import layerdiffuse, models
from tests.memory_modes import MODES, memory_mode

STARTER = "random_starter.safetensors"
STACKED = "random_text2layer.safetensors"


@pytest.fixture(scope="session")
def model_folder(pack: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's first folder for layered models, so that new adapters land in it too; other files stay out of it."""
    folder = tmp_path_factory.mktemp("layered_models")
    folder_paths.add_model_folder_path("layered_models", str(folder), is_default=True)
    return folder


@pytest.fixture(scope="session")
def files(pack: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of LayerDiffuse's files, by the names under which ComfyUI lists them."""
    return layerdiffuse.write_files(tmp_path_factory.mktemp("layer_model"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that uses a model runs in each memory mode, or in those that its file names in MEMORY_MODES."""
    if "memory" in metafunc.fixturenames:
        metafunc.parametrize("memory", getattr(metafunc.module, "MEMORY_MODES", MODES), indirect=True, scope="session")


@pytest.fixture(scope="session")
def memory(request: pytest.FixtureRequest) -> Iterator[str]:
    """How ComfyUI keeps models."""
    with memory_mode(request.param):
        yield request.param


@pytest.fixture(scope="session")
def starter(pack: ModuleType, model_folder: Path, memory: str) -> SimpleNamespace:
    """A complete model with random weights, through the loader node: model, clip, vae, enhancer."""
    models.write_starter(pack, model_folder / STARTER)
    return load(pack, STARTER)


@pytest.fixture(scope="session", params=[1, 2], ids=["one foreground", "two foregrounds"])
def text2layer(pack: ModuleType, model_folder: Path, memory: str, request: pytest.FixtureRequest) -> SimpleNamespace:
    """A complete Text2Layer model with random weights and this number of foregrounds, through the same loader node."""
    models.write_text2layer(pack, model_folder / f"{request.param}_{STACKED}", request.param)
    loaded = load(pack, f"{request.param}_{STACKED}")
    loaded.foregrounds = request.param
    return loaded


@pytest.fixture(scope="session", params=["LayerDiff", "Text2Layer"])
def either(pack: ModuleType, model_folder: Path, memory: str, request: pytest.FixtureRequest) -> SimpleNamespace:
    """A model of either family and what belongs to a sampling of two scenes at 64 pixels: model, clip, vae, enhancer, positive,
    negative, layers, names, latent (empty), is_layered."""
    names = "meadow\nballoon\nfox"
    with torch.inference_mode():
        if request.param == "LayerDiff":
            models.write_starter(pack, model_folder / STARTER)
            loaded, texts = load(pack, STARTER), "\n".join(f"{name}: a {name}" for name in names.split())
            loaded.positive, loaded.negative, loaded.layers, loaded.names = pack.nodes.prompts.LayerDiffEncodePrompts.execute(
                loaded.clip, loaded.enhancer, "a fox on the left", texts, "", 1.0).args
        else:
            models.write_text2layer(pack, model_folder / f"2_{STACKED}", 2)
            loaded = load(pack, f"2_{STACKED}")
            loaded.positive, loaded.negative = (nodes.CLIPTextEncode().encode(loaded.clip, text)[0] for text in ("a fox", ""))
            loaded.layers, loaded.names = 3, names
        loaded.latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(loaded.vae, 64, 64, loaded.layers, 2).args[0]
    loaded.is_layered = request.param == "LayerDiff"
    return loaded


def load(pack: ModuleType, name: str) -> SimpleNamespace:
    """The outputs of the loader node for a file."""
    with torch.inference_mode():
        loaded: Any = pack.nodes.load.LayerDiffLoadModel.execute(name).args
    return SimpleNamespace(**dict(zip(("model", "clip", "vae", "enhancer"), loaded)))
