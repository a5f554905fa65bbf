"""A layered MODEL with ComfyUI's own nodes, and none of the pack's between loader and sampler."""

from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.samplers
import folder_paths
import pytest
import torch
from comfy_extras import nodes_custom_sampler as custom
from latent_preview import Latent2RGBPreviewer
from safetensors.torch import save_file
from torch import Tensor

import nodes as host
from tests import models

STEPS = 4
PROMPTS = ("a green meadow", "a red balloon", "a fox on the left")
GLOBAL = "a fox and a red balloon with a green meadow at sunset"


@pytest.fixture(autouse=True)
def as_in_the_host():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def prompts(pack: ModuleType, starter: SimpleNamespace) -> SimpleNamespace:
    """The conditioning of a scene of three layers."""
    lines = "\n".join(PROMPTS)
    with torch.inference_mode():
        out = pack.nodes.prompts.LayerDiffEncodePrompts.execute(starter.clip, starter.enhancer, GLOBAL, lines, "", 1.0)
    return SimpleNamespace(positive=out.args[0], negative=out.args[1])


def empty(pack: ModuleType, starter: SimpleNamespace, layers: int = 3, scenes: int = 1, size: tuple[int, int] = (64, 64)) -> dict:
    return pack.nodes.latents.LayerDiffEmptyLatent.execute(starter.vae, *size, layers, scenes).args[0]


def ksampler(model: Any, prompts: SimpleNamespace, latent: dict, seed: int = 5, cfg: float = 3.0, denoise: float = 1.0,
             sampler: str = "euler", **changes: Any) -> Tensor:
    """ComfyUI's KSampler node."""
    positive, negative = changes.get("positive", prompts.positive), changes.get("negative", prompts.negative)
    samples = host.KSampler().sample(model, seed, STEPS, cfg, sampler, "normal", positive, negative, latent, denoise)[0]
    assert torch.isfinite(samples["samples"]).all()
    return samples["samples"]


def difference(a: Tensor, b: Tensor) -> list[float]:
    """The largest difference in each layer."""
    return (a - b).abs().amax((1, 2, 3)).tolist()


@pytest.fixture(scope="module")
def plain(pack: ModuleType, starter: SimpleNamespace, prompts: SimpleNamespace) -> Tensor:
    """The output of ComfyUI's KSampler."""
    with torch.inference_mode():
        return ksampler(starter.model, prompts, empty(pack, starter))


def test_ksampler(plain: Tensor) -> None:
    assert plain.shape == (3, 2 * models.CHANNELS, 8, 8)
    assert plain.std() > 0.1


def test_layers_see_their_own_prompt_and_each_other(pack, starter, prompts, plain) -> None:
    tokens, options = prompts.positive[0]
    changed = tokens.clone()
    changed[2] = tokens[0]
    after = difference(plain, ksampler(starter.model, prompts, empty(pack, starter), positive=[[changed, options]]))
    assert after[2] > 1e-2, "layer 2 does not see its prompt"
    assert after[0] > 1e-4 and after[1] > 1e-4, "the other layers do not see layer 2"


def test_the_latent_is_reported_with_its_layers(pack, starter, prompts) -> None:
    latent = empty(pack, starter, scenes=2, size=(72, 64))
    out = host.KSampler().sample(starter.model, 1, 1, 1.0, "euler", "normal", prompts.positive, prompts.negative, latent)[0]
    assert (out["layers"], out["size"], out["samples"].shape[0]) == (3, (64, 72), 6)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddim", "euler_ancestral", "uni_pc", "lcm", "dpmpp_sde"])
def test_other_samplers(pack, starter, prompts, sampler) -> None:
    ksampler(starter.model, prompts, empty(pack, starter), sampler=sampler)


