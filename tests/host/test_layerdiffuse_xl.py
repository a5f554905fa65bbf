"""LayerDiffuse's files on an SDXL MODEL, in ComfyUI's own samplers. The files hold random numbers in the scheme of the published
keys and shapes; the UNet is SDXL's in structure, a tenth as wide and with fewer blocks."""

from types import ModuleType
from typing import Any

import comfy.lora
import comfy.model_management
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

import nodes as host
from layerdiff_core.layers import Document
from tests import bridges, models, published
from tests import layerdiffuse_xl as xl
from tests.host.test_nothing_replaced import replaced
from tests.layerdiffuse import DECODER, close, image, narrow_vae, noise
from tests.layerdiffuse_xl import GIVEN, apply, draw, given, prompts, stacked

MEMORY_MODES = ("plain", "dynamic", "float16")


@pytest.fixture(scope="module")
def xl_files(pack: ModuleType, memory: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    return xl.write_files(tmp_path_factory.mktemp("layer_model"))


@pytest.fixture(scope="module")
def base(memory: str) -> Any:
    return xl.base(memory)


@pytest.fixture(scope="module")
def vae(memory: str) -> Any:
    return narrow_vae()


class WideConvolution(nn.Module):
    """The first convolution over the noisy latents and those of given images, concatenated. The pack works with a patch."""

    def __init__(self, weight: Tensor, bias: Tensor, given: Tensor):
        super().__init__()
        self.weight, self.bias, self.given = weight, bias, given

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x, self.given.expand(len(x), -1, -1, -1)], dim=1)
        return torch.nn.functional.conv2d(both, self.weight, self.bias, padding=1)


def merged(name: str, files: Any, vae: Any) -> Any:
    """A MODEL whose weights have the file's changes in them."""
    model = xl.base()
    network = model.model.diffusion_model
    weights = published.xl_merged(network.state_dict(), files[name])
    if GIVEN[name]:
        inputs = given(name)
        picture = inputs[str(GIVEN[name])]
        if "coverage" in inputs:
            picture = 0.5 + (picture - 0.5) * inputs["coverage"][..., None]
        pictures = [picture, *([inputs["blended"]] if "blended" in inputs else [])]
        latents = torch.cat([vae.encode(each) * 0.13025 for each in pictures], dim=1)
        first = "input_blocks.0.0."
        network.input_blocks[0][0] = WideConvolution(weights.pop(f"{first}weight"), weights.pop(f"{first}bias"), latents)
        network.input_blocks[0][0].requires_grad_(False)
    assert not network.load_state_dict(weights, strict=False).unexpected_keys
    return model


@pytest.mark.parametrize("name", GIVEN)
@torch.inference_mode()
def test_sampling_is_what_the_description_says(pack: ModuleType, xl_files: Any, base: Any, vae: Any, memory: str,
                                               name: str) -> None:
    if memory == "dynamic" and not GIVEN[name]:
        pytest.skip("Without a GPU, ComfyUI's dynamic patcher leaves out patches of weights.")
    count = 3 if GIVEN[name] is None else 1
    positive, start = stacked(pack, prompts(count)), noise(2 * count)
    found = draw(apply(pack, base, vae, name)[0], start, positive)
    wanted, before = draw(merged(name, xl_files, vae), start, positive), draw(base, start, positive)
    change, error = (wanted - before).abs().max(), (found - wanted).abs().max()
    assert change > 5e-3 * wanted.abs().max()
    if memory == "dynamic":
        return
    assert error < (2e-3 * wanted.abs().max() if memory == "float16" else 1e-3 * change)


def test_the_scheme_at_sdxls_own_size() -> None:
    """The number of tensors and, in MB, the size of the published files."""
    with torch.device("meta"):
        config = models.sdxl_config(320, 2048, 1280, num_head_channels=64, transformer_depth=[0, 0, 2, 2, 10, 10],
                                    transformer_depth_middle=10, transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10])
        network = UNetModel(**config.unet_config)
    weights = {key: tuple(weight.shape) for key, weight in network.state_dict().items()}
    for name, (count, size) in {"transparent_attn": (1120, 743), "transparent_conv": (206, 701), "fg2ble": (206, 701)}.items():
        found = published.xl_shapes(name, weights)
        assert (len(found), int(sum(torch.Size(shape).numel() for shape in found.values()) * 2 / 1e6)) == (count, size)


