"""Anything applied to a MODEL before Apply LayerDiff Adapter still works after it, in every memory mode."""

import copy
import gc
import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.ops
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import CallbacksMP, PatcherInjection, WrappersMP
from comfy_extras import nodes_custom_sampler as custom
from torch import Tensor

from tests import models

WIDTH, CONTEXT, LAYERS = 32, 64, 2


@pytest.fixture(autouse=True)
def as_in_comfyui():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def base(memory: str) -> Any:
    return models.sd15(WIDTH, CONTEXT, mode=memory)


@pytest.fixture(scope="module")
def fresh(pack: ModuleType, base: Any, model_folder: Path, memory: str) -> str:
    return pack.nodes.train.LayerDiffCreateAdapter.execute(base, f"keeps_{memory}", 3).args[0]


@pytest.fixture
def adapted(pack: ModuleType, fresh: str) -> Any:
    """Puts a fresh adapter on a MODEL: it leaves the images as they are."""
    return lambda model: pack.nodes.load.LayerDiffApplyAdapter.execute(model, fresh).args[0]


def draw(model: Any, layered: bool, hooks: Any = None, steps: int = 4) -> Tensor:
    """Some steps; of a layered MODEL the image channels."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(LAYERS, 8, 8, 8, generator=generator)
    context = torch.randn(LAYERS, 77, CONTEXT, generator=generator)
    options = {"layers": LAYERS} if layered else {}
    conds = [[context, options]], [[torch.zeros(1, 77, CONTEXT), options]]
    if hooks is not None:
        conds = tuple(comfy.hooks.set_hooks_for_conditioning(cond, hooks) for cond in conds)
    guider = custom.CFGGuider.execute(model, *conds, 3.0).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", steps, 1.0).args[0]
    latent = noise if layered else noise[:, :4]
    drawn = custom.SamplerCustomAdvanced.execute(models.Noise(latent), guider, comfy.samplers.sampler_object("euler"), sigmas,
                                                 {"samples": torch.zeros_like(latent)}).args[0]["samples"]
    return drawn[:, :4]


def node(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"comfy_extras.nodes_{module}"), name)


class Pusher:
    """A pack that patches with a bound method and stores what it was called with."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def push(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        self.seen.append(len(q))
        return 1.5 * q, k, v

    def patched(self, model: Any) -> Any:
        changed = model.clone()
        changed.set_model_attn1_patch(self.push)
        return changed


def sampling(model: Any, **changes: Any) -> Any:
    return node("model_advanced", "ModelSamplingDiscrete")().patch(model, **({"zsnr": False} | changes))[0]


def free_u(model: Any) -> Any:
    return node("freelunch", "FreeU").execute(model, 1.3, 1.4, 0.5, 0.2).args[0]


def weight_wrapper(model: Any) -> Any:
    changed = model.clone()
    changed.add_weight_wrapper("diffusion_model.middle_block.1.proj_in.weight", lambda weight: 2 * weight)
    return changed


def apply_wrapper(model: Any) -> Any:
    changed = model.clone()
    changed.add_wrapper(WrappersMP.APPLY_MODEL, lambda executor, *args, **kwargs: 1.1 * executor(*args, **kwargs))
    return changed


