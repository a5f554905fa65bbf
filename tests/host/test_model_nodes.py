"""ComfyUI's own nodes that patch a MODEL or wrap its sampling, on models of both families."""

import importlib
from types import SimpleNamespace
from typing import Any

import comfy.hooks
import comfy.sd
import pytest
import torch
from torch import Tensor

import nodes as host
from tests import models

MEMORY_MODES = ("plain", "dynamic")

STEPS = 6

# Temporal Score Rescaling is not among them: in ComfyUI 0.30 it fails on every batch of more than one latent.
# Module, node id, inputs that are not the node's defaults, and whether it has to change the image at these settings.
PATCHES: list[tuple[str, str, dict[str, Any], bool]] = [
    ("easycache", "EasyCache", {"reuse_threshold": 1.0, "start_percent": 0.0}, True),
    ("easycache", "LazyCache", {"reuse_threshold": 1.0, "start_percent": 0.0}, True),
    ("torch_compile", "TorchCompileModel", {"backend": "eager"}, False),
    ("freelunch", "FreeU", {}, True),
    ("freelunch", "FreeU_V2", {}, True),
    # These two work where a UNet has attention at full resolution, which the starter's has not.
    ("hypertile", "HyperTile", {"tile_size": 64}, False),
    ("tomesd", "TomePatchModel", {"ratio": 0.5}, False),
    ("pag", "PerturbedAttentionGuidance", {}, True),
    ("sag", "SelfAttentionGuidance", {}, True),
    ("nag", "NAGuidance", {}, True),
    ("model_advanced", "ModelSamplingDiscrete", {"sampling": "lcm"}, True),
    ("model_advanced", "ModelSamplingDiscrete", {"sampling": "eps", "zsnr": True}, True),
    ("model_advanced", "RescaleCFG", {}, True),
    ("model_advanced", "ModelComputeDtype", {"dtype": "fp32"}, False),
    ("differential_diffusion", "DifferentialDiffusion", {}, False),
    ("fresca", "FreSca", {"freq_cutoff": 2}, True),
    ("cfg", "CFGZeroStar", {}, True),
    ("cfg", "CFGNorm", {}, True),
    ("tcfg", "TCFG", {}, True),
    ("apg", "APG", {}, True),
    ("mahiro", "Mahiro", {}, True),
    ("model_downscale", "PatchModelAddDownscale", {"block_number": 1, "end_percent": 1.0}, True),
    ("attention_multiply", "UNetSelfAttentionMultiply", {"q": 1.2}, True),
    ("attention_multiply", "UNetCrossAttentionMultiply", {"q": 1.2}, True),
    ("eps", "Epsilon Scaling", {"scaling_factor": 1.05}, True),
]


@pytest.fixture(autouse=True)
def as_in_comfyui():
    with torch.inference_mode():
        yield


@pytest.fixture
def layered(either: SimpleNamespace) -> SimpleNamespace:
    """The LayerDiff model of the two."""
    if not either.is_layered:
        pytest.skip("of LayerDiff alone")
    return either


def node(module: str, name: str) -> Any:
    """A node class of ComfyUI's extras by its id."""
    found = importlib.import_module(f"comfy_extras.nodes_{module}")
    named = [value for value in vars(found).values() if isinstance(value, type) and hasattr(value, "GET_SCHEMA")
             and value.__module__ == found.__name__ and value.GET_SCHEMA().node_id == name]
    return named[0] if named else found.NODE_CLASS_MAPPINGS[name]


def patched(module: str, name: str, model: Any, **changes: Any) -> Any:
    """The output of such a node for a MODEL, with its other inputs at their defaults."""
    kind = node(module, name)
    inputs = {}
    for key, (values, *more) in kind.INPUT_TYPES()["required"].items():
        facts = more[0] if more else {}
        inputs[key] = facts.get("default", values[0] if isinstance(values, list) else (facts.get("options") or [None])[0])
    made = getattr(kind if hasattr(kind, "GET_SCHEMA") else kind(), kind.FUNCTION)(**{**inputs, **changes, "model": model})
    return made[0] if isinstance(made, tuple) else made.args[0]


def draw(family: SimpleNamespace, model: Any, sampler: str = "euler") -> Tensor:
    samples = host.KSampler().sample(model, 5, STEPS, 3.0, sampler, "normal", family.positive, family.negative, family.latent,
                                     1.0)[0]["samples"]
    assert samples.shape == family.latent["samples"].shape and torch.isfinite(samples).all()
    return samples


@pytest.mark.parametrize(("module", "name", "changes", "acts"), PATCHES, ids=[f"{name}" for _, name, _, _ in PATCHES])
def test_it_runs_and_acts(either: SimpleNamespace, module: str, name: str, changes: dict[str, Any], acts: bool) -> None:
    of = either
    plain, drawn = draw(of, of.model), draw(of, patched(module, name, of.model, **changes))
    if acts:
        assert (drawn - plain).abs().max() > 1e-3, "the node does nothing on this model"
    assert torch.equal(plain, draw(of, of.model)), "the node left something behind on the MODEL before it"