@torch.inference_mode()
def test_each_prompt_has_a_cut_out(pack: ModuleType, xl_files: Any, files: Any, base: Any, vae: Any, memory: str) -> None:
    """Each layer is what its own prompt gives alone, and the background comes from the plain MODEL."""
    model, marked = apply(pack, base, vae, "transparent_attn")
    marked = pack.nodes.layerdiffuse.LayerDiffLoadTransparentDecoder.execute(marked, DECODER, "fast (1 pass)").args[0]
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(marked, 64, 64, 3, 2).args[0]
    assert latent["samples"].shape == (6, 4, 8, 8) and latent["layers"] == 3
    each, start = prompts(3), noise(6)
    drawn = draw(model, start, stacked(pack, each))
    for row in (1, 5):
        alone = draw(model, start[row : row + 1], each[row % 3])
        assert close(alone, drawn[row : row + 1], 1e-2 if memory == "float16" else 1e-4)
    if memory != "plain":
        return
    decode = pack.nodes.decode.LayerDiffDecodeLayers.execute
    (document,), images, coverage, composite, _ = decode({**latent, "samples": drawn}, marked, "fox\ncat\nowl", 0.5, 0.4, 1).args
    assert [layer["name"] for layer in document["layers"]] == ["fox", "cat", "owl"]
    assert images.shape == (6, 64, 64, 3) and 0 < coverage.mean() < 1 and len(composite) == 2
    background = host.VAEDecode().decode(vae, {"samples": draw(base, noise(1), prompts(1)[0])})[0]
    whole = bridges.merge(pack, bridges.stack(pack, background, names="meadow"), Document.from_socket(document))
    assert [layer.name for layer in whole.layers] == ["meadow", "fox", "cat", "owl"]


@torch.inference_mode()
def test_pooled_prompts_of_layers(pack: ModuleType) -> None:
    """Encode Layer Prompts gives every layer its own pooled prompt, which SDXL's UNet takes beside the tokens."""
    each = iter(prompts(4))

    class Clip:
        tokenizer = cond_stage_model = None

        def tokenize(self, text: str) -> str:
            return text

        def encode_from_tokens_scheduled(self, tokens: str) -> Any:
            return next(each)

    positive, negative, layers, _ = pack.nodes.prompts.LayerDiffEncodePrompts.execute(
        Clip(), global_prompt="", layer_prompts="a\nb\nc").args
    wanted = torch.cat([one[0][1]["pooled_output"] for one in prompts(3)])
    assert torch.equal(positive[0][1]["pooled_output"], wanted) and layers == 3
    assert negative[0][1]["pooled_output"].shape == (1, xl.POOLED)


@torch.inference_mode()
def test_the_base_predicts_as_before_and_nothing_is_replaced(pack: ModuleType, xl_files: Any, base: Any, vae: Any,
                                                             host_before: Any, take_snapshot: Any) -> None:
    start, positive = noise(1), prompts(1)[0]
    before, keys = draw(base, start, positive), base.model.state_dict().keys()
    model, _ = apply(pack, base, vae, "fgble2bg")
    draw(model, start, positive)
    assert torch.equal(draw(base, start, positive), before) and base.model.state_dict().keys() == keys
    assert not base.patches and not base.wrappers and not model.object_patches
    assert replaced(host_before, take_snapshot()) == []