PATCHES = {"v-prediction": lambda model: sampling(model, sampling="v_prediction"),
           "zsnr": lambda model: sampling(model, sampling="eps", zsnr=True),
           "lcm": lambda model: sampling(model, sampling="lcm"), "FreeU": free_u,
           "a bound method": lambda model: Pusher().patched(model), "a weight wrapper": weight_wrapper,
           "an apply wrapper": apply_wrapper}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_it_acts_behind_the_adapter_as_before_it(base: Any, adapted: Any, patch: Any, memory: str) -> None:
    if patch is weight_wrapper and memory == "dynamic":
        pytest.skip("without a GPU ComfyUI's dynamic patcher does not call weight wrappers")
    # A base of its own: with DynamicVRAM ComfyUI 0.30 itself mixes up the sigmas of a model that is used with and without a
    # node such as ModelSamplingDiscrete.
    plain, wanted = draw(base, False), draw(patch(models.sd15(WIDTH, CONTEXT, mode=memory)), False)
    assert (wanted - plain).abs().max() > 2e-4 * plain.abs().max(), "the patch does nothing"
    assert (draw(adapted(patch(base)), True) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert (draw(base, False) - plain).abs().max() < 1e-6 * plain.abs().max(), "it stayed on the base"


def test_a_bound_method_stays_the_packs_own(base: Any, adapted: Any) -> None:
    pusher = Pusher()
    draw(adapted(pusher.patched(base)), True)
    assert pusher.seen, "the patch was copied into a second object"


def test_a_lora_hook(base: Any, adapted: Any) -> None:
    hooks = comfy.hooks.create_hook_lora(lora=models.lora_for(base.model.diffusion_model), strength_model=1.0, strength_clip=0.0)
    plain, wanted = draw(base, False), draw(base, False, hooks)
    assert (wanted - plain).abs().max() > 1e-2 * plain.abs().max()
    assert (draw(adapted(base), True, hooks) - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("first", ["compiled", "adapted"])
def test_torch_compile(base: Any, adapted: Any, first: str) -> None:
    def compiled(model: Any) -> Any:
        return node("torch_compile", "TorchCompileModel").execute(model, "eager").args[0]

    model = adapted(compiled(base)) if first == "compiled" else compiled(adapted(base))
    wanted = draw(base, False)
    assert model.wrappers[WrappersMP.APPLY_MODEL], "it is no longer compiled"
    assert (draw(model, True) - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_attachments_callbacks_and_additional_models(base: Any, adapted: Any) -> None:
    changed, calls = base.clone(), []
    changed.set_attachments("note", "kept")
    changed.set_additional_models("beside", [models.sd15(32, CONTEXT)])
    changed.add_callback(CallbacksMP.ON_PRE_RUN, lambda patcher: calls.append(patcher))
    changed.set_injections("kept", [PatcherInjection(lambda patcher: calls.append("in"), lambda patcher: calls.append("out"))])
    model = adapted(changed)
    draw(model, True)
    assert model.get_attachment("note") == "kept" and len(model.get_additional_models_with_key("beside")) == 1
    assert model in calls and "in" in calls


def test_two_layered_models_of_one_base(base: Any, adapted: Any) -> None:
    one, other = adapted(base), adapted(sampling(base, sampling="v_prediction"))
    assert one.clone_base_uuid != other.clone_base_uuid != base.clone_base_uuid
    first = draw(one, True)
    assert (draw(other, True) - first).abs().max() > 1e-3 and torch.equal(draw(one, True), first)


def test_what_cannot_go_along_is_refused(base: Any, adapted: Any) -> None:
    swapped = base.clone()
    swapped.add_object_patch("diffusion_model.time_embed", torch.nn.Identity())
    with pytest.raises(ValueError, match="diffusion_model.time_embed.*Move that node after Apply LayerDiff Adapter"):
        adapted(swapped)
    spread = base.clone()
    spread.set_additional_models("multigpu", [base.deepclone_multigpu(torch.device("cpu"))])
    with pytest.raises(ValueError, match="Move MultiGPU CFG Split after"):
        adapted(spread)


def test_it_can_be_made_again(base: Any, adapted: Any) -> None:
    """For another GPU, and without DynamicVRAM: the same model, adapter included, with weights of its own."""
    model = adapted(sampling(base, sampling="v_prediction"))
    for again in (model.deepclone_multigpu(torch.device("cpu")), remade(model)):
        assert again.model is not model.model and type(again.model) is type(model.model)
        assert torch.equal(draw(again, True), draw(model, True))


def remade(model: Any) -> Any:
    """Without DynamicVRAM, as Torch Compile asks for it; a plain patcher needs no other one and is made by the factory."""
    if model.is_dynamic():
        return model.clone(disable_dynamic=True)
    factory, arguments = model.cached_patcher_init
    return model.clone(model_override=factory(*arguments, disable_dynamic=True).get_clone_model_override())


def test_a_base_that_nobody_can_make_again(base: Any, adapted: Any) -> None:
    lonely = base.clone()
    lonely.cached_patcher_init = None
    assert adapted(lonely).cached_patcher_init is None


def test_the_file_does_not_depend_on_the_memory_mode(pack: ModuleType, base: Any, fresh: str, model_folder: Path) -> None:
    from safetensors.torch import load_file

    made = load_file(model_folder / fresh)
    with torch.inference_mode(False), pytest.MonkeyPatch.context() as patch:
        patch.setattr("comfy.memory_management.aimdo_enabled", False)
        _, wanted = pack.nodes.host.adapters.new_adapter(models.sd15(WIDTH, CONTEXT), 3)
    assert made.keys() == wanted.keys() and all(torch.equal(made[key], wanted[key]) for key in made)
    block = "unet.middle_block.1.transformer_blocks.0.inter_layer"
    shapes = [tuple(made[f"{block}.{name}.weight"].shape) for name in ("index", "to_qkv")]
    assert shapes == [(4 * WIDTH, 32), (6 * WIDTH, 4 * WIDTH)]


def memory_now() -> int:
    """Resident memory of this process in bytes."""
    gc.collect()
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is read as Linux tells it")
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_base_and_layered_model_in_turn(adapted: Any, base: Any) -> None:
    plain, layered = draw(base, False, steps=1), adapted(base)
    drawn, start = draw(layered, True, steps=1), memory_now()
    for _ in range(19):
        assert torch.equal(draw(base, False, steps=1), plain) and torch.equal(draw(layered, True, steps=1), drawn)
    assert memory_now() < 1.05 * start
    # Applied again, the one before goes; at times two are there at once.
    once = [memory_now() for layered in (adapted(base) for _ in range(6)) if torch.equal(draw(layered, True, steps=1), drawn)]
    assert len(once) == 6 and max(once[2:]) < 1.05 * max(once[:2])
    comfy.model_management.unload_all_models()
    assert torch.equal(draw(layered, True, steps=1), drawn) and torch.equal(draw(base, False, steps=1), plain)


FP8 = {"fp8": None, "fp8 fast": comfy.ops.fp8_ops}


@pytest.mark.parametrize("kind", FP8)
def test_a_base_in_8_bits(pack: ModuleType, model_folder: Path, fresh: str, kind: str) -> None:
    """As Load Diffusion Model makes it with weight_dtype fp8_e4m3fn."""
    base = models.sd15(WIDTH, CONTEXT, mode="float8_e4m3fn", operations=FP8[kind])
    layered = pack.nodes.load.LayerDiffApplyAdapter.execute(base, fresh).args[0]
    wanted = draw(base, False)
    assert wanted.std() > 0.1 and (draw(layered, True) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    block = layered.model.diffusion_model.middle_block[1].transformer_blocks[0]
    assert block.attn1.to_q.weight.dtype == torch.float8_e4m3fn and block.inter_layer.to_qkv.weight.dtype == torch.float16
    _, tensors = pack.nodes.host.adapters.new_adapter(base, 0)
    assert all(tensor.dtype == torch.float16 and torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("family", ["SDXL", "Flux"])
def test_create_adapter_on_another_family(pack: ModuleType, family: str) -> None:
    import comfy.supported_models

    config = getattr(comfy.supported_models, family)({"in_channels": 4})
    other = SimpleNamespace(model=SimpleNamespace(model_config=config, latent_format=config.latent_format),
                            object_patches={}, get_additional_models_with_key=lambda key: [])
    with pytest.raises(ValueError, match=f"ordinary SD 1.5 MODEL.*{family}"):
        pack.nodes.train.LayerDiffCreateAdapter.execute(other, "never", 0)


def test_copies_of_a_control(pack: ModuleType) -> None:
    from comfy.controlnet import ControlBase

    control = pack.nodes.host.control.PictureControl
    inner = models.control_net(models.architecture()["unet"], models.CHANNELS).copy().set_cond_hint(torch.rand(1, 3, 64, 64), 0.7)
    inner.set_previous_controlnet(models.control_net(models.architecture()["unet"], models.CHANNELS, seed=1).copy())
    shown = control(inner, models.CHANNELS, 3)
    assert isinstance(shown, ControlBase) and shown.previous_controlnet is None
    assert copy.copy(shown).control is inner
    assert len(shown.get_models()) == len(inner.get_models()) == 2
    twin = shown.copy()
    assert twin.control is not inner and twin.control.strength == 0.7 and twin.control.previous_controlnet is not None
    device = torch.device("cpu")
    shown.deepclone_multigpu(device, autoregister=True)
    there = shown.get_instance_for_device(device)
    assert isinstance(there, control) and there is not shown and there.channels == models.CHANNELS
    assert there.control.control_model is not inner.control_model and there.control.previous_controlnet is not None
    assert not inner.multigpu_clones, "sampling on that GPU would go round the stand-in"
    assert len(shown.get_models()) == 4