def test_ksampler_advanced_in_two_halves(pack, starter, prompts, plain) -> None:
    node, common = host.KSamplerAdvanced(), ("euler", "normal", prompts.positive, prompts.negative)
    half = node.sample(starter.model, "enable", 5, STEPS, 3.0, *common, empty(pack, starter), 0, 2, "enable")[0]
    whole = node.sample(starter.model, "disable", 5, STEPS, 3.0, *common, half, 2, STEPS, "disable")[0]["samples"]
    assert (whole - plain).abs().max() < 1e-4
    assert (half["samples"] - plain).abs().max() > 1e-2


def test_sampler_custom_advanced(pack, starter, prompts, plain) -> None:
    sigmas = custom.BasicScheduler.execute(starter.model, "normal", STEPS, 1.0).args[0]
    sampler, noise = comfy.samplers.sampler_object("euler"), custom.RandomNoise.execute(5).args[0]
    cfg = custom.CFGGuider.execute(starter.model, prompts.positive, prompts.negative, 3.0).args[0]
    out = custom.SamplerCustomAdvanced.execute(noise, cfg, sampler, sigmas, empty(pack, starter)).args[0]["samples"]
    assert (out - plain).abs().max() < 1e-5
    basic = custom.BasicGuider.execute(starter.model, prompts.positive).args[0]
    out = custom.SamplerCustomAdvanced.execute(noise, basic, sampler, sigmas, empty(pack, starter)).args[0]["samples"]
    assert (out - ksampler(starter.model, prompts, empty(pack, starter), cfg=1.0)).abs().max() < 1e-5
    dual = custom.DualCFGGuider.execute(starter.model, prompts.positive, prompts.negative, prompts.negative, 3.0, 1.0,
                                        "regular").args[0]
    out = custom.SamplerCustomAdvanced.execute(noise, dual, sampler, sigmas, empty(pack, starter)).args[0]["samples"]
    assert torch.isfinite(out).all()


def test_a_lora_made_for_the_base_unet(pack, starter, prompts, plain, tmp_path, caplog) -> None:
    save_file(models.lora_for(starter.model.model.diffusion_model), tmp_path / "style.safetensors")
    # First, because another test's folder may hold a file of the same name.
    folder_paths.add_model_folder_path("loras", str(tmp_path), is_default=True)
    patched = host.LoraLoaderModelOnly().load_lora_model_only(starter.model, "style.safetensors", 1.0)[0]
    assert "not loaded" not in caplog.text
    assert len(patched.patches) == len([key for key in models.lora_for(patched.model.diffusion_model) if "alpha" in key])
    assert min(difference(plain, ksampler(patched, prompts, empty(pack, starter)))) > 1e-2
    off = host.LoraLoaderModelOnly().load_lora_model_only(starter.model, "style.safetensors", 0.0)[0]
    assert torch.equal(plain, ksampler(off, prompts, empty(pack, starter)))


