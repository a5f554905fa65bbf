"""The README's table "What works with it": each line has a test on the real ComfyUI, here or where it was before."""

import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.samplers
import comfy.sd
import pytest
import torch
from comfy_extras import nodes_custom_sampler as custom
from torch import Tensor

import nodes as host
from tests import loras, models
from tests.host.test_model_nodes import patched
from tools import setup

MEMORY_MODES = ("plain",)
LAYERS, STEPS = 3, 4

LINES = {
    "LoRA": "test_plain_nodes.py::test_a_lora_made_for_the_base_unet",
    "LoRA for single layers": "test_layer_lora.py::test_several_in_a_row_and_on_one_layer",
    "LoRA hooks": "test_model_nodes.py::test_a_lora_hook_is_the_lora",
    "FreeU": "test_model_nodes.py::test_it_runs_and_acts",
    "Perturbed-Attention Guidance": "test_model_nodes.py::test_it_runs_and_acts",
    "Self-Attention Guidance": "test_model_nodes.py::test_it_runs_and_acts",
    "HyperTile": "test_chaining.py::test_tiles_and_merged_tokens",
    "ToMe (TomePatchModel)": "test_chaining.py::test_tiles_and_merged_tokens",
    "ModelSamplingDiscrete, LCM": "test_adapter_keeps.py::test_it_acts_behind_the_adapter_as_before_it",
    "Torch Compile": "test_layer_lora.py::test_torch_compile",
    "Differential Diffusion": "test_chaining.py::test_differential_diffusion",
    "Conditioning (Set Area, Set Mask)": "test_chaining.py::test_areas_and_masks",
    "Timestep ranges": "test_chaining.py::test_timestep_ranges",
    "IPAdapter-style attention patches": "test_chaining.py::test_attention_patches_as_ipadapter_makes_them",
    "Attention Couple": "test_chaining.py::test_regional_attention",
    "Context windows": "test_model_nodes.py::test_context_windows_that_would_tear_scenes_apart",
    "SamplerCustomAdvanced": "test_chaining.py::test_every_guider",
    "Latent upscale and a second pass": "test_latent_nodes.py::test_upscaled_and_sampled_again",
    "VAE Decode (Tiled)": "test_chaining.py::test_tiled_decoding",
    "Tiled upscaling": "test_chaining.py::test_tiles_of_a_scene",
}
"""The lines of the table and what shows each of them."""


@pytest.fixture(autouse=True)
def as_in_comfyui():
    with torch.inference_mode():
        yield


def table() -> list[str]:
    """The first cells of the README's table."""
    readme = (setup.ROOT / "README.md").read_text("utf-8")
    section = readme.partition("## What works with it\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (?!---)(.+?) \|", section, re.M)[1:]


def test_each_line_of_the_readme_has_a_test() -> None:
    assert table() == list(LINES)
    for where in LINES.values():
        file, _, name = where.partition("::")
        assert re.search(rf"^def {name}\(", Path(__file__).with_name(file).read_text("utf-8"), re.M), where


@pytest.fixture(scope="module")
def prompts(pack: ModuleType, starter: SimpleNamespace) -> SimpleNamespace:
    with torch.inference_mode():
        out = pack.nodes.prompts.LayerDiffEncodePrompts.execute(starter.clip, starter.enhancer, "a fox on the left",
                                                                "a green meadow\na red balloon\na fox", "", 1.0).args
    return SimpleNamespace(positive=out[0], negative=out[1])


def empty(pack: ModuleType, starter: SimpleNamespace, size: int = 64, scenes: int = 1) -> dict[str, Any]:
    return pack.nodes.latents.LayerDiffEmptyLatent.execute(starter.vae, size, size, LAYERS, scenes).args[0]


def draw(model: Any, prompts: SimpleNamespace, latent: dict[str, Any], denoise: float = 1.0, seed: int = 5) -> Tensor:
    drawn = host.KSampler().sample(model, seed, STEPS, 3.0, "euler", "normal", prompts.positive, prompts.negative, latent,
                                   denoise)[0]["samples"]
    assert drawn.shape == latent["samples"].shape and torch.isfinite(drawn).all()
    return drawn


def moved(a: Tensor, b: Tensor) -> list[float]:
    """The largest difference in each layer."""
    return (a - b).abs().amax((1, 2, 3)).tolist()


