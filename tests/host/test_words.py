"""A CLIP, an enhancer and a MODEL must belong together: prompts from another model's CLIP are rejected, naming both files."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import nodes as host
from layerdiff_core import checkpoint
from tests import models
from tests.host.conftest import load

MEMORY_MODES = ("plain", "dynamic")
OTHER = "random_other.safetensors"
BY_OTHER = f"encoded with the CLIP of {OTHER}, but this MODEL is from .*Connect the CLIP of the same model"


@pytest.fixture(autouse=True)
def as_in_the_host():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def other(pack: ModuleType, model_folder: Path, memory: str) -> SimpleNamespace:
    """A LayerDiff model of the same sizes as the others, and other weights."""
    facts = models.architecture()
    checkpoint.write(model_folder / OTHER, models.header(facts), models.starter_tensors(pack, facts, seed=9))
    return load(pack, OTHER)


def draw(of: SimpleNamespace, positive: Any, negative: Any) -> torch.Tensor:
    return host.KSampler().sample(of.model, 1, 1, 2.0, "euler", "normal", positive, negative, of.latent)[0]["samples"]


def encode(pack: ModuleType, of: SimpleNamespace, clip: Any, enhancer: Any = None) -> tuple[Any, Any]:
    """Prompts for this model's family, by this CLIP."""
    if of.is_layered:
        prompts = pack.nodes.prompts.LayerDiffEncodePrompts
        return prompts.execute(clip, enhancer or of.enhancer, "a fox", "meadow\nfox\nballoon", "", 1.0).args[:2]
    return tuple(host.CLIPTextEncode().encode(clip, text)[0] for text in ("a fox", ""))


def test_the_other_models_clip_is_refused(pack: ModuleType, either: SimpleNamespace, other: SimpleNamespace) -> None:
    ours, theirs = encode(pack, either, either.clip), encode(pack, either, other.clip, other.enhancer)
    with pytest.raises(ValueError, match=BY_OTHER):
        draw(either, theirs[0], ours[1])
    with pytest.raises(ValueError, match=BY_OTHER):
        draw(either, ours[0], theirs[1])
    assert torch.isfinite(draw(either, *ours)).all()


def test_the_other_families_clip_is_refused(pack: ModuleType, text2layer: SimpleNamespace, other: SimpleNamespace) -> None:
    foreign = host.CLIPTextEncode().encode(text2layer.clip, "a fox")[0]
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(other.vae, 64, 64, 1, 1).args[0]
    with pytest.raises(ValueError, match=f"CLIP of .*random_text2layer.safetensors, but this MODEL is from {OTHER}"):
        draw(SimpleNamespace(model=other.model, latent=latent), foreign, foreign)


def test_the_other_models_enhancer_is_refused(pack: ModuleType, starter: SimpleNamespace, other: SimpleNamespace) -> None:
    starter.is_layered = True
    with pytest.raises(ValueError, match=f"CLIP of random_starter.safetensors, but the enhancer is from {OTHER}"):
        encode(pack, starter, starter.clip, other.enhancer)


def test_what_other_nodes_do_to_prompts_and_clips_is_no_matter(pack: ModuleType, either: SimpleNamespace) -> None:
    clip = host.CLIPSetLastLayer().set_last_layer(either.clip, -1)[0]
    positive, negative = encode(pack, either, clip)
    averaged = host.ConditioningAverage().addWeighted(positive, positive, 0.5)[0]
    zero = host.ConditioningZeroOut().zero_out(negative)[0]
    assert torch.isfinite(draw(either, averaged, zero)).all()


def test_prompts_without_a_mark_pass(pack: ModuleType, either: SimpleNamespace, other: SimpleNamespace) -> None:
    # Prompts from another pack's encoder, whose origin is unknown.
    plain = [[[tokens, {key: value for key, value in options.items() if key == "layers"}] for tokens, options in conditioning]
             for conditioning in encode(pack, either, other.clip, other.enhancer)]
    assert torch.isfinite(draw(either, *plain)).all()


def test_a_model_that_is_loaded_again_still_knows(pack: ModuleType, either: SimpleNamespace) -> None:
    for patcher in (either.model, either.clip.patcher):
        factory, arguments = patcher.cached_patcher_init
        assert factory(*arguments, disable_dynamic=True).model.text_encoder == patcher.model.text_encoder