class TestControlNet:
    def control(self, prompts: SimpleNamespace, hint: Tensor, strength: float = 1.0, end: float = 1.0) -> dict[str, Any]:
        """Conditioning with ComfyUI's Apply ControlNet on it."""
        facts = models.architecture()
        net = models.control_net(facts["unet"], models.CHANNELS)
        apply = host.ControlNetApplyAdvanced().apply_controlnet
        return dict(zip(("positive", "negative"), apply(prompts.positive, prompts.negative, net, hint, strength, 0.0, end)))

    def test_one_hint_for_all_layers(self, pack, starter, prompts, plain) -> None:
        conds = self.control(prompts, torch.rand(1, 64, 64, 3))
        drawn = ksampler(starter.model, prompts, empty(pack, starter), **conds)
        assert min(difference(plain, drawn)) > 1e-2
        assert torch.equal(drawn, ksampler(starter.model, prompts, empty(pack, starter), **conds)), "left something behind"

    def test_a_batch_of_hints_is_one_a_layer(self, pack, starter, prompts) -> None:
        torch.manual_seed(3)
        hints = torch.rand(3, 64, 64, 3)
        changed = hints.clone()
        changed[1] = 1 - hints[1]
        first, second = (self.one_prediction(pack, starter, prompts, batch) for batch in (hints, changed))
        moved = difference(first, second)
        assert moved[0] == moved[2] == 0 and moved[1] > 1e-4

    def one_prediction(self, pack, starter, prompts, hints: Tensor) -> Tensor:
        """Layers' final images after a single step, in which they see each other only through the UNet itself."""
        blind = starter.model.clone()
        for key in blind.model_state_dict("diffusion_model."):
            if "inter_layer.to_out" in key:
                blind.add_patches({key: ("set", (torch.zeros_like(blind.model_state_dict()[key]),))})
        conds = self.control(prompts, hints)
        return host.KSampler().sample(blind, 5, 1, 3.0, "euler", "normal", conds["positive"], conds["negative"],
                                      empty(pack, starter))[0]["samples"]

    def test_two_controls_in_a_row(self, pack, starter, prompts) -> None:
        torch.manual_seed(4)
        first, second = torch.rand(2, 1, 64, 64, 3)
        once = self.control(prompts, first)
        twice = self.control(SimpleNamespace(**once), second)
        drawn = [ksampler(starter.model, prompts, empty(pack, starter), **conds) for conds in (once, twice)]
        assert min(difference(*drawn)) > 1e-2

    def test_two_scenes(self, pack, starter, prompts) -> None:
        torch.manual_seed(3)
        conds = self.control(prompts, torch.rand(3, 64, 64, 3))
        alone, two = (ksampler(starter.model, prompts, empty(pack, starter, scenes=scenes), **conds) for scenes in (1, 2))
        assert two.shape[0] == 6
        assert (two[:3] - alone).abs().max() < 1e-3, "hints or noise of the first scene depend on the second"

    def test_its_range_of_steps_counts(self, pack, starter, prompts, plain) -> None:
        hint = torch.rand(1, 64, 64, 3)
        early = ksampler(starter.model, prompts, empty(pack, starter), **self.control(prompts, hint, end=0.3))
        always = ksampler(starter.model, prompts, empty(pack, starter), **self.control(prompts, hint))
        assert (early - always).abs().max() > 1e-3 and (early - plain).abs().max() > 1e-3


def test_two_scenes_are_two_scenes(pack, starter, prompts) -> None:
    torch.manual_seed(11)
    noise = torch.randn(6, 2 * models.CHANNELS, 8, 8)
    guider = custom.CFGGuider.execute(starter.model, prompts.positive, prompts.negative, 3.0).args[0]
    sigmas = custom.BasicScheduler.execute(starter.model, "normal", STEPS, 1.0).args[0]
    sampler = comfy.samplers.sampler_object("euler")

    def draw(part: Tensor, scenes: int) -> Tensor:
        latent = empty(pack, starter, scenes=scenes)
        return custom.SamplerCustomAdvanced.execute(models.Noise(part), guider, sampler, sigmas, latent).args[0]["samples"]

    together, alone = draw(noise, 2), torch.cat([draw(noise[:3], 1), draw(noise[3:], 1)])
    # Other batch sizes sum in a different order, so the tolerance is that of float32 over a few steps.
    assert (together - alone).abs().max() < 1e-4 * alone.abs().max()
    assert (together[:3] - together[3:]).abs().max() > 1e-2


def test_a_plain_negative_prompt(pack, starter, prompts, plain) -> None:
    negative = host.CLIPTextEncode().encode(starter.clip, "")[0]
    assert "layers" not in negative[0][1]
    assert torch.equal(plain, ksampler(starter.model, prompts, empty(pack, starter), negative=negative))


def test_one_plain_prompt_draws_single_layers(pack, starter, prompts) -> None:
    text = host.CLIPTextEncode().encode(starter.clip, "a red fox")[0]
    assert ksampler(starter.model, prompts, empty(pack, starter, layers=1), positive=text, negative=text).shape[0] == 1


