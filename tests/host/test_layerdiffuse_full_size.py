"""LayerDiffuse's SD 1.5 files and the transparent decoder at their published size, on a UNet of SD 1.5's own size at 512 pixels.

Takes minutes and 9.1 GB at its peak, so it runs only with `python dev.py test -m full_size`, and where 12 GB are free. Only the
VAE is narrow: it is not LayerDiffuse's.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import folder_paths
import psutil
import pytest
import torch
from safetensors import safe_open

import nodes as host
from tests import models, published
from tests.layerdiffuse import DECODER, KINDS, narrow_vae

MEMORY_MODES = ("plain",)
pytestmark = [
    pytest.mark.full_size,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(psutil.virtual_memory().available < 12e9, reason="needs 12 GB of free memory"),
]
SIDE, WIDTH, CONTEXT = 512, 320, 768


@pytest.fixture(scope="module")
def folder(pack: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full_size")
    folder_paths.add_model_folder_path("layer_model", str(folder), is_default=True)
    published.write(folder / DECODER, published.decoder_shapes(), scale=0.5)
    return folder


@pytest.fixture(scope="module")
def base(memory: str) -> Any:
    return models.sd15(WIDTH, CONTEXT, mode=memory)


def image(seed: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(1, SIDE, SIDE, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_load_sample_and_decode(pack: ModuleType, folder: Path, base: Any, memory: str, name: str) -> None:
    path, frames, vae = folder / f"layer_sd15_{name}.safetensors", len(KINDS[name]), narrow_vae()
    published.write(path, published.shapes(name), scale=0.5)
    with safe_open(path, framework="pt") as file:
        assert len(list(file.keys())) == published.COUNTS[name]
    given = {"fg2bg": {"foreground": image(1, 4)}, "bg2fg": {"background": image(1)}}.get(name, {})
    nodes = pack.nodes.layerdiffuse
    model, marked = nodes.LayerDiffApplyLayerDiffuse.execute(base, vae, path.name, **given).args
    marked = nodes.LayerDiffLoadTransparentDecoder.execute(marked, DECODER, "fast (1 pass)").args[0]
    layers = 2 if name == "joint" else 1
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(marked, SIDE, SIDE, layers, 1).args[0]
    assert latent["samples"].shape == (frames, 4, 64, 64)
    tokens = torch.randn(frames, 77, CONTEXT, generator=torch.Generator().manual_seed(2))
    positive = [[tokens, {"layers": frames}]]

    # At a guidance scale of 1, ComfyUI leaves out the negative prompt.
    sampled = host.common_ksampler(model, 1, 1, 1.0, "euler", "normal", positive, positive, latent)[0]
    assert sampled["samples"].shape == latent["samples"].shape and torch.isfinite(sampled["samples"]).all()
    if frames > 1:
        assert (sampled["samples"][0] - sampled["samples"][1]).abs().max() > 0.01
    (document,), images, coverage, _, blended = pack.nodes.decode.LayerDiffDecodeLayers.execute(
        sampled, marked, "", 0.5, 0.4, 0).args
    assert images.shape[1:] == blended.shape[1:] == (SIDE, SIDE, 3) and len(document["layers"]) == len(images)
    assert torch.isfinite(images).all() and 0 <= coverage.min() <= coverage.max() <= 1
    comfy.model_management.unload_all_models()
    path.unlink()