@torch.inference_mode()
def test_a_lora_control_and_attention_patches(pack: ModuleType, xl_files: Any, base: Any, vae: Any, memory: str) -> None:
    """All of them act, before or after the node: on SDXL, LayerDiffuse itself changes only weights."""
    if memory != "plain":
        pytest.skip("once is enough")
    lora = comfy.lora.load_lora(models.lora_for(xl.base().model.diffusion_model),
                                comfy.lora.model_lora_keys_unet(base.model, {}))
    control = models.control_net(models.sdxl_config(xl.WIDTH, xl.CONTEXT, xl.POOLED).unet_config, 4)
    start, positive, negative = noise(1), prompts(1)[0], prompts(1, seed=9)[0]
    plain = draw(apply(pack, base, vae, "bg2ble")[0], start, positive)

    def loud(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        return torch.full_like(q, 30.0)

    for change in (lambda m: m.add_patches(lora, 0.8), lambda m: m.set_model_attn2_replace(loud, "middle", 0),
                   lambda m: m.set_model_attn1_patch(lambda n, context, value, options: (n, 3 * context, value))):
        under, over = base.clone(), apply(pack, base, vae, "bg2ble")[0].clone()
        change(under)
        change(over)
        first = draw(apply(pack, under, vae, "bg2ble")[0], start, positive)
        assert close(draw(over, start, positive), first, 1e-5) and not close(plain, first, 1e-3)
    guided, _ = host.ControlNetApplyAdvanced().apply_controlnet(positive, negative, control, image(9), 1.0, 0.0, 1.0)
    assert not close(draw(apply(pack, base, vae, "bg2ble")[0], start, guided), plain, 1e-3)


@torch.inference_mode()
def test_a_model_that_does_not_fit_into_the_gpu(pack: ModuleType, xl_files: Any, base: Any, vae: Any, memory: str) -> None:
    if memory == "dynamic":
        pytest.skip("DynamicVRAM always works like that")
    model, _ = apply(pack, base, vae, "fg2ble")
    start, positive = noise(1), prompts(1)[0]
    whole = draw(model, start, positive)
    comfy.model_management.unload_all_models()
    model.patch_model(device_to=model.load_device, lowvram_model_memory=model.model_size() // 3)
    assert model.model.model_lowvram
    lowered = draw(model, start, positive)
    model.unpatch_model(model.offload_device)
    # Weights that are patched once are rounded to 16 bits, those that are patched at each use are not.
    assert close(lowered, whole, 1e-3 if memory == "float16" else 1e-4)


@torch.inference_mode()
def test_decoded_layers(pack: ModuleType, xl_files: Any, files: Any, base: Any, vae: Any, memory: str) -> None:
    if memory != "plain":
        pytest.skip("once is enough")
    named = {"fg2ble": ["foreground"], "bg2ble": ["background"], "fgble2bg": ["one", "foreground"],
             "bgble2fg": ["background", "one"]}
    for name, layers in named.items():
        extra = given(name, height=60, width=84)
        marked = apply(pack, base, vae, name, **extra)[1]
        if name == "bgble2fg":
            marked = pack.nodes.layerdiffuse.LayerDiffLoadTransparentDecoder.execute(marked, DECODER, "fast (1 pass)").args[0]
        latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(marked, 0, 0, 1, 2).args[0]
        assert latent["samples"].shape == (2, 4, 8, 11)
        samples = torch.randn(2, 4, 8, 11, generator=torch.Generator().manual_seed(1))
        (document,), images, coverage, composite, blended = pack.nodes.decode.LayerDiffDecodeLayers.execute(
            {**latent, "samples": samples}, marked, "one", 0.5, 0.4, 1).args
        assert [layer["name"] for layer in document["layers"]] == layers
        row = layers.index(str(GIVEN[name]))
        assert all(torch.equal(images[start + row], extra[str(GIVEN[name])][0]) for start in (0, len(layers)))
        assert composite.shape == blended.shape == (2, 60, 84, 3) and not torch.equal(composite, blended)
        if "blended" in extra:
            assert torch.equal(blended[1], extra["blended"][0])
        else:
            # Decoded and cropped, as VAE Decode shows it.
            shown = host.VAEDecode().decode(vae, {"samples": samples})[0][:, 2:62, 2:86]
            assert torch.allclose(blended, shown, atol=1e-5)
