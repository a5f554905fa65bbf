"""Files that request excessive memory, and ComfyUI's options that move tensors or reduce their precision."""

import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.model_management
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import nodes as host
from layerdiff_core import checkpoint
from tests import models
from tests.memory_modes import memory_mode

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def as_in_comfyui():
    with torch.inference_mode():
        yield


def sample(either: SimpleNamespace) -> dict[str, Any]:
    """Two steps of ComfyUI's KSampler."""
    return host.KSampler().sample(either.model, 1, 2, 2.0, "euler", "normal", either.positive, either.negative, either.latent,
                                  1.0)[0]


def peak(reset: bool = False) -> int:
    """Bytes that this process had in memory at most, since the last reset."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is read as Linux tells it")
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


ABSURD: dict[str, Any] = {
    "a UNet of 100 GB": lambda facts: facts["unet"].update(model_channels=32_000),
    "a million blocks": lambda facts: facts["unet"].update(num_res_blocks=[1_000_000] * len(facts["unet"]["channel_mult"])),
    "a million transformers": lambda facts: facts["unet"].update(transformer_depth_middle=1_000_000),
    "an autoencoder of a million blocks": lambda facts: facts["vae"]["ddconfig"].update(num_res_blocks=1_000_000),
    "a text encoder of a million layers": lambda facts: facts["text"].update(num_hidden_layers=1_000_000),
    "words of a terabyte": lambda facts: facts["text"].update(max_position_embeddings=10**10),
    "an enhancer of 100 GB": lambda facts: facts["enhancer"].update(dim=160_000),
}


@pytest.mark.parametrize("absurd", ABSURD.values(), ids=ABSURD)
def test_a_small_file_that_asks_for_much(pack: ModuleType, model_folder: Path, absurd: Any) -> None:
    facts = models.architecture()
    absurd(facts)
    tensors = {f"{part}.x": torch.zeros(1) for part in ("unet", "vae", "text", "enhancer")}
    path = model_folder / "absurd.safetensors"
    checkpoint.write(path, models.header(facts), tensors | {"text.token_ids": torch.tensor([1, 2], dtype=torch.int32)})
    assert path.stat().st_size < 3000
    before, start = peak(reset=True), time.perf_counter()
    with pytest.raises(ValueError, match="absurd.safetensors|architecture needs far more"):
        pack.nodes.load.LayerDiffLoadModel.execute(path.name)
    assert time.perf_counter() - start < 1.0 and peak() - before < 300 * MEGABYTE
    path.unlink()


PARTS = {"unet": 3, "vae": 1, "text": 2, "enhancer": 1}
"""How many of ABSURD, in order, request too much for each part."""


@pytest.mark.parametrize(("absurd", "part"), zip(ABSURD.values(), [part for part, count in PARTS.items() for _ in range(count)]),
                         ids=ABSURD)
def test_a_whole_file_that_asks_for_much(pack: ModuleType, model_folder: Path, absurd: Any, part: str) -> None:
    """All weights are there, and the part that asks for too much is refused, whatever comes before it in the loader."""
    facts = models.architecture()
    tensors = models.starter_tensors(pack, facts)
    absurd(facts)
    path = model_folder / "absurd.safetensors"
    checkpoint.write(path, models.header(facts), tensors)
    header, parts = checkpoint.read_header(path), checkpoint.read_tensors(path, checkpoint.read_header(path))
    loading = pack.nodes.host.loading
    make = {"unet": loading.build_model, "vae": loading.build_vae, "text": loading.build_clip}.get(
        part, lambda name, header, parts: loading.build_enhancer(name, header.architecture["enhancer"], parts["enhancer"]))
    before, start = peak(reset=True), time.perf_counter()
    with pytest.raises(ValueError, match="does not fit|far more|no model can be built"), loading.damage_explained(path.name):
        make(path.name, header, parts)
    assert time.perf_counter() - start < 1.0 and peak() - before < 300 * MEGABYTE
    path.unlink()


@pytest.mark.parametrize("name", ["layerdiff_starter.safetensors", "text2layer_starter.safetensors"])
def test_dynamic_vram_draws_what_the_plain_way_draws(pack: ModuleType, name: str) -> None:
    """With the included starters, from the file to the composite."""
    drawn = []
    for mode in ("plain", "dynamic"):
        with memory_mode(mode):
            model, clip, vae, enhancer = pack.nodes.load.LayerDiffLoadModel.execute(name).args
            assert model.is_dynamic() == clip.is_dynamic() == vae.is_dynamic() == (mode == "dynamic")
            if enhancer is None:
                positive, negative = (host.CLIPTextEncode().encode(clip, text)[0] for text in ("a fox at a beach", ""))
                layers, names = 2, ""
            else:
                positive, negative, layers, names = pack.nodes.prompts.LayerDiffEncodePrompts.execute(
                    clip, enhancer, "a fox on the left at a beach at sunset", "background: a beach\nfox: a fox", "", 1.0).args
            latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(vae, 64, 64, layers, 1).args[0]
            sampled = host.KSampler().sample(model, 3, 4, 2.5, "euler", "normal", positive, negative, latent, 1.0)[0]
            composite = pack.nodes.decode.LayerDiffDecodeLayers.execute(sampled, vae, names, 0.5, 0.4, 0).args[3]
            drawn.append((sampled["samples"], composite))
    for plain, dynamic in zip(*drawn):
        assert (plain - dynamic).abs().max() <= 1e-5 and plain.std() > 0.05


def test_the_enhancer_meets_tokens_on_the_gpu(pack: ModuleType) -> None:
    """--gpu-only leaves what the text encoder gives on the GPU. Fake tensors know their device and refuse to meet one of
    another device, without a GPU."""
    enhancer = pack.layerdiff_core.enhancer.PromptEnhancer(**models.architecture()["enhancer"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        tokens, overall = (torch.randn(rows, 77, models.CONTEXT, device="cuda") for rows in (3, 1))
        enriched = pack.nodes.prompts.enriched(enhancer, tokens, overall, 1.0)
    assert enriched.device.type == "cuda" and enriched.shape == tokens.shape


class TestHalfPrecisionBetweenNodes:
    """With --fp16-intermediates, tensors passed between nodes are float16."""

    @pytest.fixture(autouse=True)
    def turned_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("comfy.cli_args.args.fp16_intermediates", True)
        assert comfy.model_management.intermediate_dtype() == torch.float16

    def test_from_prompts_to_a_document_and_back(self, pack: ModuleType, either: SimpleNamespace) -> None:
        drawn = sample(either)
        drawn = {**drawn, "samples": drawn["samples"].half()}
        documents, images, coverage, composites, _ = pack.nodes.decode.LayerDiffDecodeLayers.execute(
            drawn, either.vae, either.names, 0.5, 0.4, -1).args
        assert all(torch.isfinite(part).all() for part in (images, coverage, composites))
        assert images.std() > 0.01 and (coverage[0] == 1).all()
        halved = {**documents[0], "layers": [{**layer, "image": layer["image"].half(), "mask": layer["mask"].half()}
                                             for layer in documents[0]["layers"]]}
        image, transparency, *_ = pack.nodes.composite.LayerDiffCompositeLayers.execute(halved, "display").args
        assert (image - composites[:1]).abs().max() < 2e-3 and torch.isfinite(transparency).all()
        healed, _ = pack.nodes.seams.LayerDiffHealSeams.execute(halved, 3, "display").args
        latent, count = pack.nodes.latents.LayerDiffEncodeLayers.execute(halved, either.vae).args
        assert count == 3 and torch.isfinite(latent["samples"]).all() and len(healed["layers"]) == 3

    def test_guidance_by_masks(self, pack: ModuleType, either: SimpleNamespace) -> None:
        drawn = pack.nodes.sample.LayerDiffSMGKSampler.execute(
            either.model, either.positive, either.negative, either.latent, either.vae, 1, 2, 3.0, "euler", "normal", 1.0, 0.5,
            1.0, 0.0, 1.0).args[0]["samples"]
        assert torch.isfinite(drawn).all()


def test_scores_between_layers_do_not_overflow_in_half_precision(pack: ModuleType) -> None:
    """Queries and keys of a wide head whose products are beyond float16's 65504 before they are scaled."""
    attention = pack.layerdiff_core.attention
    torch.manual_seed(0)
    module = attention.InterLayerAttention(1280, 8)
    module.reset_parameters()
    torch.nn.init.normal_(module.to_out.weight, std=0.03)
    torch.nn.init.normal_(module.to_qkv.weight, std=60 / 1280**0.5)
    x, index = torch.randn(3, 4, 1280), attention.index_features(3, torch.device("cpu"), torch.float32)
    wanted, half = module(x, index), module.half()(x.half(), index.half())
    assert torch.isfinite(half).all() and (half.float() - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_a_model_that_does_not_fit_into_the_gpu(either: SimpleNamespace) -> None:
    """Low VRAM: a part of the weights stays where it is and is cast layer by layer. The same image."""
    if either.model.is_dynamic():
        pytest.skip("DynamicVRAM always works like that")

    whole, part = sample(either)["samples"], either.model.clone()
    comfy.model_management.unload_all_models()
    # What ComfyUI does when memory is low, which never happens on a CPU.
    part.patch_model(device_to=part.load_device, lowvram_model_memory=part.model_size() // 3)
    assert part.model.model_lowvram and part.model.model_loaded_weight_memory < part.model_size() / 2
    lowered = sample(either)["samples"]
    part.unpatch_model(part.offload_device)
    assert (lowered - whole).abs().max() < 1e-5 * whole.abs().max()
