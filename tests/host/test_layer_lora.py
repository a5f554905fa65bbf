"""Load LoRA for Layers: a LoRA acts on the rows of its layers as ComfyUI's own does on all, in every memory mode."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.cli_args
import comfy.hooks
import comfy.model_management
import comfy.samplers
import folder_paths
import pytest
import torch
from comfy_extras import nodes_custom_sampler as custom
from safetensors.torch import save_file
from torch import Tensor

import nodes as host
from layerdiff_core import checkpoint
from layerdiff_core.training.lora import Lora, lora_file
from tests import loras, models
from tests.memory_modes import eager

LAYERS, STEPS = 3, 3


@pytest.fixture(autouse=True)
def as_in_comfyui():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def lora_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    folder_paths.add_model_folder_path("loras", str(folder))
    return folder


@pytest.fixture
def write(lora_folder: Path, starter: SimpleNamespace) -> Callable[..., str]:
    """Writes a LoRA for the starter, or given tensors, and returns its name."""
    def written(name: str, tensors: dict[str, Tensor] | None = None, **settings: Any) -> str:
        tensors = tensors or loras.lora(starter.model.model.diffusion_model, **settings)
        save_file(tensors, lora_folder / f"{name}.safetensors")
        return f"{name}.safetensors"

    return written


@pytest.fixture
def load(pack: ModuleType) -> Callable[..., Any]:
    """The node."""
    node = pack.nodes.lora.LayerDiffLoadLora
    return lambda model, name, layers, strength=1.0: node.execute(model, name, layers, strength).args[0]


def everywhere(model: Any, name: str, strength: float = 1.0) -> Any:
    """ComfyUI's own LoRA loader. Without a GPU ComfyUI's dynamic patcher leaves patches of larger weights out, so this is done
    on a plain one."""
    plain = model.clone(disable_dynamic=True) if model.is_dynamic() else model
    return host.LoraLoaderModelOnly().load_lora_model_only(plain, name, strength)[0]


@pytest.fixture(scope="session")
def apart(pack: ModuleType, model_folder: Path, memory: str) -> Any:
    """A MODEL as the starter's whose layers do not see each other."""
    facts = models.architecture()
    tensors = {key: torch.zeros_like(value) if "inter_layer.to_out" in key else value
               for key, value in models.starter_tensors(pack, facts).items()}
    checkpoint.write(model_folder / "apart.safetensors", models.header(facts), tensors)
    with torch.inference_mode():
        return pack.nodes.load.LayerDiffLoadModel.execute("apart.safetensors").args[0]