def test_combined_and_zeroed_conditioning(pack, starter, prompts) -> None:
    zero = host.ConditioningZeroOut().zero_out(prompts.negative)[0]
    both = host.ConditioningCombine().combine(prompts.positive, prompts.positive)[0]
    once = ksampler(starter.model, prompts, empty(pack, starter), negative=zero)
    twice = ksampler(starter.model, prompts, empty(pack, starter), positive=both, negative=zero)
    assert (once - twice).abs().max() < 1e-3


def test_a_freed_layer_leaves_the_others_exactly_as_they_were(pack, starter, prompts, plain) -> None:
    free = pack.nodes.latents.LayerDiffFreeLayers.execute({"samples": plain, "layers": 3, "size": (64, 64)}, "1").args[0]
    for denoise in (1.0, 0.5):
        after = difference(plain, ksampler(starter.model, prompts, free, seed=9, denoise=denoise))
        assert after[0] == 0 and after[2] == 0 and after[1] > 1e-2
    half = host.KSamplerAdvanced().sample(starter.model, "enable", 9, STEPS, 3.0, "euler", "normal", prompts.positive,
                                          prompts.negative, free, 0, 2, "enable")[0]["samples"]
    assert min(difference(plain, half)) > 1e-2, "noise that the next sampler needs was taken away"
    everything = pack.nodes.latents.LayerDiffFreeLayers.execute(free, "0-2").args[0]
    assert min(difference(plain, ksampler(starter.model, prompts, everything, seed=9))) > 1e-2


def test_a_freed_layer_in_every_scene(pack, starter, prompts) -> None:
    before = ksampler(starter.model, prompts, empty(pack, starter, scenes=2))
    free = pack.nodes.latents.LayerDiffFreeLayers.execute({"samples": before, "layers": 3}, "0, 2").args[0]
    after = difference(before, ksampler(starter.model, prompts, free, seed=9))
    assert [change == 0 for change in after] == [False, True, False, False, True, False]


def test_layers_that_disagree(pack, starter, prompts) -> None:
    with pytest.raises(ValueError, match="prompts are for 3 layers, but the latent holds 4"):
        ksampler(starter.model, prompts, empty(pack, starter, layers=4))
    other = [[prompts.negative[0][0], {**prompts.negative[0][1], "layers": 2}]]
    with pytest.raises(ValueError, match="conditionings for 2 and 3 layers"):
        ksampler(starter.model, prompts, empty(pack, starter), negative=other)


