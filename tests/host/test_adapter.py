"""An SD 1.5 MODEL and an adapter: a new one changes nothing, training it has an effect, and invalid ones are rejected."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.samplers
import folder_paths
import pytest
import torch
from comfy_extras import nodes_custom_sampler as custom
from safetensors.torch import load_file, save_file
from torch import Tensor

import nodes as host
from layerdiff_core import checkpoint
from tests import models

WIDTH, CONTEXT = 64, 96
TRUE_WIDTH, TRUE_CONTEXT = 320, 768


@pytest.fixture(scope="module")
def base(memory: str) -> Any:
    """The structure of SD 1.5 at a fifth of its width, with random weights."""
    return models.sd15(WIDTH, CONTEXT, mode=memory)


@pytest.fixture(scope="module")
def fresh(pack: ModuleType, base: Any, model_folder: Path, memory: str) -> str:
    """The file name of a fresh adapter for it."""
    return pack.nodes.train.LayerDiffCreateAdapter.execute(base, f"fresh_{memory}", 3).args[0]


@pytest.fixture
def layered(pack: ModuleType, base: Any, fresh: str) -> Any:
    return pack.nodes.load.LayerDiffApplyAdapter.execute(base, fresh).args[0]


def predict(model: Any, x: Tensor, context: Tensor, layers: int | None = None) -> Tensor:
    """A MODEL's prediction of x0 at an early step, its patches not applied."""
    sigma = torch.full((len(x),), 3.0)
    options = {} if layers is None else {"layers": layers}
    return model.model.apply_model(x, sigma, c_crossattn=context, transformer_options={}, **options)