def draw(model: Any, scenes: int = 1, layers: int = LAYERS, cfg: float = 3.0, steps: int = STEPS) -> Tensor:
    """Some steps of ComfyUI's sampling."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(scenes * layers, 2 * models.CHANNELS, 8, 8, generator=generator)
    context = torch.randn(layers, 77, models.CONTEXT, generator=generator)
    conds = [[context, {"layers": layers}]], [[torch.zeros(1, 77, models.CONTEXT), {"layers": layers}]]
    guider = custom.CFGGuider.execute(model, *conds, cfg).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", steps, 1.0).args[0]
    drawn = custom.SamplerCustomAdvanced.execute(models.Noise(noise), guider, comfy.samplers.sampler_object("euler"), sigmas,
                                                 {"samples": torch.zeros_like(noise)}).args[0]["samples"]
    assert torch.isfinite(drawn).all()
    return drawn


def near(found: Tensor, wanted: Tensor, memory: str) -> bool:
    """Equal within 1e-5 of the largest value; in 16 bits ComfyUI rounds the changed weights, and the sum is as good as that."""
    tolerance = 1e-5 if memory in ("plain", "dynamic") else 2e-2
    return bool((found - wanted).abs().max() < tolerance * wanted.abs().max())


@pytest.mark.parametrize("kind", ["lora", "tucker", "loha", "lokr", "lokr in parts"])
def test_on_one_layer_it_is_comfyuis_on_that_layer_and_nothing_on_the_others(apart, write, load, memory, kind) -> None:
    name = write(kind, kind=kind)
    model = apart
    plain, wanted = draw(model, 2), draw(everywhere(model, name), 2)
    assert (wanted - plain).abs().amax((1, 2, 3)).min() > 5e-2 * plain.abs().max(), "the LoRA does hardly anything"
    drawn = draw(load(model, name, "2"), 2)
    for scene in (0, LAYERS):
        assert torch.equal(drawn[scene : scene + 2], plain[scene : scene + 2])
        assert near(drawn[scene + 2], wanted[scene + 2], memory)
    assert near(draw(load(model, name, ":"), 2), wanted, memory)
    assert torch.equal(draw(model, 2), plain), "something stayed on the MODEL"


def test_each_layer_has_its_strength(apart, write, load, memory) -> None:
    name, model = write("style"), apart
    drawn = draw(load(model, name, "0=0.5, 2", -0.3))
    for layer, strength in ((0, 0.5), (1, 0.0), (2, -0.3)):
        assert near(drawn[layer], draw(everywhere(model, name, strength))[layer], memory), layer


def test_the_other_layers_see_the_changed_one(starter, write, load) -> None:
    changed = (draw(load(starter.model, write("style"), "2")) - draw(starter.model)).abs().amax((1, 2, 3))
    assert changed.min() > 1e-4 and changed[2] > changed[:2].max()


@pytest.mark.parametrize("layers, strength", [("2", 0.0), ("1=0, 2=0", 1.0), ("1=0, 2=0, :=0", 1.0)])
def test_strength_0_is_none_to_the_bit(starter, write, load, layers, strength) -> None:
    assert torch.equal(draw(load(starter.model, write("style"), layers, strength)), draw(starter.model))


def test_several_in_a_row_and_on_one_layer(apart, write, load, memory) -> None:
    names, model = [write(f"style {seed}", seed=seed) for seed in (1, 2, 3)], apart
    stacked = load(load(load(model, names[0], "1"), names[1], "1=0.5"), names[2], "2")
    both = draw(everywhere(everywhere(model, names[0]), names[1], 0.5))
    drawn = draw(stacked)
    assert torch.equal(drawn[0], draw(model)[0])
    assert near(drawn[1], both[1], memory) and near(drawn[2], draw(everywhere(model, names[2]))[2], memory)


def test_copies_of_a_model_are_apart(starter, write, load) -> None:
    """MODELs that share a UNet, used in turn, each as if it were alone."""
    first, second = write("first", seed=1), write("second", seed=2)
    one, other = load(starter.model, first, "1"), load(starter.model, second, "1")
    sides = (starter.model, one, other, load(one, second, "2"))
    wanted = [draw(side) for side in sides]
    assert all((a - b).abs().max() > 1e-2 for number, a in enumerate(wanted) for b in wanted[:number])
    for _ in range(2):
        for side, before in zip(sides, wanted):
            assert torch.equal(draw(side), before)
    comfy.model_management.unload_all_models()
    assert torch.equal(draw(one), wanted[1])


def test_over_and_under_comfyuis_own_lora(apart, write, load, memory) -> None:
    first, second, model = write("first", seed=1), write("second", seed=2), apart
    wanted = draw(everywhere(everywhere(model, first), second))
    for mixed in (load(everywhere(model, first), second, "2"), everywhere(load(model, second, "2"), first)):
        drawn = draw(mixed)
        assert near(drawn[2], wanted[2], memory) and near(drawn[:2], draw(everywhere(model, first))[:2], memory)


def test_beside_comfyuis_bypass_lora(apart, write, load, memory) -> None:
    from comfy_extras.nodes_lora_debug import LoraLoaderBypassModelOnly

    first, second, model = write("first", seed=1), write("second", seed=2), apart
    plain, wanted = draw(model), draw(everywhere(everywhere(model, first), second))
    for mixed in (load(bypass(LoraLoaderBypassModelOnly, model, first), second, "2"),
                  bypass(LoraLoaderBypassModelOnly, load(model, second, "2"), first)):
        for _ in range(2):
            assert near(draw(mixed)[2], wanted[2], memory)
    assert torch.equal(draw(model), plain)


def bypass(node: Any, model: Any, name: str) -> Any:
    return node().load_lora_model_only(model, name, 1.0)[0]


def test_a_lora_hook_beside_it(apart, write, load, memory) -> None:
    """A hook changes weights for one prompt, the layers' LoRA adds to what they give."""
    if memory == "dynamic":
        pytest.skip("without a GPU ComfyUI's dynamic patcher leaves hooks of larger weights out")
    unet = apart.model.diffusion_model
    hooks = comfy.hooks.create_hook_lora(lora=loras.lora(unet, seed=1), strength_model=1.0, strength_clip=0.0)
    first, second, model = write("first", seed=1), write("second", seed=2), apart
    wanted = hooked(everywhere(everywhere(model, first), second), None)
    drawn = hooked(load(model, second, "2"), hooks)
    assert near(drawn[2], wanted[2], memory)