class TestSelfMaskGuidance:
    def patched(self, pack, starter, scale: float, **changes: float) -> Any:
        settings = {"blur_sigma": 1.0, "smg_start": 0.0, "smg_end": 1.0, **changes}
        return pack.nodes.sample.LayerDiffSelfMaskGuidance.execute(starter.model, starter.vae, scale, **settings).args[0]

    def test_scale_0_is_plain(self, pack, starter, prompts, plain) -> None:
        assert torch.equal(plain, ksampler(self.patched(pack, starter, 0.0), prompts, empty(pack, starter)))

    def test_it_steers_and_more_steers_more(self, pack, starter, prompts, plain) -> None:
        some, more = (ksampler(self.patched(pack, starter, scale), prompts, empty(pack, starter)) for scale in (0.2, 1.0))
        assert min(difference(plain, some)) > 1e-4
        assert (more - plain).abs().mean() > (some - plain).abs().mean()

    def test_outside_its_range_it_does_nothing(self, pack, starter, prompts, plain) -> None:
        never = self.patched(pack, starter, 1.0, smg_start=1.0, smg_end=1.0)
        late = self.patched(pack, starter, 1.0, smg_start=0.5)
        assert torch.equal(plain, ksampler(never, prompts, empty(pack, starter)))
        assert (ksampler(late, prompts, empty(pack, starter)) - plain).abs().max() > 1e-4

    @pytest.mark.parametrize("cfg", [1.0, 3.0])
    def test_the_sampler_node_is_the_patch_and_the_hosts_sampler(self, pack, starter, prompts, cfg) -> None:
        node = pack.nodes.sample.LayerDiffSMGKSampler.execute(
            starter.model, prompts.positive, prompts.negative, empty(pack, starter), starter.vae, 5, STEPS, cfg, "euler",
            "normal", 1.0, 0.5, 1.0, 0.0, 1.0).args[0]["samples"]
        assert torch.equal(node, ksampler(self.patched(pack, starter, 0.5), prompts, empty(pack, starter), cfg=cfg))

    def test_without_a_guidance_pass(self, pack, starter, prompts) -> None:
        guider = custom.BasicGuider.execute(self.patched(pack, starter, 0.5), prompts.positive).args[0]
        sigmas = custom.BasicScheduler.execute(starter.model, "normal", STEPS, 1.0).args[0]
        out = custom.SamplerCustomAdvanced.execute(custom.RandomNoise.execute(5).args[0], guider,
                                                   comfy.samplers.sampler_object("euler"), sigmas,
                                                   empty(pack, starter)).args[0]["samples"]
        assert torch.isfinite(out).all()

    def test_a_layer_that_is_kept_stays_exactly(self, pack, starter, prompts, plain) -> None:
        free = pack.nodes.latents.LayerDiffFreeLayers.execute({"samples": plain, "layers": 3}, "2").args[0]
        after = difference(plain, ksampler(self.patched(pack, starter, 1.0), prompts, free, seed=9))
        assert after[0] == after[1] == 0 and after[2] > 1e-2

    def test_a_model_without_layers_is_refused(self, pack, starter) -> None:
        with pytest.raises(ValueError, match="MODEL is BaseModel, not a layered one"):
            pack.nodes.sample.LayerDiffSelfMaskGuidance.execute(models.sd15(32, 96), starter.vae, 1.0, 1.0, 0.0, 1.0)

    def test_the_patch_stays_on_its_copy(self, pack, starter, prompts, plain) -> None:
        self.patched(pack, starter, 5.0)
        assert torch.equal(plain, ksampler(starter.model, prompts, empty(pack, starter)))


def test_sizes_are_padded_and_cropped_back(pack, starter, prompts) -> None:
    latent = empty(pack, starter, size=(70, 101))
    assert latent["samples"].shape == (3, 2 * models.CHANNELS, 13, 9), "the VAE's 8 pixels are all that sizes are rounded up to"
    drawn = {**latent, "samples": ksampler(starter.model, prompts, latent)}
    (document,), images, coverage, composite, _ = pack.nodes.decode.LayerDiffDecodeLayers.execute(
        drawn, starter.vae, "sky\nballoon", 0.5, 0.4, 0).args
    assert document["canvas"] == (70, 101) and images.shape == (3, 101, 70, 3) and coverage.shape == (3, 101, 70)
    assert composite.shape == (1, 101, 70, 3)
    assert [layer["name"] for layer in document["layers"]] == ["sky", "balloon", "layer 2"]
    assert (coverage[0] == 1).all() and coverage.min() >= 0 and coverage.max() <= 1
    again, count = pack.nodes.latents.LayerDiffEncodeLayers.execute(document, starter.vae).args
    assert count == 3 and again["samples"].shape == (3, 2 * models.CHANNELS, 13, 9) and again["size"] == (101, 70)


def test_the_hosts_vae_nodes(starter) -> None:
    latent = host.VAEEncode().encode(starter.vae, torch.rand(2, 64, 64, 3))[0]
    assert latent["samples"].shape == (2, models.CHANNELS, 8, 8)
    pixels = host.VAEDecode().decode(starter.vae, latent)[0]
    assert pixels.shape == (2, 64, 64, 3) and pixels.min() >= 0 and pixels.max() <= 1