@pytest.fixture(scope="module")
def full(pack: ModuleType, model_folder: Path, memory: str) -> Any:
    """An SD 1.5 MODEL of random weights with a fresh adapter: its UNet has attention at full resolution."""
    with torch.inference_mode():
        base = models.sd15(32, models.CONTEXT)
        name = pack.nodes.train.LayerDiffCreateAdapter.execute(base, "chaining", 0).args[0]
        return pack.nodes.load.LayerDiffApplyAdapter.execute(base, name).args[0]


def draw_full(model: Any, side: int = 32) -> Tensor:
    """Some steps of two scenes, at 256 pixels unless the latents' side is given."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2 * LAYERS, 8, side, side, generator=generator)
    conds = [[[torch.randn(rows, 77, models.CONTEXT, generator=generator), {"layers": LAYERS}]] for rows in (LAYERS, 1)]
    guider = custom.CFGGuider.execute(model, *conds, 3.0).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", 2, 1.0).args[0]
    torch.manual_seed(3)
    return custom.SamplerCustomAdvanced.execute(models.Noise(noise), guider, comfy.samplers.sampler_object("euler"), sigmas,
                                                {"samples": torch.zeros_like(noise)}).args[0]["samples"]


@pytest.mark.parametrize(("module", "name", "changes"), [("hypertile", "HyperTile", {"tile_size": 128}),
                                                         ("tomesd", "TomePatchModel", {"ratio": 0.5})])
def test_tiles_and_merged_tokens(pack, full, module: str, name: str, changes: dict[str, Any]) -> None:
    """They act, and a LoRA for a layer finds its rows in them: a fresh adapter's layers do not see each other."""
    plain, model = draw_full(full), patched(module, name, full, **changes)
    drawn = draw_full(model)
    assert min(moved(drawn, plain)) > 1e-4, "the node does nothing"
    tensors = loras.lora(full.model.diffusion_model, ends=("attn1.to_q", "attn1.to_v", "attn1.to_out.0"))
    adapters, _ = pack.nodes.host.lora_files.adapters_of(full, "lora", tensors)
    entries = pack.layerdiff_core.layer_text.parse_layer_text("1", 1.0)
    one = draw_full(pack.nodes.host.layer_lora.load_for_layers(model, "lora", adapters, entries))
    wanted = draw_full(comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)[0])
    for scene in (0, LAYERS):
        assert torch.equal(one[scene], drawn[scene]) and torch.equal(one[scene + 2], drawn[scene + 2])
        assert (one - wanted)[scene + 1].abs().max() < 1e-5 * wanted.abs().max() and moved(one, drawn)[scene + 1] > 1e-3


def test_differential_diffusion(pack, starter, prompts) -> None:
    """A soft mask for one layer: the layer changes by degrees, the others stay to the bit."""
    before = draw(starter.model, prompts, empty(pack, starter))
    mask = torch.zeros(LAYERS, 1, 8, 8)
    mask[1, :, :, 4:], mask[1, :, :, :4] = 1.0, 0.5
    latent = {**empty(pack, starter), "samples": before, "noise_mask": mask}
    model = patched("differential_diffusion", "DifferentialDiffusion", starter.model)
    drawn = draw(model, prompts, latent, seed=9)
    assert moved(drawn, before)[0] == moved(drawn, before)[2] == 0
    change = (drawn - before)[1].abs()
    assert change[..., 4:].mean() > change[..., :4].mean() > 0
    assert (drawn - draw(starter.model, prompts, latent, seed=9)).abs().max() > 1e-3, "the node does nothing"


@pytest.mark.parametrize("way", ["area", "mask"])
def test_areas_and_masks(pack, starter, prompts, way: str) -> None:
    """A second layered prompt for one half of the canvas acts there."""
    other = pack.nodes.prompts.LayerDiffEncodePrompts.execute(starter.clip, starter.enhancer, "", "a sky\na fox\na balloon", "",
                                                              1.0).args[0]
    if way == "area":
        part = host.ConditioningSetArea().append(other, 32, 64, 32, 0, 1.0)[0]
    else:
        mask = torch.zeros(1, 64, 64)
        mask[..., 32:] = 1.0
        part = host.ConditioningSetMask().append(other, mask, "default", 1.0)[0]
    both = SimpleNamespace(positive=host.ConditioningCombine().combine(prompts.positive, part)[0], negative=prompts.negative)
    plain, drawn = (draw(starter.model, of, empty(pack, starter)) for of in (prompts, both))
    assert min(moved(plain, drawn)) > 1e-3
    alone = SimpleNamespace(positive=part, negative=prompts.negative)
    assert torch.isfinite(draw(starter.model, alone, empty(pack, starter))).all()