def hooked(model: Any, hooks: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(LAYERS, 2 * models.CHANNELS, 8, 8, generator=generator)
    conds = [[torch.randn(LAYERS, 77, models.CONTEXT, generator=generator), {"layers": LAYERS}]]
    if hooks is not None:
        conds = comfy.hooks.set_hooks_for_conditioning(conds, hooks)
    guider = custom.BasicGuider.execute(model, conds).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", STEPS, 1.0).args[0]
    return custom.SamplerCustomAdvanced.execute(models.Noise(noise), guider, comfy.samplers.sampler_object("euler"), sigmas,
                                                {"samples": torch.zeros_like(noise)}).args[0]["samples"]


@pytest.mark.parametrize("first", ["compiled", "loaded"])
def test_torch_compile(starter, write, load, first, memory) -> None:
    if memory != {"compiled": "plain", "loaded": "dynamic"}[first]:
        pytest.skip("Each order in one mode: compiling takes half a minute.")
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    def compiled(model: Any) -> Any:
        return TorchCompileModel.execute(model, "eager").args[0]

    name = write("style", ends=("attn1.to_q", "in_layers.2"))
    torch._dynamo.reset()
    plain, wanted = draw(starter.model, steps=2), draw(load(starter.model, name, "2"), steps=2)
    bare = compiled(starter.model)
    assert (draw(bare, steps=2) - plain).abs().max() < 1e-5 * plain.abs().max()
    model = load(bare, name, "2") if first == "compiled" else compiled(load(starter.model, name, "2"))
    for _ in range(2):
        assert (draw(model, steps=2) - wanted).abs().max() < 1e-5 * wanted.abs().max()
        assert (draw(bare, steps=2) - plain).abs().max() < 1e-5 * plain.abs().max()
    torch._dynamo.reset()


def test_an_interrupt_leaves_nothing_behind(starter, write, load) -> None:
    model, plain = load(starter.model, write("style"), "2"), draw(starter.model)
    wanted, calls = draw(model), []
    before = forwards(starter.model)

    def stop(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise comfy.model_management.InterruptProcessingException
        return q, k, v

    stopped = model.clone()
    stopped.set_model_attn2_patch(stop)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        draw(stopped)
    assert forwards(starter.model) == before
    assert torch.equal(draw(starter.model), plain) and torch.equal(draw(model), wanted)


def forwards(model: Any) -> dict[str, Any]:
    """The forward methods that a UNet's modules have of their own."""
    return {name: vars(module).get("forward") for name, module in model.model.diffusion_model.named_modules()}


def test_on_another_gpu_and_without_dynamic_vram(starter, write, load) -> None:
    model = load(starter.model, write("style"), "2")
    wanted = draw(model)
    again = model.deepclone_multigpu(torch.device("cpu"))
    assert again.model is not model.model and torch.equal(draw(again), wanted)
    if model.is_dynamic():
        assert torch.equal(draw(model.clone(disable_dynamic=True)), wanted)


def test_a_model_that_does_not_fit_into_the_gpu(starter, write, load) -> None:
    """Low VRAM: a part of the weights stays where it is and is cast layer by layer."""
    model = load(starter.model, write("style"), "2")
    if model.is_dynamic():
        pytest.skip("DynamicVRAM always works like that")
    wanted = draw(model)
    comfy.model_management.unload_all_models()
    model.patch_model(device_to=model.load_device, lowvram_model_memory=model.model_size() // 3)
    assert model.model.model_lowvram
    lowered = draw(model)
    model.unpatch_model(model.offload_device)
    assert (lowered - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_the_copies_on_the_gpu_go_with_the_sampling(starter, write, load, memory) -> None:
    model = load(starter.model, write("style"), "2")
    held = model.callbacks["on_cleanup"]["layerdiff_lora"][0].__self__
    copies = lambda: [len(module.terms.ready) for modules in held.wrapped.values() for module in modules.values()]  # noqa: E731
    seen: list[int] = []
    watched = model.clone()
    watched.set_model_sampler_post_cfg_function(
        lambda args: (seen.append(sum(copies())), args["denoised"])[1])
    draw(watched)
    assert min(seen) > 0
    assert copies() and not any(copies())


class TestWhatIsRefused:
    def test_a_model_without_layers(self, starter, write, load) -> None:
        with pytest.raises(ValueError, match="MODEL is BaseModel, not a layered one"):
            load(models.sd15(32, 96), write("style"), "1")

    def test_layers_that_are_none(self, starter, write, load) -> None:
        with pytest.raises(ValueError, match="'fox' is not a layer"):
            load(starter.model, write("style"), "fox")
        with pytest.raises(ValueError, match="'5=0.5' refers to a layer that does not exist. There are 3 layers per scene"):
            draw(load(starter.model, write("style"), "0, 5=0.5"))

    @pytest.mark.parametrize("strength", [float("nan"), 101.0])
    def test_strengths_that_are_none(self, starter, write, load, strength) -> None:
        with pytest.raises(ValueError, match="strength is .* must be between"):
            load(starter.model, write("style"), "1", strength)

    def test_a_file_that_went_and_one_that_is_damaged(self, starter, load, lora_folder) -> None:
        with pytest.raises(ValueError, match="no LoRA called 'gone.safetensors'"):
            load(starter.model, "gone.safetensors", "1")
        (lora_folder / "torn.safetensors").write_bytes(b"\xff" * 100)
        with pytest.raises(ValueError, match="torn.safetensors cannot be read"):
            load(starter.model, "torn.safetensors", "1")

    def test_a_file_for_another_model(self, starter, write, load) -> None:
        with pytest.raises(ValueError, match="No weight in other.safetensors fits this MODEL.*lora_unet_double_blocks"):
            load(starter.model, write("other", {"lora_unet_double_blocks_0.lora_up.weight": torch.zeros(4, 2)}), "1")
        wide = {key: torch.cat([part] * 2, dim=-1 if "down" in key else 0) if "alpha" not in key else part
                for key, part in loras.lora(starter.model.model.diffusion_model, ends=("attn1.to_q",)).items()}
        with pytest.raises(ValueError, match=r"does not fit this MODEL: .*attn1.to_q takes 64 channels and gives 64"):
            load(starter.model, write("wide", wide), "1")

    @pytest.mark.parametrize("part, shape, words", [
        ("dora_scale", (64, 1), "DoRA"), ("diff", (64, 64), "differences of whole weights"),
        ("diff_b", (64,), "differences of whole weights"), ("set_weight", (64, 64), "replaced weights"),
        ("reshape_weight", (2,), "weights of another shape"), ("oft_blocks", (4, 16, 16), "oft"),
    ])
    def test_kinds_that_have_no_rows(self, starter, write, load, part, shape, words) -> None:
        tensors = loras.lora(starter.model.model.diffusion_model, ends=("attn1.to_q",))
        key = next(iter(tensors)).partition(".")[0]
        if part == "oft_blocks":
            tensors = {}
        with pytest.raises(ValueError, match=f"odd.safetensors holds {words}.*Load LoRA"):
            load(starter.model, write("odd", tensors | {f"{key}.{part}": torch.ones(shape)}), "1")

    def test_changes_of_what_layers_see_of_each_other(self, starter, write, load) -> None:
        unet = starter.model.model.diffusion_model
        name = next(name for name, _ in unet.named_modules() if name.endswith("inter_layer.to_qkv"))
        out, inputs = unet.get_submodule(name).weight.shape
        key = "lora_unet_" + name.replace(".", "_")
        with pytest.raises(ValueError, match="changes of the attention between layers"):
            load(starter.model, write("odd", {f"{key}.lora_up.weight": torch.ones(out, 2),
                                              f"{key}.lora_down.weight": torch.ones(2, inputs)}), "1")


class TestWhatIsSaid:
    TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight"

    def test_of_the_text_encoder_and_of_what_fits_nothing(self, pack, starter, write, caplog) -> None:
        tensors = loras.lora(starter.model.model.diffusion_model)
        name = write("both", tensors | {self.TEXT: torch.zeros(4, 2), "lora_unet_nowhere.lora_up.weight": torch.zeros(4, 2)})
        said = pack.nodes.lora.LayerDiffLoadLora.execute(starter.model, name, "1", 1.0).ui["warnings"][0]
        assert "also changes the text encoder" in said[0] and "Load LoRA (Model and CLIP) with strength_model 0" in said[0]
        assert "1 of the tensors in both.safetensors fit nothing" in said[1] and "lora_unet_nowhere" in said[1]
        assert "also changes the text encoder" in caplog.text

    def test_nothing_of_a_file_that_fits(self, pack, starter, write) -> None:
        assert pack.nodes.lora.LayerDiffLoadLora.execute(starter.model, write("style"), "1", 1.0).ui["warnings"] == [[]]

    def test_of_a_file_for_the_text_encoder_alone(self, starter, write, load) -> None:
        with pytest.raises(ValueError, match="text encoder alone.*Load LoRA .Model and CLIP."):
            load(starter.model, write("text", {self.TEXT: torch.zeros(4, 2)}), "1")


def test_the_packs_own_files_come_after_the_users(pack, lora_folder) -> None:
    """Another file of the same name is the user's, which stays in use."""
    extras = pack.nodes.host.folders.EXTRAS
    for key, file in (("controlnet", "layerdiff_box_control.safetensors"), ("loras", "layerdiff_flat_lora.safetensors")):
        assert file in folder_paths.get_filename_list(key)
        users, ours = folder_paths.get_folder_paths(key)[0], str(extras / key)
        assert users != ours and folder_paths.get_full_path(key, file) == str(extras / key / file)
    assert not {path.name for path in extras.rglob("*.safetensors")} & {Path(name).name for name in
                                                                         pack.nodes.host.folders.model_names()}
    assert "layerdiff_flat_lora.safetensors" in pack.nodes.host.lora_files.lora_names()


def test_a_lora_trained_here_acts_as_it_did_in_training(starter, write, load, memory) -> None:
    unet = starter.model.model.diffusion_model
    with torch.random.fork_rng(), torch.inference_mode(False), eager():
        torch.manual_seed(3)
        trained = Lora(unet, 2).requires_grad_(False)
        for weights in trained.parameters():
            weights.copy_(torch.randn_like(weights) * 0.2).copy_(weights.half())
    model = load(starter.model, write("trained", lora_file(trained.state_dict())), "2")
    drawn = draw(model, steps=1, cfg=1.0)
    with trained.on_rows(torch.arange(LAYERS) == 2):
        wanted = draw(starter.model, steps=1, cfg=1.0)
    assert near(drawn, wanted, memory) and not near(drawn, draw(starter.model, steps=1, cfg=1.0), memory)


def test_a_base_in_8_bits(pack, apart, write, load, memory, monkeypatch) -> None:
    if memory != "plain":
        pytest.skip("a type of weights of its own")
    load_model, name = pack.nodes.load.LayerDiffLoadModel.execute, write("style")
    with monkeypatch.context() as patch:
        patch.setattr(comfy.cli_args.args, "fp8_e4m3fn_unet", True)
        rounded = load_model("apart.safetensors").args[0]
    weights = rounded.model.diffusion_model.state_dict()
    assert weights["input_blocks.1.0.in_layers.2.weight"].dtype == torch.float8_e4m3fn
    reference = load_model("apart.safetensors").args[0]
    reference.model.diffusion_model.load_state_dict({key: value.float() for key, value in weights.items()})
    plain, drawn = draw(rounded), draw(load(rounded, name, "2"))
    assert torch.equal(drawn[:2], plain[:2])
    assert near(drawn[2], draw(everywhere(reference, name))[2], memory)
    assert not near(drawn[2], draw(everywhere(apart, name))[2], memory), "nothing was rounded"