@pytest.mark.parametrize("layers, rows, columns", [(1, 2, 1), (3, 2, 3), (8, 2, 8), (9, 4, 8)])
def test_the_hosts_live_preview_shows_every_layer(starter, layers, rows, columns) -> None:
    latent_format = starter.model.model.latent_format
    previewer = Latent2RGBPreviewer(latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias,
                                    latent_format.latent_rgb_factors_reshape)
    x0 = torch.randn(layers, 2 * models.CHANNELS, 8, 6)
    picture = previewer.decode_latent_to_preview(x0)
    assert picture.size == (columns * 6, rows * 8)
    x0[-1] += 3
    assert picture.tobytes() != previewer.decode_latent_to_preview(x0).tobytes()


class TestText:
    def tokens(self, starter, text: str) -> Tensor:
        return host.CLIPTextEncode().encode(starter.clip, text)[0][0][0]

    def test_unknown_words_share_a_row_and_known_ones_differ(self, starter) -> None:
        same = self.tokens(starter, "a zebra")
        assert same.shape == (1, models.LENGTH, models.CONTEXT)
        assert torch.equal(same, self.tokens(starter, "a submarine"))
        assert (same - self.tokens(starter, "a fox")).abs().max() > 1e-3
        assert (self.tokens(starter, "a red fox") - self.tokens(starter, "a blue fox")).abs().max() > 1e-3
        assert torch.equal(self.tokens(starter, "A Fox"), self.tokens(starter, "a fox"))

    def test_weighted_prompts(self, starter) -> None:
        plain, more = self.tokens(starter, "a red fox"), self.tokens(starter, "a (red:1.4) fox")
        assert torch.isfinite(more).all() and (plain - more).abs().max() > 1e-3

    def test_long_prompts_beside_short_ones(self, pack, starter, prompts) -> None:
        lines = "a green meadow\n" + "a red fox, " * 30
        positive, negative, layers, names = pack.nodes.prompts.LayerDiffEncodePrompts.execute(
            starter.clip, starter.enhancer, "", lines, "", 1.0).args
        count, length, _ = positive[0][0].shape
        assert count == 2 and length > models.LENGTH and length % models.LENGTH == 0
        assert layers == 2 and names == "background\nlayer 1"
        ksampler(starter.model, prompts, empty(pack, starter, layers=2), positive=positive, negative=negative)

    def test_strength_of_the_global_prompt(self, pack, starter) -> None:
        encode = pack.nodes.prompts.LayerDiffEncodePrompts.execute
        lines = "\n".join(PROMPTS)
        plain = torch.cat([self.tokens(starter, prompt) for prompt in PROMPTS])
        assert torch.equal(encode(starter.clip, starter.enhancer, GLOBAL, lines, "", 0.0).args[0][0][0], plain)
        assert torch.equal(encode(starter.clip, starter.enhancer, " ", lines, "", 1.0).args[0][0][0], plain)
        assert (encode(starter.clip, starter.enhancer, GLOBAL, lines, "", 1.0).args[0][0][0] - plain).abs().max() > 1e-3

    def test_stacked_conditioning_is_that_of_the_prompts(self, pack, starter, prompts) -> None:
        single = [host.CLIPTextEncode().encode(starter.clip, prompt)[0] for prompt in PROMPTS]
        stack = pack.nodes.prompts.LayerDiffStackConditioning.execute
        positive, layers = stack({f"layer{number}": cond for number, cond in enumerate(single)}).args
        plain = torch.cat([cond[0][0] for cond in single])
        assert layers == 3 and torch.equal(positive[0][0], plain) and positive[0][1]["layers"] == 3
        ksampler(starter.model, prompts, empty(pack, starter), positive=positive)
        with pytest.raises(ValueError, match="Layer 1 has a conditioning for 3 images"):
            stack({"layer0": single[0], "layer1": positive})
        with pytest.raises(ValueError, match="No conditioning"):
            stack({})

