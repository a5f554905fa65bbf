"""LayerDiffuse's files on an SD 1.5 MODEL, in ComfyUI's own samplers. The files hold random numbers in the published keys, shapes
and types; the UNet is SD 1.5's in structure, a tenth as wide."""

import gc
import os
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.utils
import folder_paths
import latent_preview
import numpy as np
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_custom_sampler as custom
from torch import Tensor, nn

import nodes as host
from tests import models, published
from tests.host.test_nothing_replaced import replaced
from tests.layerdiffuse import (
    CONTEXT,
    DECODER,
    IN_FILE,
    KINDS,
    WIDTH,
    apply,
    close,
    draw,
    given,
    image,
    narrow_vae,
    noise,
    prompts,
    stacked,
)

MEMORY_MODES = ("plain", "dynamic", "float16")


@pytest.fixture(scope="module")
def base(memory: str) -> Any:
    return models.sd15(WIDTH, CONTEXT, mode=memory)


@pytest.fixture(scope="module")
def vae(memory: str) -> Any:
    return narrow_vae()


def check_alike(found: Tensor, wanted: Tensor, before: Tensor, memory: str) -> None:
    """Within a thousandth of what the file changes; in half precision within 2e-3 of the largest value, and a change beyond."""
    change, error = (wanted - before).abs().max(), (found - wanted).abs().max()
    assert error < (2e-3 * wanted.abs().max() if memory == "float16" else 1e-3 * change) and change > 5e-3 * wanted.abs().max()