def test_torch_compile_draws_the_same(either: SimpleNamespace) -> None:
    compiled = patched("torch_compile", "TorchCompileModel", either.model, backend="eager")
    plain = draw(either, either.model)
    assert (draw(either, compiled) - plain).abs().max() < 1e-4 * plain.abs().max()


def test_easycache_skips_steps(either: SimpleNamespace) -> None:
    of, calls = either, []
    counted = of.model.clone()
    counted.set_model_attn1_patch(lambda q, k, v, options: (calls.append(options["block"]), (q, k, v))[1])
    draw(of, counted)
    without, _ = len(calls), calls.clear()
    draw(of, patched("easycache", "EasyCache", counted, reuse_threshold=1.0, start_percent=0.0, end_percent=1.0))
    assert 0 < len(calls) < without


def context_windows(model: Any, length: int) -> Any:
    return patched("context_windows", "ContextWindowsManual", model, context_length=length, context_overlap=0, dim=0)


def test_context_windows_that_would_tear_scenes_apart(layered: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="Context windows of 4 would split this batch of 6"):
        draw(layered, context_windows(layered.model, 4))
    assert torch.equal(draw(layered, context_windows(layered.model, 6)), draw(layered, layered.model))


def test_a_node_that_splits_the_batch(layered: SimpleNamespace) -> None:
    def halves(apply: Any, options: dict[str, Any]) -> Tensor:
        x, t, c = options["input"], options["timestep"], options["c"]
        return torch.cat([apply(x[part], t[part], **{**c, "c_crossattn": c["c_crossattn"][part]})
                          for part in (slice(0, 4), slice(4, None))])

    split = layered.model.clone()
    split.set_model_unet_function_wrapper(halves)
    with pytest.raises(ValueError, match="not a whole number of scenes of 3 layers. Something between"):
        draw(layered, split)


def test_plain_prompts_for_several_layers(layered: SimpleNamespace) -> None:
    plain = host.CLIPTextEncode().encode(layered.clip, "a red fox")[0]
    with pytest.raises(ValueError, match="single image.*latent holds 6.*Encode Layer Prompts"):
        draw(SimpleNamespace(positive=plain, negative=plain, latent=layered.latent), layered.model)


def test_a_lora_hook_is_the_lora(either: SimpleNamespace) -> None:
    of = either
    lora = models.lora_for(of.model.model.diffusion_model)
    hooks = comfy.hooks.create_hook_lora(lora=lora, strength_model=1.0, strength_clip=0.0)
    hooked = [comfy.hooks.set_hooks_for_conditioning(cond, hooks) for cond in (of.positive, of.negative)]
    wanted = draw(of, comfy.sd.load_lora_for_models(of.model, None, lora, 1.0, 0.0)[0])
    drawn = draw(SimpleNamespace(positive=hooked[0], negative=hooked[1], latent=of.latent), of.model)
    assert (wanted - draw(of, of.model)).abs().max() > 1e-2
    assert (drawn - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_another_gpu_gets_a_model_of_its_own(either: SimpleNamespace) -> None:
    of = either
    clone = of.model.deepclone_multigpu(torch.device("cpu"))
    ours, theirs = of.model.model.diffusion_model.state_dict(), clone.model.diffusion_model.state_dict()
    key = "middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    assert clone.model is not of.model.model and torch.equal(ours[key].float(), theirs[key].float())
    assert torch.equal(draw(of, clone), draw(of, of.model))


def test_a_clip_with_hooks(either: SimpleNamespace) -> None:
    """ComfyUI's nodes for hooks on a CLIP want it without DynamicVRAM."""
    hooked = either.clip.clone(disable_dynamic=True)
    assert not hooked.is_dynamic()
    (tokens, _), (wanted, _) = (host.CLIPTextEncode().encode(clip, "a fox on the left")[0][0] for clip in (hooked, either.clip))
    assert torch.equal(tokens, wanted)


def test_clip_and_vae_for_another_gpu(either: SimpleNamespace) -> None:
    for part in (either.clip.patcher, either.vae.patcher):
        again = part.deepclone_multigpu(torch.device("cpu"))
        ours, theirs = part.model.state_dict(), again.model.state_dict()
        assert again.model is not part.model and ours.keys() == theirs.keys()
        # ComfyUI's CLIP has two weights that no SD 1.5 text encoder uses and no file of ours holds.
        held = [key for key in ours if "text_projection" not in key and "logit_scale" not in key]
        assert all(torch.equal(ours[key], theirs[key]) for key in held)
