"""The architecture of a starter of 256 pixels, much narrower: 1/16 latents, a decoder of its own, position features."""

import copy
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from layerdiff_core import checkpoint
from layerdiff_core.training.starter import ARCHITECTURE
from tests import models
from tests.host.conftest import load

NAME = "random_256.safetensors"


@pytest.fixture(scope="module")
def large(pack: ModuleType, model_folder: Path) -> SimpleNamespace:
    facts = models.architecture(12)
    facts["vae"] = copy.deepcopy(ARCHITECTURE["vae"])
    facts["vae"]["ddconfig"]["ch"] = facts["vae"]["decoder"]["ddconfig"]["ch"] = 32
    checkpoint.write(model_folder / NAME, models.header(facts), models.starter_tensors(pack, facts))
    return load(pack, NAME)


def test_its_latents_are_a_sixteenth(pack: ModuleType, large: SimpleNamespace) -> None:
    pixels = torch.rand(2, 256, 256, 3)
    latent = large.vae.encode(pixels)
    assert latent.shape == (2, 12, 16, 16) and large.vae.decode(latent).shape == (2, 256, 256, 3)
    empty = pack.nodes.latents.LayerDiffEmptyLatent.execute(large.vae, 256, 256, 3, 2).args[0]["samples"]
    assert empty.shape == (6, 24, 16, 16)


def test_a_scene_is_drawn(pack: ModuleType, large: SimpleNamespace) -> None:
    positive, negative, layers, _ = pack.nodes.prompts.LayerDiffEncodePrompts.execute(
        large.clip, large.enhancer, "a fox on the left", "meadow: a green meadow\nfox: a fox", "", 1.0).args
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(large.vae, 250, 256, layers, 1).args[0]
    sampled = pack.nodes.sample.LayerDiffSMGKSampler.execute(large.model, positive, negative, latent, large.vae, 1, 2, 4.0,
                                                             "euler", "normal", 1.0, 0.5, 1.0, 0.0, 0.9).args[0]
    pictures = large.vae.decode(sampled["samples"].chunk(2, dim=1)[0])
    assert pictures.shape == (2, 256, 256, 3) and torch.isfinite(pictures).all()


def test_position_features_tell_left_from_right(large: SimpleNamespace) -> None:
    unet = large.model.model.diffusion_model
    x = torch.zeros(1, 24, 16, 16)
    context = torch.zeros(1, 8, models.CONTEXT)
    with torch.inference_mode():  # as the loader made the weights
        with_them = unet(x, torch.tensor([500.0]), context, layers=1)
        kept = unet.position.weight.clone()
        unet.position.weight.zero_()
        without = unet(x, torch.tensor([500.0]), context, layers=1)
        unet.position.weight.copy_(kept)
    inner = (slice(None), slice(None), 8)
    assert (with_them - without).abs().max() > 1e-3
    assert (with_them[inner] - without[inner]).std(dim=-1).max() > 1e-3
