"""A Text2Layer file with ComfyUI's own nodes and the pack's: the same graph, with the family detected from the file."""

from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.samplers
import pytest
import torch
from comfy_extras import nodes_custom_sampler as custom
from latent_preview import Latent2RGBPreviewer
from torch import Tensor, nn

import nodes as host
from layerdiff_core.autoencoder import Layers
from layerdiff_core.composite import composite
from layerdiff_core.layers import Document
from tests import models

STEPS = 3
PROMPT = "a red fox at sunset with a green meadow"


@pytest.fixture(autouse=True)
def as_in_the_host():
    with torch.inference_mode():
        yield


def prompt(loaded: SimpleNamespace, text: str = PROMPT) -> Any:
    return host.CLIPTextEncode().encode(loaded.clip, text)[0]


def empty(pack: ModuleType, loaded: SimpleNamespace, scenes: int = 1, size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    return pack.nodes.latents.LayerDiffEmptyLatent.execute(loaded.vae, *size, loaded.foregrounds + 1, scenes).args[0]


def ksampler(loaded: SimpleNamespace, latent: dict[str, Any], model: Any = None, **changes: Any) -> dict[str, Any]:
    settings = {"seed": 5, "steps": STEPS, "cfg": 3.0, "sampler_name": "ddim", "scheduler": "normal",
                "positive": prompt(loaded), "negative": prompt(loaded, ""), **changes}
    drawn = host.KSampler().sample(model or loaded.model, latent_image=latent, **settings)[0]
    assert torch.isfinite(drawn["samples"]).all()
    return drawn


@pytest.fixture(scope="module")
def plain(pack: ModuleType, text2layer: SimpleNamespace) -> dict[str, Any]:
    """Two scenes sampled by ComfyUI's KSampler."""
    with torch.inference_mode():
        return ksampler(text2layer, empty(pack, text2layer, scenes=2))


def decode(pack: ModuleType, loaded: SimpleNamespace, latent: dict[str, Any], **changes: Any) -> Any:
    settings = {"names": "", "centre": 0.5, "softness": 0.4, "scene": 0, **changes}
    return pack.nodes.decode.LayerDiffDecodeLayers.execute(latent, loaded.vae, **settings).args


def test_the_model_is_the_hosts_own(text2layer: SimpleNamespace) -> None:
    import comfy.model_base
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    assert type(text2layer.model.model) is comfy.model_base.BaseModel
    assert type(text2layer.model.model.diffusion_model) is UNetModel
    assert type(text2layer.vae).__module__ == "comfy.sd" and text2layer.enhancer is None


def test_one_latent_holds_a_scene(text2layer: SimpleNamespace, plain: dict[str, Any]) -> None:
    channels = 8 * (text2layer.foregrounds + 1)
    assert plain["samples"].shape == (2, channels, 8, 8)
    assert plain["stacked_layers"] == text2layer.foregrounds + 1 and plain["size"] == (64, 64)
    assert (plain["samples"][0] - plain["samples"][1]).abs().max() > 1e-2


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_other_samplers(pack: ModuleType, text2layer: SimpleNamespace, sampler: str) -> None:
    ksampler(text2layer, empty(pack, text2layer), sampler_name=sampler)


def test_sampler_custom_advanced(pack: ModuleType, text2layer: SimpleNamespace) -> None:
    guider = custom.CFGGuider.execute(text2layer.model, prompt(text2layer), prompt(text2layer, ""), 3.0).args[0]
    sigmas = custom.BasicScheduler.execute(text2layer.model, "normal", STEPS, 1.0).args[0]
    out = custom.SamplerCustomAdvanced.execute(custom.RandomNoise.execute(5).args[0], guider,
                                               comfy.samplers.sampler_object("ddim"), sigmas, empty(pack, text2layer)).args[0]
    assert (out["samples"] - ksampler(text2layer, empty(pack, text2layer))["samples"]).abs().max() < 1e-5


def test_the_prompt_counts(pack: ModuleType, text2layer: SimpleNamespace) -> None:
    one, other = (ksampler(text2layer, empty(pack, text2layer), positive=prompt(text2layer, text))["samples"]
                  for text in ("a red fox", "a blue balloon"))
    assert (one - other).abs().max() > 1e-2


def test_the_hosts_empty_latent_and_latent_upscaling(pack: ModuleType, text2layer: SimpleNamespace) -> None:
    latent = host.EmptyLatentImage().generate(64, 64, 1)[0]
    drawn = ksampler(text2layer, latent)
    assert drawn["samples"].shape[1] == text2layer.vae.latent_channels
    larger = host.LatentUpscale().upscale(drawn, "bilinear", 128, 64, "disabled")[0]
    (document,), *_ = decode(pack, text2layer, ksampler(text2layer, larger, denoise=0.5))
    assert document["canvas"] == (128, 64)


def test_vae_decode_gives_the_composed_image(text2layer: SimpleNamespace, plain: dict[str, Any]) -> None:
    image = host.VAEDecode().decode(text2layer.vae, plain)[0]
    assert image.shape == (2, 64, 64, 3)
    network = text2layer.vae.first_stage_model
    every = network.decode(plain["samples"].to(text2layer.vae.vae_dtype), all_layers=True).float()
    assert every.shape[1] == 4 * text2layer.foregrounds + 6
    wanted = (every[:, -3:] / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    assert (image - wanted).abs().max() < 1e-5


def test_vae_decode_tiled(text2layer: SimpleNamespace) -> None:
    torch.manual_seed(0)
    latent = {"samples": torch.randn(1, text2layer.vae.latent_channels, 16, 24)}
    image = host.VAEDecodeTiled().decode(text2layer.vae, latent, 64, 16)[0]
    assert image.shape == (1, 128, 192, 3)
    assert (image - host.VAEDecode().decode(text2layer.vae, latent)[0]).abs().mean() < 0.1


def test_all_layers_come_out_of_tiles_where_memory_is_short(pack: ModuleType, text2layer: SimpleNamespace, plain: dict[str, Any],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decode(pack, text2layer, plain)[1]
    network, calls = text2layer.vae.first_stage_model, []
    real = type(network).decode

    def short(self: nn.Module, z: Tensor, all_layers: bool = False) -> Tensor:
        calls.append(all_layers)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no memory")
        return real(self, z, all_layers)

    monkeypatch.setattr(type(network), "decode", short)
    tiled = decode(pack, text2layer, plain)[1]
    assert len(calls) > 2 and tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.05


def test_decode_layers(pack: ModuleType, text2layer: SimpleNamespace, plain: dict[str, Any]) -> None:
    count = text2layer.foregrounds + 1
    (document,), images, coverage, composites, _ = decode(pack, text2layer, plain, names="sky", scene=1)
    assert images.shape == (2 * count, 64, 64, 3) and coverage.shape == (2 * count, 64, 64)
    assert composites.shape == (2, 64, 64, 3)
    assert [layer["name"] for layer in document["layers"]] == ["sky", *(f"layer {n}" for n in range(1, count))]
    assert (coverage[::count] == 1).all() and coverage.min() < 0.9
    assert torch.equal(document["layers"][1]["image"], images[count + 1 : count + 2])
    assert torch.equal(composite(Document.from_socket(document))[0], composites[1:])


def test_the_composite_is_the_papers_formula(pack: ModuleType, text2layer: SimpleNamespace, plain: dict[str, Any]) -> None:
    count = text2layer.foregrounds + 1
    _, images, coverage, composites, _ = decode(pack, text2layer, plain)
    pictures, masks = (part.unflatten(0, (2, count)) for part in (images.movedim(-1, 1), coverage[:, None]))
    wanted = Layers(pictures[:, 1:], pictures[:, 0], masks[:, 1:]).composite()
    assert (composites.movedim(-1, 1) - wanted).abs().max() < 1e-5


def test_sizes_are_padded_and_cropped_back(pack: ModuleType, text2layer: SimpleNamespace) -> None:
    latent = empty(pack, text2layer, size=(70, 101))
    assert latent["samples"].shape[2:] == (13, 9)
    (document,), images, *_ = decode(pack, text2layer, latent)
    assert document["canvas"] == (70, 101) and images.shape[1:3] == (101, 70)
    again, count = pack.nodes.latents.LayerDiffEncodeLayers.execute(document, text2layer.vae).args
    assert count == text2layer.foregrounds + 1
    assert again["samples"].shape == latent["samples"].shape and again["size"] == (101, 70)
    assert again["stacked_layers"] == count


def test_encode_layers_is_the_networks_own_encoding(pack: ModuleType, text2layer: SimpleNamespace, plain: dict[str, Any]) -> None:
    (document,), images, coverage, *_ = decode(pack, text2layer, plain, softness=1.0)
    count = text2layer.foregrounds + 1
    encoded = pack.nodes.latents.LayerDiffEncodeLayers.execute(document, text2layer.vae).args[0]["samples"]
    pictures, masks = images[:count].movedim(-1, 1), coverage[:count, None]
    stack = Layers(pictures[None, 1:], pictures[:1], masks[None, 1:]).stack()
    # bleeding colours that were bled already moves them a little at the edges
    wanted = text2layer.vae.first_stage_model.encode((stack * 2 - 1).to(text2layer.vae.vae_dtype))
    assert (encoded - wanted).abs().mean() < 0.05


def test_the_preview_shows_the_composed_image(text2layer: SimpleNamespace, plain: dict[str, Any]) -> None:
    latent = text2layer.model.model.latent_format
    preview = Latent2RGBPreviewer(latent.latent_rgb_factors, latent.latent_rgb_factors_bias, latent.latent_rgb_factors_reshape)
    assert preview.decode_latent_to_preview(plain["samples"]).size == (8, 8)


class TestSelfMaskGuidance:
    def patched(self, pack: ModuleType, loaded: SimpleNamespace, scale: float, **changes: float) -> Any:
        settings = {"blur_sigma": 1.0, "smg_start": 0.0, "smg_end": 1.0, **changes}
        return pack.nodes.sample.LayerDiffSelfMaskGuidance.execute(loaded.model, loaded.vae, scale, **settings).args[0]

    def test_it_steers_and_more_steers_more(self, pack, text2layer, plain) -> None:
        off, some, more = (ksampler(text2layer, empty(pack, text2layer, scenes=2), self.patched(pack, text2layer, scale))
                           ["samples"] for scale in (0.0, 0.2, 1.0))
        assert torch.equal(off, plain["samples"])
        assert (some - off).abs().max() > 1e-4
        assert (more - off).abs().mean() > (some - off).abs().mean()

    def test_outside_its_range_it_does_nothing(self, pack, text2layer, plain) -> None:
        never = self.patched(pack, text2layer, 1.0, smg_start=1.0)
        assert torch.equal(plain["samples"], ksampler(text2layer, empty(pack, text2layer, scenes=2), never)["samples"])

    def test_where_no_foreground_is_nothing_changes(self, pack, text2layer, plain, monkeypatch) -> None:
        latent = text2layer.model.model.latent_format
        monkeypatch.setattr(latent, "mask_bias", torch.full_like(latent.mask_bias, -100.0))
        seen = []
        monkeypatch.setattr(pack.layerdiff_core.guidance, "blur_inside", lambda x, region, sigma: seen.append(region.max()) or x)
        ksampler(text2layer, empty(pack, text2layer), self.patched(pack, text2layer, 1.0))
        assert len(seen) == STEPS and max(seen) == 0

    def test_the_sampler_node(self, pack, text2layer) -> None:
        node = pack.nodes.sample.LayerDiffSMGKSampler.execute(
            text2layer.model, prompt(text2layer), prompt(text2layer, ""), empty(pack, text2layer), text2layer.vae, 5, STEPS, 3.0,
            "ddim", "normal", 1.0, 0.5, 1.0, 0.0, 1.0).args[0]["samples"]
        patched = self.patched(pack, text2layer, 0.5)
        assert torch.equal(node, ksampler(text2layer, empty(pack, text2layer), patched)["samples"])


class Means(nn.Module):
    """An autoencoder that keeps the mean of each 8 x 8 square of each channel: exact on what it has decoded itself."""

    def __init__(self, network: Any):
        super().__init__()
        self.channels, self.latent = 3 + 4 * network.foregrounds, network.post_quant_conv.in_channels

    def encode(self, x: Tensor) -> Tensor:
        z = nn.functional.avg_pool2d(x, 8)
        return torch.cat([z, z.new_zeros(len(z), self.latent - self.channels, *z.shape[2:])], dim=1)

    def decode(self, z: Tensor, all_layers: bool = False) -> Tensor:
        x = nn.functional.interpolate(z[:, : self.channels], scale_factor=8.0)
        return torch.cat([x, x[:, :3]], dim=1) if all_layers else x[:, :3]


class TestKeepLayers:
    def given(self, pack: ModuleType, loaded: SimpleNamespace) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(8)
        count = loaded.foregrounds + 1
        pictures = torch.rand(count, 8, 8, 3, generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
        coverage = torch.rand(count, 8, 8, generator=generator).round().repeat_interleave(8, 1).repeat_interleave(8, 2)
        coverage[0] = 1
        return pack.layerdiff_core.layers.make_document(pictures, coverage, [str(n) for n in range(count)]).to_socket()

    def draw(self, pack: ModuleType, loaded: SimpleNamespace, keep: str | None, end: float = 1.0, scenes: int = 1) -> Tensor:
        model = loaded.model
        if keep:
            execute = pack.nodes.keep.LayerDiffKeepLayers.execute
            model = execute(model, loaded.vae, self.given(pack, loaded), keep, 0.0, end).args[0]
        return ksampler(loaded, empty(pack, loaded, scenes=scenes), model)["samples"]

    @pytest.mark.parametrize("keep", ["background", "foregrounds"])
    def test_what_is_kept_is_nearer_and_the_rest_is_free(self, pack, text2layer, keep, monkeypatch) -> None:
        means = Means(text2layer.vae.first_stage_model)
        for name in ("encode", "decode"):
            monkeypatch.setattr(text2layer.vae.first_stage_model, name, getattr(means, name))
        known = self.given(pack, text2layer)["layers"]
        whole = {"known": [], "free": []}
        for drawn in (self.draw(pack, text2layer, None), self.draw(pack, text2layer, keep)):
            found = (means.decode(drawn, all_layers=True) / 2 + 0.5).clamp(0, 1)
            n = text2layer.foregrounds
            background = found[:, 3 * n : 3 * n + 3]
            masks = found[:, 3 * n + 3 : 4 * n + 3]
            parts = {"background": (background - known[0]["image"].movedim(-1, 1)).abs().mean(),
                     "foregrounds": (masks - torch.stack([1 - layer["mask"] for layer in known[1:]], 1)).abs().mean()}
            whole["known"].append(float(parts[keep]))
            whole["free"].append(masks if keep == "background" else background)
        assert whole["known"][1] < 0.02 < 0.1 < whole["known"][0]
        assert whole["free"][1].std() > 0.05, "what is not kept came out empty"

    def test_it_changes_nothing_beyond_its_range(self, pack, text2layer) -> None:
        free, half, whole = (self.draw(pack, text2layer, keep, end) for keep, end in ((None, 1), ("background", 0.5),
                                                                                    ("background", 1)))
        assert torch.equal(free, self.draw(pack, text2layer, "background", end=0.0))
        assert min((half - free).abs().max(), (half - whole).abs().max()) > 1e-3

    @pytest.mark.parametrize("keep", ["background", "foregrounds"])
    def test_random_weights_several_scenes(self, pack, text2layer, keep) -> None:
        free, kept = self.draw(pack, text2layer, None, scenes=2), self.draw(pack, text2layer, keep, scenes=2)
        assert (free - kept).abs().max() > 1e-3 and torch.isfinite(kept).all()

    def test_another_size(self, pack, text2layer) -> None:
        model = pack.nodes.keep.LayerDiffKeepLayers.execute(text2layer.model, text2layer.vae, self.given(pack, text2layer),
                                                            "background", 0.0, 1.0).args[0]
        with pytest.raises(ValueError, match="are 64 x 64 pixels.*latent is for 128 x 64"):
            ksampler(text2layer, empty(pack, text2layer, size=(128, 64)), model)

    def test_foregrounds_without_a_background(self, pack, text2layer) -> None:
        document = self.given(pack, text2layer)
        without = {**document, "layers": document["layers"][1:]}
        execute = pack.nodes.keep.LayerDiffKeepLayers.execute
        drawn = [ksampler(text2layer, empty(pack, text2layer),
                          execute(text2layer.model, text2layer.vae, layers, "foregrounds", 0.0, 1.0).args[0])["samples"]
                 for layers in (document, without)]
        assert torch.equal(*drawn)
        many = {**document, "layers": document["layers"] * 3}
        with pytest.raises(ValueError, match=f"There are {3 * (text2layer.foregrounds + 1)} layers to keep foregrounds from"):
            execute(text2layer.model, text2layer.vae, many, "foregrounds", 0.0, 1.0)


def test_a_layerdiff_model_keeps_layers_otherwise(pack: ModuleType, starter: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="not a Text2Layer model.*Free Layers"):
        pack.nodes.keep.LayerDiffKeepLayers.execute(starter.model, starter.vae, {}, "background", 0.0, 1.0)


def test_a_controlnet_is_refused(pack: ModuleType, text2layer: SimpleNamespace) -> None:
    net = models.control_net(models.architecture()["unet"], models.CHANNELS)
    positive, negative = host.ControlNetApplyAdvanced().apply_controlnet(prompt(text2layer), prompt(text2layer, ""), net,
                                                                         torch.rand(1, 64, 64, 3), 1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="ControlNet does not work"):
        ksampler(text2layer, empty(pack, text2layer), positive=positive, negative=negative)