class PlainUnit(nn.Module):
    """The reference in the place of an attention module. The pack works with patches instead."""

    def __init__(self, module: Any, name: str, tensors: dict[str, Tensor], unit: int, signals: dict[int, Tensor]):
        super().__init__()
        self.base = {part: getattr(module, f"to_{part}").weight.detach() for part in "qkv"}
        self.base |= {"out": module.to_out[0].weight.detach(), "bias": module.to_out[0].bias.detach()}
        self.name, self.tensors, self.unit, self.signals = name, tensors, unit, signals

    def forward(self, x: Tensor, context: Any = None, value: Any = None, mask: Any = None, **_: Any) -> Tensor:
        out, frames = torch.empty_like(x), KINDS[self.name]
        for scene in range(len(x) // len(frames)):
            rows = [scene * len(frames) + frames.index(frame) for frame in IN_FILE[self.name]]
            texts = None if context is None else [context[row] for row in rows]
            parts = published.reference(self.tensors, self.unit, self.base, [x[row] for row in rows], texts,
                                        self.signals.get(published.LEVELS[self.unit // 2]))
            for row, part in zip(rows, parts):
                out[row] = part
        return out


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_sampling_is_what_the_description_says(pack: ModuleType, files: Any, base: Any, vae: Any, memory: str, name: str) -> None:
    frames, scenes = len(KINDS[name]), 2
    model, _ = apply(pack, base, vae, name)
    tokens, start = prompts(frames), noise(scenes * frames)
    found = draw(model, start, stacked(pack, tokens))

    tensors = {key: value.float() for key, value in files[f"layer_sd15_{name}.safetensors"].items()}
    extra, shown = given(name), None
    if name == "fg2bg":
        shown = 0.5 + (extra["foreground"] - 0.5) * extra["coverage"][..., None]
    elif name == "bg2fg":
        shown = extra["background"]
    signals = {} if shown is None else dict(enumerate(published.plain_signals(tensors, shown.movedim(-1, 1))))
    plain = models.sd15(WIDTH, CONTEXT)
    for number, place in enumerate(published.PLACES):
        block = comfy.utils.get_attr(plain.model.diffusion_model, f"{place}.1.transformer_blocks.0")
        for cross in (0, 1):
            unit = PlainUnit(getattr(block, f"attn{cross + 1}"), name, tensors, 2 * number + cross, signals)
            setattr(block, f"attn{cross + 1}", unit)
    wanted = draw(plain, start, [[tokens, {}]])
    check_alike(found, wanted, draw(base, start, [[tokens, {}]]), memory)


@torch.inference_mode()
def test_the_base_predicts_as_before_and_nothing_is_replaced(pack: ModuleType, files: Any, base: Any, vae: Any, host_before: Any,
                                                             take_snapshot: Any) -> None:
    start, tokens = noise(3), prompts(3)
    before = draw(base, start, [[tokens, {}]])
    keys = dict(base.model.state_dict())
    model, _ = apply(pack, base, vae, "joint")
    draw(model, start, stacked(pack, tokens))
    assert torch.equal(draw(base, start, [[tokens, {}]]), before)
    assert base.model.state_dict().keys() == keys.keys() and not base.wrappers and not base.object_patches
    assert not model.object_patches
    assert replaced(host_before, take_snapshot()) == []


@torch.inference_mode()
def test_the_low_rank_change_is_a_lora(pack: ModuleType, files: Any, base: Any, vae: Any, memory: str) -> None:
    """One frame, without attention among frames: what is left is an ordinary LoRA of ComfyUI's, of all attention weights."""
    if memory == "dynamic":
        pytest.skip("Without a GPU, ComfyUI's dynamic patcher leaves out LoRA patches of larger weights.")
    name = "layer_sd15_transparent_attn.safetensors"
    silent = {key: torch.zeros_like(value) if ".temporal_o." in key else value for key, value in files[name].items()}
    path = Path(folder_paths.get_folder_paths("layer_model")[0]) / "silent_transparent_attn.safetensors"
    published.save_file(silent, path)
    model = pack.nodes.layerdiffuse.LayerDiffApplyLayerDiffuse.execute(base, vae, path.name).args[0]
    tensors = {}
    for number, place in enumerate(published.PLACES):
        for cross in (0, 1):
            for part, ending in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "out_0")):
                lora = f"lora_unet_{place.replace('.', '_')}_1_transformer_blocks_0_attn{cross + 1}_to_{ending}"
                for way in ("up", "down"):
                    key = f"hookers.layers.{2 * number + cross}.to_{part}_lora.0.{way}.weight"
                    tensors[f"{lora}.lora_{way}.weight"] = silent[key].float()
    other = base.clone()
    added = other.add_patches(comfy.lora.load_lora(tensors, comfy.lora.model_lora_keys_unet(base.model, {})))
    assert len(added) == 128
    start, tokens = noise(2), prompts(1)
    found, wanted = draw(model, start, [[tokens, {}]]), draw(other, start, [[tokens, {}]])
    check_alike(found, wanted, draw(base, start, [[tokens, {}]]), memory)


@torch.inference_mode()
def test_a_lora_before_or_after(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    keys = comfy.lora.model_lora_keys_unet(base.model, {})
    lora = comfy.lora.load_lora(models.lora_for(models.sd15(WIDTH, CONTEXT).model.diffusion_model), keys)
    start, tokens = noise(3), prompts(3)
    under, plain = base.clone(), apply(pack, base, vae, "joint")[0]
    over = plain.clone()
    assert under.add_patches(lora, 0.8) and over.add_patches(lora, 0.8)
    first = draw(apply(pack, under, vae, "joint")[0], start, stacked(pack, tokens))
    assert torch.equal(draw(over, start, stacked(pack, tokens)), first)
    assert not close(draw(plain, start, stacked(pack, tokens)), first, 0.01)


@torch.inference_mode()
def test_two_scenes_are_each_alone(pack: ModuleType, files: Any, base: Any, vae: Any, memory: str) -> None:
    model, _ = apply(pack, base, vae, "joint")
    start, positive = noise(6), stacked(pack, prompts(3))
    both = draw(model, start, positive)
    for scene in (0, 1):
        rows = slice(3 * scene, 3 * scene + 3)
        assert close(draw(model, start[rows], positive), both[rows], 1e-2 if memory == "float16" else 1e-4)


@torch.inference_mode()
def test_ksampler_noise_mask_and_control(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    model, marked = apply(pack, base, vae, "joint")
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(marked, 64, 64, 2, 1).args[0]
    assert latent["samples"].shape == (3, 4, 8, 8) and latent["layers"] == 3
    positive, negative = stacked(pack, prompts(3)), [[torch.zeros(1, 77, CONTEXT), {}]]
    first = host.KSampler().sample(model, 1, 2, 2.0, "euler", "normal", positive, negative, latent, 1.0)[0]
    free = pack.nodes.latents.LayerDiffFreeLayers.execute(first, "1, 2").args[0]
    again = host.KSampler().sample(model, 2, 2, 2.0, "euler", "normal", positive, negative, free, 1.0)[0]["samples"]
    assert torch.equal(again[0], first["samples"][0]) and (again[1:] - first["samples"][1:]).abs().amax((1, 2, 3)).min() > 0.01
    control = models.control_net(models.sd15_config(WIDTH, CONTEXT).unet_config, 4)
    guided, unguided = host.ControlNetApplyAdvanced().apply_controlnet(positive, negative, control, image(9).repeat(3, 1, 1, 1),
                                                                       1.0, 0.0, 1.0)
    other = host.KSampler().sample(model, 1, 2, 2.0, "euler", "normal", guided, unguided, latent, 1.0)[0]["samples"]
    assert torch.isfinite(other).all() and not torch.equal(other, first["samples"])


@torch.inference_mode()
def test_a_model_that_does_not_fit_into_the_gpu(pack: ModuleType, files: Any, base: Any, vae: Any, memory: str) -> None:
    """Low VRAM: parts of both networks stay where they are and are cast layer by layer. The same image."""
    if memory == "dynamic":
        pytest.skip("DynamicVRAM always works like that")
    model, _ = apply(pack, base, vae, "joint")
    start, positive = noise(3), stacked(pack, prompts(3))
    whole = draw(model, start, positive)
    comfy.model_management.unload_all_models()
    (added,) = set(model.model_patches_models())
    for part in (model, added):
        part.patch_model(device_to=part.load_device, lowvram_model_memory=part.model_size() // 3)
        assert part.model.model_lowvram
    lowered = draw(model, start, positive)
    for part in (model, added):
        part.unpatch_model(part.offload_device)
    assert close(lowered, whole, 1e-4)


@torch.inference_mode()
def test_an_attention_patch_before_acts_and_one_after_is_refused(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    def loud(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        return torch.full_like(q, 30.0)

    start, positive = noise(3), stacked(pack, prompts(3))
    before = base.clone()
    before.set_model_attn2_replace(loud, "middle", 0)
    first, plain = (draw(apply(pack, each, vae, "joint")[0], start, positive) for each in (before, base))
    assert not close(first, plain, 1e-3)
    for change in (lambda m: m.set_model_attn2_replace(loud, "middle", 0),
                   lambda m: m.set_model_attn1_replace(loud, "input", 4, 0),
                   lambda m: m.set_model_attn1_patch(lambda n, context, value, options: (n, context, value))):
        after = apply(pack, base, vae, "joint")[0]
        change(after)
        with pytest.raises(ValueError, match="A node after Apply LayerDiffuse.*Move that node before"):
            draw(after, start, positive)


@torch.inference_mode()
def test_decoded_layers(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    for name, frames in KINDS.items():
        size = {"height": 60, "width": 84} if name in published.CONTROLLED else {}
        extra = given(name, **size)
        model, marked = apply(pack, base, vae, name, **extra)
        marked = pack.nodes.layerdiffuse.LayerDiffLoadTransparentDecoder.execute(marked, DECODER, "fast (1 pass)").args[0]
        wide, high = (0, 0) if size else (84, 60)
        drawn = 2 if name == "joint" else 1
        latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(marked, wide, high, drawn, 2).args[0]
        assert latent["samples"].shape == (2 * len(frames), 4, 8, 11)
        sampled = {**latent, "samples": torch.randn(latent["samples"].shape, generator=torch.Generator().manual_seed(1))}
        (document,), images, coverage, composite, blended = pack.nodes.decode.LayerDiffDecodeLayers.execute(
            sampled, marked, "one\ntwo" if drawn == 2 else "one", 0.5, 0.4, 1).args
        layers = 1 if name == "transparent_attn" else 2
        assert images.shape == (2 * layers, 60, 84, 3) and coverage.shape == (2 * layers, 60, 84)
        names = {"joint": ["one", "two"], "fg2bg": ["one", "foreground"], "bg2fg": ["background", "one"],
                 "transparent_attn": ["one"]}
        assert [layer["name"] for layer in document["layers"]] == names[name]
        if layers == 2:
            assert (coverage[::2] == 1).all() and composite.shape == blended.shape == (2, 60, 84, 3)
            assert not torch.equal(composite, blended)
        for socket, row in (("foreground", 1), ("background", 0)):
            if socket in extra:
                assert all(torch.equal(images[scene + row], extra[socket][0]) for scene in (0, 2))
        if name == "fg2bg":
            assert torch.equal(coverage[1], extra["coverage"][0])
        else:
            assert 0 < coverage[layers - 1].mean() < 1


@torch.inference_mode()
def test_plain_vae_decode_still_works(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    _, marked = apply(pack, base, vae, "joint")
    found, wanted = (host.VAEDecode().decode(each, {"samples": noise(3)})[0] for each in (marked, vae))
    assert torch.equal(found, wanted)


@torch.inference_mode()
def test_the_decoder_in_tiles_progress_and_interrupt(pack: ModuleType, files: Any, base: Any, vae: Any, memory: str,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    if memory != "plain":
        pytest.skip("once is enough")
    marked = pack.nodes.layerdiffuse.LayerDiffLoadTransparentDecoder.execute(vae, DECODER, "best (8 passes)").args[0]
    found, decode = [], pack.nodes.decode.LayerDiffDecodeLayers.execute
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: found.append((value, total)))
    # ComfyUI leaves out steps that follow each other within a tenth of a second.
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0.0)
    latent = {"samples": noise(1)}
    whole = decode(latent, marked, "", 0.5, 0.4, 0).args[2]
    assert found == [(step, 8) for step in range(1, 9)]

    network, sizes = marked.transparency.patcher.model, []

    def short(module: Any, inputs: Any) -> None:
        sizes.append(inputs[0].shape[-1])
        if inputs[0].shape[-1] > 128:
            raise torch.OutOfMemoryError("out of memory")

    module = pack.nodes.host.transparency
    monkeypatch.setattr(module, "TILE", 128)
    monkeypatch.setattr(module, "OVERLAP", 64)
    hook = network.register_forward_pre_hook(short)
    transparency = marked.transparency._replace(views=1)
    picture, latents = torch.rand(1, 3, 64, 256), noise(1)[..., :8, :].repeat(1, 1, 1, 4)
    tiled = transparency.decode(picture, latents)
    hook.remove()
    assert sizes[0] == 256 and max(sizes[1:]) == 128 and tiled.shape == (1, 4, 64, 256)
    # The first half of the first tile is in no other tile.
    alone = transparency.decode(picture[..., :128], latents[..., :16])
    assert torch.allclose(tiled[..., :64], alone[..., :64], atol=1e-5)

    monkeypatch.setattr(comfy.model_management, "interrupt_processing", True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        decode(latent, marked, "", 0.5, 0.4, 0)
    comfy.model_management.interrupt_current_processing(False)
    assert torch.equal(decode(latent, marked, "", 0.5, 0.4, 0).args[2], whole)


@torch.inference_mode()
def test_prompts_without_an_enhancer(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    """The global prompt becomes the blended frame's; one prompt alone counts for all frames."""
    model, _ = apply(pack, base, vae, "joint")
    tokens, start = prompts(3), noise(3)
    wanted = draw(model, start, stacked(pack, tokens))
    assert torch.equal(draw(model, start, [[tokens[:2], {"layers": 2, "whole_prompt": tokens[2:]}]]), wanted)
    same = draw(model, start, stacked(pack, tokens[:1].expand(3, -1, -1)))
    assert torch.equal(draw(model, start, [[tokens[:1], {}]]), same) and not close(same, wanted, 1e-3)


@torch.inference_mode()
def test_what_the_given_layer_adds_is_computed_once_per_sampling(pack: ModuleType, files: Any, base: Any, vae: Any,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = apply(pack, base, vae, "fg2bg")
    (wrapper,) = model.get_wrappers(WrappersMP.DIFFUSION_MODEL, "layerdiffuse")
    network, calls = wrapper.added.model, []
    units = [part for part in network.modules() if isinstance(part, pack.layerdiff_core.layerdiffuse.SharedAttention)]
    parts = (network.kwargs_encoder, *(convolutions for unit in units for convolutions in unit.control_convs))
    hooks = [part.register_forward_pre_hook(lambda part, _: calls.append(part)) for part in parts]
    start, positive = noise(2), stacked(pack, prompts(2))
    first, once = draw(model, start, positive), 1 + 2 * len(units)
    assert len(calls) == len(set(calls)) == once and not wrapper.kept
    assert torch.equal(draw(model, start, positive), first) and len(calls) == 2 * once
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(("scenes", "columns", "rows"), [(1, 3, 1), (2, 6, 1), (3, 6, 2)])
@torch.inference_mode()
def test_the_preview_shows_all_frames(pack: ModuleType, files: Any, base: Any, vae: Any, memory: str, scenes: int, columns: int,
                                      rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preview alone: SamplerCustomAdvanced's denoised output, which comes the same way, is the frames themselves."""
    if memory != "plain":
        pytest.skip("once is enough")
    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.Latent2RGB)
    seen: list[Any] = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, **_: seen.append(preview))
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0.0)
    model, marked = apply(pack, base, vae, "joint")
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(marked, 64, 48, 2, scenes).args[0]
    guider = custom.CFGGuider.execute(model, stacked(pack, prompts(3)), [[torch.zeros(1, 77, CONTEXT), {}]], 2.0).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", 2, 1.0).args[0]
    sampler = custom.KSamplerSelect.execute("euler").args[0]
    drawn, denoised = custom.SamplerCustomAdvanced.execute(custom.RandomNoise.execute(1).args[0], guider, sampler, sigmas,
                                                           latent).args
    assert [preview[1].size for preview in seen] == [(columns * 8, rows * 6)] * 2
    # The last prediction is the result, so the last preview shows the frames of the result.
    assert torch.equal(denoised["samples"], drawn["samples"])
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    frames = [previewer.decode_latent_to_preview(each[None]) for each in model.model.process_latent_in(drawn["samples"])]
    for number, frame in enumerate(frames):
        place = (number % columns * 8, number // columns * 6)
        part = seen[-1][1].crop((*place, place[0] + 8, place[1] + 6))
        assert np.abs(np.asarray(part).astype(int) - np.asarray(frame)).max() <= 1, f"frame {number}"


def test_nodes_with_the_same_file_share_its_network(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    """Adding one foreground after another takes as much memory as the first. A file that has changed is read again."""
    shared = [apply(pack, base, vae, "bg2fg", background=image(seed))[0].model_patches_models()[0] for seed in (1, 2)]
    assert shared[0] is shared[1]
    path = Path(folder_paths.get_folder_paths("layer_model")[0]) / "layer_sd15_bg2fg.safetensors"
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert apply(pack, base, vae, "bg2fg", background=image(1))[0].model_patches_models()[0] is not shared[0]
    assert apply(pack, base, vae, "joint")[0].model_patches_models()[0] is not shared[0]
    kept = weakref.ref(shared[0].model)
    del shared
    gc.collect()
    assert kept() is None, "nothing holds a network that no node uses"


@torch.inference_mode()
def test_an_interrupt_leaves_nothing_behind(pack: ModuleType, files: Any, base: Any, vae: Any, memory: str) -> None:
    if memory != "plain":
        pytest.skip("once is enough")
    model, _ = apply(pack, base, vae, "fg2bg")
    start, positive = noise(2), stacked(pack, prompts(2))
    steps: list[bool] = []
    first = draw(model, start, positive, steps=3)
    (wrapper,) = model.get_wrappers(WrappersMP.DIFFUSION_MODEL, "layerdiffuse")

    def in_second_step(*_: Any) -> None:
        steps.append(bool(wrapper.kept))
        comfy.model_management.interrupt_current_processing(len(steps) == 2)

    hook = base.model.diffusion_model.time_embed.register_forward_pre_hook(in_second_step)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        draw(model, start, positive, steps=3)
    hook.remove()
    assert steps == [True, True] and not wrapper.kept
    assert torch.equal(draw(model, start, positive, steps=3), first)