def inputs(layers: int, context: int, side: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (3 * torch.randn(layers, 8, side, side, generator=generator),
            torch.randn(layers, 77, context, generator=generator))


def draw(model: Any, noise: Tensor, context: Tensor, **options: Any) -> Tensor:
    """Three steps of ComfyUI's sampler: patches are applied as ComfyUI does it."""
    guider = custom.CFGGuider.execute(model, [[context, options]], [[torch.zeros(1, 77, CONTEXT), options]], 2.0).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", 3, 1.0).args[0]
    with torch.inference_mode():
        return custom.SamplerCustomAdvanced.execute(models.Noise(noise), guider, comfy.samplers.sampler_object("euler"), sigmas,
                                                    {"samples": torch.zeros_like(noise)}).args[0]["samples"]


@pytest.mark.parametrize("layers", [1, 3])
def test_a_fresh_one_predicts_as_the_host(base: Any, layered: Any, layers: int) -> None:
    x, context = inputs(layers, CONTEXT)
    with torch.inference_mode():
        alone, together = predict(base, x[:, :4], context), predict(layered, x, context, layers)
        assert together.shape == (layers, 8, 8, 8)
        assert alone.std() > 0.1
        assert (alone - together[:, :4]).abs().max() < 1e-4
        assert (alone - predict(base, x[:, :4], context + 0.1)).abs().max() > 1e-4, "the comparison sees nothing"


def test_at_the_true_size_of_sd15(pack: ModuleType, model_folder: Path) -> None:
    """860 million random weights: about 4 GB of memory for some seconds."""
    large = models.sd15(TRUE_WIDTH, TRUE_CONTEXT)
    name = pack.nodes.train.LayerDiffCreateAdapter.execute(large, "true_size", 0).args[0]
    layered = pack.nodes.load.LayerDiffApplyAdapter.execute(large, name).args[0]
    (model_folder / name).unlink()
    assert sum(weight.numel() for weight in large.model.diffusion_model.parameters()) == 859_520_964
    with torch.inference_mode():
        for layers in (1, 3):
            x, context = inputs(layers, TRUE_CONTEXT)
            alone, together = predict(large, x[:, :4], context), predict(layered, x, context, layers)
            assert alone.std() > 0.1
            assert (alone - together[:, :4]).abs().max() < 1e-4


@pytest.mark.parametrize("layers", [1, 3])
def test_the_host_draws_the_same_pictures(base: Any, layered: Any, layers: int) -> None:
    noise, context = inputs(layers, CONTEXT)
    alone, together = draw(base, noise[:, :4], context), draw(layered, noise, context, layers=layers)
    assert (alone - together[:, :4]).abs().max() < 1e-4 * alone.abs().max()


def influence(model: Any, layers: int = 3) -> list[float]:
    """How much each layer's prediction changes with the last layer's input."""
    x, context = inputs(layers, CONTEXT)
    changed = x.clone()
    changed[-1] += torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        moved = predict(model, changed, context, layers) - predict(model, x, context, layers)
    return moved.abs().amax((1, 2, 3)).tolist()


def test_layers_are_independent_until_a_training_step(layered: Any) -> None:
    before = influence(layered)
    assert before[0] == before[1] == 0 and before[2] > 1e-2

    inter_layer = [weight for name, weight in layered.model.diffusion_model.named_parameters() if ".inter_layer." in name]
    for weight in inter_layer:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(inter_layer, lr=1e-2, eps=1e-4)  # the usual 1e-8 is 0 in float16
    x, context = inputs(3, CONTEXT)
    loss = (predict(layered, x, context, 3) - torch.randn(3, 8, 8, 8)).square().mean()
    loss.backward()
    optimizer.step()
    after = influence(layered)
    assert min(after) > 1e-3


def test_the_base_is_left_as_it_was(base: Any, layered: Any) -> None:
    x, context = inputs(1, CONTEXT)
    with torch.inference_mode():
        before = predict(base, x[:, :4], context)
        draw(layered, x, context, layers=1)
        assert torch.equal(before, predict(base, x[:, :4], context))
    theirs, ours = base.model.diffusion_model.state_dict(), layered.model.diffusion_model.state_dict()
    key = "middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    # DynamicVRAM leaves weights where they are; otherwise ComfyUI moves them, and shared ones would hold the GPU's memory.
    assert (theirs[key].data_ptr() == ours[key].data_ptr()) == base.is_dynamic()
    assert base.wrappers == {} and not base.patches


@pytest.fixture
def with_lora(base: Any, tmp_path: Path) -> Any:
    save_file(models.lora_for(base.model.diffusion_model), tmp_path / "style_sd15.safetensors")
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    return host.LoraLoaderModelOnly().load_lora_model_only(base, "style_sd15.safetensors", 0.8)[0]


def test_a_lora_before_or_after_the_adapter_counts_alike(pack, base, fresh, layered, with_lora) -> None:
    apply = pack.nodes.load.LayerDiffApplyAdapter.execute
    noise, context = inputs(2, CONTEXT)
    plain, wanted = draw(base, noise[:, :4], context), draw(with_lora, noise[:, :4], context)
    assert (plain - wanted).abs().max() > 1e-2
    before = draw(apply(with_lora, fresh).args[0], noise, context, layers=2)
    after = draw(host.LoraLoaderModelOnly().load_lora_model_only(layered, "style_sd15.safetensors", 0.8)[0], noise, context,
                 layers=2)
    for drawn in (before, after):
        assert (drawn[:, :4] - wanted).abs().max() < 1e-4 * wanted.abs().max()
    again = draw(base, noise[:, :4], context)
    assert (again - plain).abs().max() < 1e-6, "the LoRA stayed in the shared weights"


def test_a_low_rank_change_in_the_adapter(pack, base, fresh, model_folder, with_lora) -> None:
    header = checkpoint.read_header(model_folder / fresh)
    parts = checkpoint.read_tensors(model_folder / fresh, header)
    tensors = {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
    tensors |= {f"lora.{key}": value for key, value in models.lora_for(base.model.diffusion_model).items()}
    checkpoint.write(model_folder / "low_rank.safetensors", header, tensors)
    noise, context = inputs(2, CONTEXT)
    drawn = draw(pack.nodes.load.LayerDiffApplyAdapter.execute(base, "low_rank.safetensors").args[0], noise, context, layers=2)
    wanted = draw(host.LoraLoaderModelOnly().load_lora_model_only(base, "style_sd15.safetensors", 1.0)[0], noise[:, :4], context)
    assert (drawn[:, :4] - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_options_of_the_model_go_along(pack, base, fresh) -> None:
    seen = []
    hooked = base.clone()
    hooked.set_model_attn1_patch(lambda q, k, v, options: (seen.append(len(q)), (q, k, v))[1])
    noise, context = inputs(2, CONTEXT)
    draw(pack.nodes.load.LayerDiffApplyAdapter.execute(hooked, fresh).args[0], noise, context, layers=2)
    assert seen


def test_the_enhancer_of_a_fresh_one_changes_nothing(pack, base, fresh) -> None:
    enhancer = pack.nodes.load.LayerDiffApplyAdapter.execute(base, fresh).args[1]
    tokens = torch.randn(2, 77, CONTEXT)
    assert torch.equal(enhancer(tokens, torch.randn(1, 77, CONTEXT)), tokens)


class TestCreate:
    def test_the_same_seed_gives_the_same_file(self, pack, base, fresh, model_folder, request) -> None:
        create = pack.nodes.train.LayerDiffCreateAdapter.execute
        torch.manual_seed(5)
        state = torch.random.get_rng_state()
        same, other = (create(base, name, seed).args[0] for name, seed in (("same", 3), ("other", 4)))
        request.addfinalizer(lambda: [(model_folder / name).unlink() for name in (same, other)])
        assert torch.equal(state, torch.random.get_rng_state()), "the host's random numbers are disturbed"
        first, again, third = (load_file(model_folder / name) for name in (fresh, same, other))
        assert first.keys() == again.keys() and all(torch.equal(first[key], again[key]) for key in first)
        assert any(not torch.equal(first[key], third[key]) for key in first)
        assert all(torch.isfinite(tensor).all() for tensor in first.values())
        header = checkpoint.read_header(model_folder / same, "layerdiff", "adapter")
        assert header.layers == 0 and header.licence

    def test_an_existing_file_stays(self, pack, base, fresh, model_folder) -> None:
        before = (model_folder / fresh).read_bytes()
        with pytest.raises(ValueError, match=f"{fresh} already exists"):
            pack.nodes.train.LayerDiffCreateAdapter.execute(base, fresh, 9)
        assert (model_folder / fresh).read_bytes() == before

    @pytest.mark.parametrize("name", [
        "", " ", ".", "..", ".safetensors", "../x", "/etc/x", "a/../../x", "a\0b", "a\\b", "c:x", "x" * 300,
    ])
    def test_names_that_leave_the_folder(self, pack, base, model_folder, name) -> None:
        before = sorted(model_folder.parent.rglob("*"))
        with pytest.raises(ValueError, match="not a valid file name"):
            pack.nodes.train.LayerDiffCreateAdapter.execute(base, name, 0)
        assert sorted(model_folder.parent.rglob("*")) == before

    @pytest.mark.parametrize("name", ["my.adapter", "v1.5", "ünïcode name"])
    def test_names_with_dots(self, pack, base, model_folder, name) -> None:
        assert pack.nodes.train.LayerDiffCreateAdapter.execute(base, name, 0).args[0] == f"{name}.safetensors"
        (model_folder / f"{name}.safetensors").unlink()


class TestRefused:
    def apply(self, pack: ModuleType, base: Any, name: str) -> None:
        pack.nodes.load.LayerDiffApplyAdapter.execute(base, name)

    def changed(self, model_folder: Path, fresh: str, header: dict[str, Any], change: Any = lambda tensors: None) -> str:
        """Write a changed copy of the new adapter. Returns its file name."""
        facts = checkpoint.read_header(model_folder / fresh)
        parts = checkpoint.read_tensors(model_folder / fresh, facts)
        tensors = {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
        change(tensors)
        checkpoint.write(model_folder / "changed.safetensors", replace(facts, **header), tensors)
        return "changed.safetensors"

    def test_models_that_are_not_sd15(self, pack, base, fresh, layered, starter) -> None:
        for model in (layered, starter.model):
            with pytest.raises(ValueError, match="ordinary SD 1.5 MODEL.*LayeredModel"):
                self.apply(pack, model, fresh)
            with pytest.raises(ValueError, match="ordinary SD 1.5 MODEL"):
                pack.nodes.train.LayerDiffCreateAdapter.execute(model, "never", 0)

    def test_another_width(self, pack, fresh) -> None:
        with pytest.raises(ValueError, match="on this MODEL does not fit.*wrong shape"):
            self.apply(pack, models.sd15(32, CONTEXT), fresh)

    def test_another_kind_or_family(self, pack, base, fresh, starter, model_folder) -> None:
        with pytest.raises(ValueError, match="kind 'complete', but 'adapter' was expected.*Load Layered Model"):
            self.apply(pack, base, "random_starter.safetensors")
        with pytest.raises(ValueError, match="kind 'adapter', but 'complete' was expected.*Apply LayerDiff Adapter"):
            pack.nodes.load.LayerDiffLoadModel.execute(fresh)
        with pytest.raises(ValueError, match="family 'text2layer' and kind 'adapter'. Expected one of: layerdiff complete"):
            self.apply(pack, base, self.changed(model_folder, fresh, {"family": "text2layer"}))
        models.write_text2layer(pack, model_folder / "other_family.safetensors")
        with pytest.raises(ValueError, match="text2layer model, but a layerdiff model was expected"):
            self.apply(pack, base, "other_family.safetensors")

    def test_missing_and_extra_tensors(self, pack, base, fresh, model_folder) -> None:
        with pytest.raises(ValueError, match="missing: mask_in.bias"):
            self.apply(pack, base, self.changed(model_folder, fresh, {}, lambda tensors: tensors.pop("unet.mask_in.bias")))
        with pytest.raises(ValueError, match="unexpected: strange"):
            self.apply(pack, base, self.changed(model_folder, fresh, {}, lambda t: t.update({"unet.strange": torch.ones(1)})))
        with pytest.raises(ValueError, match="enhancer does not fit its architecture.*missing: gate"):
            self.apply(pack, base, self.changed(model_folder, fresh, {}, lambda tensors: tensors.pop("enhancer.gate")))

    @pytest.mark.parametrize("architecture", [{}, {"enhancer": {}}, {"enhancer": {"dim": "x", "heads": 1}}, {"enhancer": 3}])
    def test_an_architecture_without_sense(self, pack, base, fresh, model_folder, architecture) -> None:
        with pytest.raises(ValueError, match="no model can be built from its architecture"):
            self.apply(pack, base, self.changed(model_folder, fresh, {"architecture": {"position": True, **architecture}}))

    def test_a_file_from_before_position_features_and_reading_both_ways(self, pack, base, fresh, model_folder) -> None:
        """It is accepted: the missing part is not built."""
        def age(tensors: dict[str, Tensor]) -> None:
            for name in [name for name in tensors if name.startswith(("unet.position.", "enhancer.reader."))]:
                del tensors[name]

        old = self.changed(model_folder, fresh, {"architecture": {"enhancer": {"dim": CONTEXT, "heads": 12}}}, age)
        model, enhancer = pack.nodes.load.LayerDiffApplyAdapter.execute(base, old).args
        x, context = inputs(3, CONTEXT)
        new, _ = pack.nodes.load.LayerDiffApplyAdapter.execute(base, fresh).args
        assert torch.equal(predict(model, x, context, 3), predict(new, x, context, 3))
        assert not any(name.startswith("reader.") for name in enhancer.state_dict())

    def test_a_low_rank_change_of_another_model(self, pack, base, fresh, model_folder) -> None:
        strange = {"lora.lora_unet_nothing.lora_up.weight": torch.ones(4, 2),
                   "lora.lora_unet_nothing.lora_down.weight": torch.ones(2, 4)}
        with pytest.raises(ValueError, match="lora_unet_nothing"):
            self.apply(pack, base, self.changed(model_folder, fresh, {}, lambda tensors: tensors.update(strange)))