def test_timestep_ranges(pack, starter, prompts) -> None:
    """Two layered prompts in turn: with the same prompt in both it is as if there were one."""
    other = pack.nodes.prompts.LayerDiffEncodePrompts.execute(starter.clip, starter.enhancer, "", "a sky\na fox\na balloon", "",
                                                              1.0).args[0]
    plain = draw(starter.model, prompts, empty(pack, starter))

    def in_turn(late: Any) -> Tensor:
        parts = [host.ConditioningSetTimestepRange().set_range(cond, *ends)[0]
                 for cond, ends in ((prompts.positive, (0.0, 0.5)), (late, (0.5, 1.0)))]
        positive = host.ConditioningCombine().combine(*parts)[0]
        return draw(starter.model, SimpleNamespace(positive=positive, negative=prompts.negative), empty(pack, starter))

    assert (in_turn(prompts.positive) - plain).abs().max() < 1e-4 * plain.abs().max()
    assert min(moved(in_turn(other), plain)) > 1e-3


@pytest.mark.parametrize("way", ["patch", "replace"])
def test_attention_patches_as_ipadapter_makes_them(full, way: str) -> None:
    """Attention to the tokens of a picture beside that to the prompt: one picture for all layers, or a batch of one each. A
    fresh adapter's layers do not see each other, so that a layer's picture acts on that layer alone."""
    from comfy.ldm.modules.attention import optimized_attention

    def patched_with(tokens: Tensor) -> Any:
        model = full.clone()

        def beside(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Any:
            width, more = k.shape[-1], tokens[..., : k.shape[-1]]
            more = more.repeat(len(k) // len(more), 1, -(-width // more.shape[-1]))[..., :width]
            return q, torch.cat([k, more], dim=1), torch.cat([v, more], dim=1)

        def instead(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
            _, k2, v2 = beside(q, k, v, options)
            return optimized_attention(q, k2, v2, options["n_heads"])

        if way == "patch":
            model.set_model_attn2_patch(beside)
        else:
            for block in [("middle", 0, 0)] + [(side, number, 0) for side in ("input", "output") for number in range(12)]:
                model.set_model_attn2_replace(instead, block[0], block[1])
        return model

    torch.manual_seed(2)
    pictures = torch.randn(LAYERS, 4, models.CONTEXT)
    changed = pictures.clone()
    changed[1] = torch.randn(4, models.CONTEXT)
    assert min(moved(draw_full(patched_with(pictures[:1]), 8), draw_full(full, 8))) > 1e-3
    change = moved(draw_full(patched_with(pictures), 8), draw_full(patched_with(changed), 8))
    assert change[0] == change[2] == change[3] == change[5] == 0 and min(change[1], change[4]) > 1e-3


def test_regional_attention(pack, starter, prompts) -> None:
    """As Attention Couple's attention patches do it: each row once for every region, whole scenes at a time, and the regions'
    results added by their masks. A LoRA for a layer finds its rows in it."""
    torch.manual_seed(4)
    region = torch.randn(1, prompts.positive[0][0].shape[1], models.CONTEXT)
    model = starter.model.clone()

    def repeated(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Any:
        qs, ks = [], []
        for kind, part, keys in zip(options["cond_or_uncond"], *(t.chunk(len(options["cond_or_uncond"])) for t in (q, k))):
            qs.append(part if kind == 1 else part.repeat(2, 1, 1))
            ks.append(keys if kind == 1 else torch.cat([keys, region.repeat(len(keys), 1, 1)]))
        return torch.cat(qs), torch.cat(ks), torch.cat(ks)

    def added(out: Tensor, options: dict[str, Any]) -> Tensor:
        kinds = options["cond_or_uncond"]
        rows, outs, start = len(out) // sum(1 if kind == 1 else 2 for kind in kinds), [], 0
        mask = (torch.arange(out.shape[1]) % 2)[:, None]
        for kind in kinds:
            if kind == 1:
                outs.append(out[start : start + rows])
            else:
                outs.append(mask * out[start : start + rows] + (1 - mask) * out[start + rows : start + 2 * rows])
            start += rows * (1 if kind == 1 else 2)
        return torch.cat(outs)

    model.set_model_attn2_patch(repeated)
    model.set_model_attn2_output_patch(added)
    plain, drawn = (draw(each, prompts, empty(pack, starter, scenes=2)) for each in (starter.model, model))
    assert min(moved(plain, drawn)) > 1e-3
    tensors = loras.lora(starter.model.model.diffusion_model, ends=("attn2.to_q", "attn2.to_k"))
    adapters, _ = pack.nodes.host.lora_files.adapters_of(model, "lora", tensors)
    load, parse = pack.nodes.host.layer_lora.load_for_layers, pack.layerdiff_core.layer_text.parse_layer_text
    everywhere = draw(load(model, "lora", adapters, parse(":", 1.0)), prompts, empty(pack, starter, scenes=2))
    wanted = draw(comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)[0], prompts, empty(pack, starter, scenes=2))
    assert (everywhere - wanted).abs().max() < 1e-5 * wanted.abs().max()
    change = moved(draw(load(model, "lora", adapters, parse("1", 1.0)), prompts, empty(pack, starter, scenes=2)), drawn)
    assert change[1] > 2 * max(change[0], change[2]) and change[4] > 2 * max(change[3], change[5])


def guiders(model: Any, prompts: SimpleNamespace) -> dict[str, Any]:
    """All guiders of ComfyUI."""
    from comfy_extras.nodes_perpneg import PerpNegGuider

    positive, negative = prompts.positive, prompts.negative
    return {"BasicGuider": custom.BasicGuider.execute(model, positive), "CFGGuider": custom.CFGGuider.execute(
                model, positive, negative, 3.0),
            "DualCFGGuider": custom.DualCFGGuider.execute(model, positive, positive, negative, 3.0, 2.0, "regular"),
            "DualCFGGuider nested": custom.DualCFGGuider.execute(model, positive, positive, negative, 3.0, 2.0, "nested"),
            "DualModelGuider": custom.DualModelGuider.execute(model, positive, 3.0, model, negative),
            "PerpNegGuider": PerpNegGuider.execute(model, positive, negative, negative, 3.0, 1.0)}  # fmt: skip


@pytest.mark.parametrize("name", ["BasicGuider", "CFGGuider", "DualCFGGuider", "DualCFGGuider nested", "DualModelGuider",
                                  "PerpNegGuider"])
def test_every_guider(pack, starter, prompts, name: str) -> None:
    guider = guiders(starter.model, prompts)[name].args[0]
    sigmas = custom.BasicScheduler.execute(starter.model, "normal", STEPS, 1.0).args[0]
    drawn = custom.SamplerCustomAdvanced.execute(custom.RandomNoise.execute(5).args[0], guider,
                                                 comfy.samplers.sampler_object("euler"), sigmas,
                                                 empty(pack, starter)).args[0]["samples"]
    assert torch.isfinite(drawn).all() and drawn.std() > 0.1
    if name in ("CFGGuider", "DualModelGuider"):
        assert (drawn - draw(starter.model, prompts, empty(pack, starter))).abs().max() < 1e-5 * drawn.abs().max()


def test_tiled_decoding(pack, starter, prompts) -> None:
    """Of a layered latent it says what to use; of one layer's picture it gives that picture."""
    drawn = draw(starter.model, prompts, empty(pack, starter, size=128))
    with pytest.raises(ValueError, match="Use Decode Layers"):
        host.VAEDecodeTiled().decode(starter.vae, {"samples": drawn}, 64, 16)
    picture = {"samples": drawn[1:2].chunk(2, dim=1)[0]}
    tiled, whole = host.VAEDecodeTiled().decode(starter.vae, picture, 64, 16)[0], host.VAEDecode().decode(starter.vae, picture)[0]
    assert tiled.shape == whole.shape == (1, 128, 128, 3)


def test_tiles_of_a_scene(pack, starter, prompts) -> None:
    """As tiled upscalers do it: parts of a larger scene, each sampled at a low denoise and put back where it was."""
    large = host.LatentUpscale().upscale({**empty(pack, starter), "samples": draw(starter.model, prompts, empty(pack, starter))},
                                         "bilinear", 128, 128, "disabled")[0]
    result = large["samples"].clone()
    for y in (0, 8):
        for x in (0, 8):
            tile = {"samples": large["samples"][..., y : y + 8, x : x + 8]}
            result[..., y : y + 8, x : x + 8] = draw(starter.model, prompts, tile, denoise=0.4)
    assert min(moved(result, large["samples"])) > 1e-3
    layers, images, *_ = pack.nodes.decode.LayerDiffDecodeLayers.execute({**large, "samples": result}, starter.vae,
                                                                         "meadow\nballoon\nfox", 0.5, 0.4, 0).args
    assert images.shape == (LAYERS, 128, 128, 3) and len(layers[0]["layers"]) == LAYERS
