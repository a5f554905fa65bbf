"""Controls on single layers: ControlNet, ControlLora and T2I-Adapter, on a model of SD 1.5's structure with a fresh adapter.

In a fresh adapter layers do not see each other, so each is to be drawn as ComfyUI draws it alone with the same control.
"""

from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.hooks
import pytest
import torch
from torch import Tensor

import nodes as host
from tests import models
from tests.host.test_layer_options import during, sample, stack

WIDTH, CONTEXT, LAYERS, STEPS = 32, 96, 4, 3
# bfloat16 goes the way of float16.
MEMORY_MODES = ("plain", "dynamic", "float16")
KINDS = ("ControlNet", "ControlLora", "T2IAdapter")


@pytest.fixture(autouse=True)
def as_in_the_host():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def model(pack: ModuleType, model_folder: Any, memory: str) -> Any:
    base = models.sd15(WIDTH, CONTEXT, mode=memory)
    name = pack.nodes.train.LayerDiffCreateAdapter.execute(base, f"controlled_{memory}", LAYERS).args[0]
    return pack.nodes.load.LayerDiffApplyAdapter.execute(base, name).args[0]


def made(kind: str) -> Any:
    unet = models.sd15_config(WIDTH, CONTEXT).unet_config
    if kind == "T2IAdapter":
        return models.t2i_adapter(WIDTH)
    return models.control_lora(unet) if kind == "ControlLora" else models.control_net(unet, 4)


@pytest.fixture(params=KINDS)
def net(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


@pytest.fixture
def given() -> SimpleNamespace:
    """Plain conditionings of four layers and a negative one, noise of two scenes, four hints."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(LAYERS + 1, 1, 77, CONTEXT, generator=generator)
    return SimpleNamespace(texts=[[[each, {}]] for each in tokens[:LAYERS]], negative=[[tokens[LAYERS], {}]],
                           noise=torch.randn(2 * LAYERS, 8, 8, 8, generator=generator),
                           hints=torch.rand(LAYERS, 64, 64, 3, generator=generator))


def apply(net: Any, positive: Any, negative: Any, hint: Tensor, strength: float = 1.0, end: float = 1.0) -> tuple[Any, Any]:
    """ComfyUI's Apply ControlNet."""
    return host.ControlNetApplyAdvanced().apply_controlnet(positive, negative, net, hint, strength, 0.0, end)


def node(pack: ModuleType, positive: Any, negative: Any, net: Any, hint: Tensor, layers: str, strength: float = 1.0,
         end: float = 1.0) -> tuple[Any, Any]:
    return pack.nodes.control.LayerDiffApplyControlNet.execute(positive, negative, net, hint, layers, strength, 0.0, end).args


def draw(model: Any, positive: Any, negative: Any, noise: Tensor) -> Tensor:
    return sample(model, positive, negative, noise, {"samples": torch.zeros_like(noise)}, steps=STEPS)


def moved(one: Tensor, other: Tensor) -> list[bool]:
    """Which rows differ; those that do not are the same to the bit."""
    return [not torch.equal(first, second) for first, second in zip(one, other)]


def close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-4 * other.abs().max())


def rows_seen(net: Any) -> list[int]:
    """Filled while sampling: how many rows the control model got, call by call."""
    seen: list[int] = []
    network = net.t2i_model if hasattr(net, "t2i_model") else net.control_model
    network.register_forward_pre_hook(lambda module, args, kwargs: seen.append(len(args[0] if args else kwargs["x"])),
                                      with_kwargs=True)
    return seen


@pytest.mark.parametrize("scenes", [1, 2])
def test_what_is_applied_to_one_layer_before_stacking(pack, model, net, given, scenes) -> None:
    noise = given.noise[: scenes * LAYERS]
    positive, negative = apply(net, given.texts[2], given.negative, given.hints[:1])
    layers = [*given.texts[:2], positive, given.texts[3]]
    drawn = draw(model, stack(pack, *layers), negative, noise)
    plain = draw(model, stack(pack, *given.texts), given.negative, noise)
    assert moved(drawn, plain) == [False, False, True, False] * scenes
    for scene in range(scenes):
        row = scene * LAYERS + 2
        assert close(drawn[row : row + 1], draw(model, positive, negative, noise[row : row + 1]))


def test_one_negative_prompt_or_one_a_layer(pack, model, given) -> None:
    """The negative prompt that went through two layers' Apply ControlNet has each control on that layer alone."""
    net = made("ControlNet")
    first, negative = apply(net, given.texts[1], given.negative, given.hints[:1])
    second, negative = apply(net, given.texts[3], negative, given.hints[1:2], 0.6)
    shared = draw(model, stack(pack, given.texts[0], first, given.texts[2], second), negative, given.noise)
    first, negative_1 = apply(net, given.texts[1], given.negative, given.hints[:1])
    second, negative_3 = apply(net, given.texts[3], given.negative, given.hints[1:2], 0.6)
    negatives = stack(pack, given.negative, negative_1, given.negative, negative_3)
    assert close(shared, draw(model, stack(pack, given.texts[0], first, given.texts[2], second), negatives, given.noise))
    for row, positive, own in ((1, first, negative_1), (7, second, negative_3)):
        assert close(shared[row : row + 1], draw(model, positive, own, given.noise[row : row + 1]))


def test_the_node_does_what_comfyuis_does_before_stacking(pack, model, net, given) -> None:
    positive, negative = apply(net, given.texts[2], given.negative, given.hints[:1], 0.7)
    before = draw(model, stack(pack, *given.texts[:2], positive, given.texts[3]), negative, given.noise)
    after = node(pack, stack(pack, *given.texts), given.negative, net, given.hints[:1], "2=0.7")
    assert close(draw(model, *after, given.noise), before)


def test_two_hints_on_two_layers_in_one_go(pack, model, net, given) -> None:
    positive = stack(pack, *given.texts)
    together = draw(model, *node(pack, positive, given.negative, net, given.hints[:2], "3, 1=0.5"), given.noise)
    one_by_one = node(pack, *node(pack, positive, given.negative, net, given.hints[:1], "3"), net, given.hints[1:2], "1", 0.5)
    assert close(together, draw(model, *one_by_one, given.noise))
    plain = draw(model, positive, given.negative, given.noise)
    assert moved(together, plain) == [False, True, False, True] * 2
    other = given.hints[[0, 3]]
    assert moved(together, draw(model, *node(pack, positive, given.negative, net, other, "3, 1=0.5"), given.noise)) \
        == [False, True, False, False] * 2


def test_a_hint_for_each_layer_of_each_scene(pack, model, net, given) -> None:
    positive = stack(pack, *given.texts)
    drawn = draw(model, *node(pack, positive, given.negative, net, given.hints, "1, 2"), given.noise)
    for scene in range(2):
        rows = slice(scene * LAYERS, (scene + 1) * LAYERS)
        conds = node(pack, positive, given.negative, net, given.hints[2 * scene : 2 * scene + 2], "1, 2")
        assert close(drawn[rows], draw(model, *conds, given.noise[rows]))


def test_strength_0_is_no_control_to_the_bit(pack, model, net, given) -> None:
    positive = stack(pack, *given.texts)
    plain = draw(model, positive, given.negative, given.noise)
    assert torch.equal(plain, draw(model, *node(pack, positive, given.negative, net, given.hints[:1], "0-3", 0.0), given.noise))
    part = draw(model, *node(pack, positive, given.negative, net, given.hints[:1], "1=0, 2"), given.noise)
    assert moved(part, plain) == [False, False, True, False] * 2


def test_a_control_costs_what_its_layers_cost(pack, model, given) -> None:
    positive = stack(pack, *given.texts)
    counts = {}
    for layers in ("2", "0-3", "0, 2", "0=0.5, 2"):
        net = made("ControlNet")
        seen = rows_seen(net)
        draw(model, *node(pack, positive, given.negative, net, given.hints[:1], layers), given.noise)
        counts[layers] = sum(seen)
    assert counts["0-3"] == 2 * len(given.noise) * STEPS, "all rows, with and without the prompt"
    assert counts["2"] * 4 == counts["0, 2"] * 2 == counts["0=0.5, 2"] * 2 == counts["0-3"]


def test_positive_and_negative_run_in_one_batch(pack, model, given) -> None:
    net = made("ControlNet")
    seen = rows_seen(net)
    draw(model, *node(pack, stack(pack, *given.texts), given.negative, net, given.hints[:1], "2"), given.noise)
    assert seen == [2 * 2] * STEPS
    positive, negative = apply(net, given.texts[2], given.negative, given.hints[:1])
    draw(model, stack(pack, *given.texts[:2], positive), negative, given.noise[:6])
    assert seen[STEPS:] == [2 * 2] * STEPS


def test_its_range_of_steps(pack, model, net, given) -> None:
    positive = stack(pack, *given.texts)
    plain = draw(model, positive, given.negative, given.noise)
    early, always = (draw(model, *node(pack, positive, given.negative, net, given.hints[:1], "2", end=end), given.noise)
                     for end in (0.3, 1.0))
    assert moved(early, plain) == moved(always, plain) == moved(early, always) == [False, False, True, False] * 2


def test_beside_a_control_for_all_layers(pack, model, net, given) -> None:
    """One layer's before stacking, another for all of them after it, and one more on two layers."""
    positive, negative = apply(net, given.texts[2], given.negative, given.hints[:1])
    stacked = stack(pack, *given.texts[:2], positive, given.texts[3])
    whole = apply(net, stacked, negative, given.hints[1:2], 0.5)
    drawn = draw(model, *node(pack, *whole, net, given.hints[2:3], "0, 1"), given.noise)
    pairs = [apply(net, given.texts[row], given.negative, given.hints[:1]) if row == 2 else (given.texts[row], given.negative)
             for row in range(LAYERS)]
    pairs = [apply(net, *pair, given.hints[1:2], 0.5) for pair in pairs]
    pairs = [apply(net, *pair, given.hints[2:3]) if row < 2 else pair for row, pair in enumerate(pairs)]
    for row in range(LAYERS, 2 * LAYERS):
        assert close(drawn[row : row + 1], draw(model, *pairs[row - LAYERS], given.noise[row : row + 1]))


def test_a_control_beside_a_range_of_the_prompt(pack, model, given) -> None:
    net = made("ControlNet")
    positive, negative = apply(net, during(given.texts[2], 0.0, 0.5), given.negative, given.hints[:1])
    drawn = draw(model, stack(pack, *given.texts[:2], positive, given.texts[3]), negative, given.noise)
    assert close(drawn[2:3], draw(model, positive, negative, given.noise[2:3]))


def test_apply_controlnet_old_acts_on_the_negative_prompt(pack, model, given) -> None:
    net = made("ControlNet")
    positive = host.ControlNetApply().apply_controlnet(given.texts[2], net, given.hints[:1], 1.0)[0]
    drawn = draw(model, stack(pack, *given.texts[:2], positive, given.texts[3]), given.negative, given.noise)
    assert close(drawn[6:7], draw(model, positive, given.negative, given.noise[6:7]))
    other, _ = apply(net, given.texts[1], given.negative, given.hints[:1])
    with pytest.raises(ValueError, match="Use Apply ControlNet for all of them"):
        stack(pack, given.texts[0], other, positive)


class TestDuties:
    """What ComfyUI asks of a control."""

    def control(self, pack: ModuleType, given: SimpleNamespace, net: Any) -> Any:
        positive, _ = node(pack, stack(pack, *given.texts), given.negative, net, given.hints[:2], "1=0.5, 2")
        return positive[0][1]["control"]

    def test_models_memory_copies_and_other_gpus(self, pack, given) -> None:
        net, kind = made("ControlNet"), pack.nodes.host.control.LayerControl
        last = self.control(pack, given, net)
        assert isinstance(last, kind) and isinstance(last.previous_controlnet, kind)
        assert (last.chosen, last.previous_controlnet.chosen) == ((2,), (1,))
        assert last.get_models() == [net.control_model_wrapped] * 2
        lora = self.control(pack, given, made("ControlLora"))
        memory = [control.inference_memory_requirements(torch.float32) for control in (lora, lora.control)]
        assert memory[0] == 2 * memory[1] > 0
        twin = last.copy()
        assert isinstance(twin, kind) and twin.control is not last.control and twin.control.strength == last.control.strength
        assert twin.chosen == last.chosen and twin.previous_controlnet is None, "as ComfyUI's own copies"
        device = torch.device("cpu")
        shown = pack.nodes.host.control.PictureControl(last, 4, LAYERS)
        shown.deepclone_multigpu(device, autoregister=True)
        there = shown.get_instance_for_device(device).control
        assert isinstance(there, kind) and isinstance(there.previous_controlnet, kind) and there.chosen == (2,)
        assert there.control.control_model is not net.control_model and len(shown.get_models()) == 4

    def test_before_and_after_sampling(self, pack, model, given) -> None:
        net = made("ControlNet")
        conds = node(pack, stack(pack, *given.texts), given.negative, net, given.hints[:2], "1=0.5, 2")
        first = draw(model, *conds, given.noise)
        for control in (conds[0][0][1]["control"], conds[0][0][1]["control"].previous_controlnet):
            assert control.control.cond_hint is None and control.control.model_sampling_current is None, "was not cleaned up"
            assert control.control.timestep_range is None
        assert torch.equal(first, draw(model, *conds, given.noise)), "left something behind"

    def test_controls_that_change_the_model(self, pack, given) -> None:
        net = made("ControlNet")
        group = comfy.hooks.HookGroup()
        group.add(comfy.hooks.WeightHook(1.0, 1.0))
        net.extra_hooks = group
        positive, _ = apply(net, given.texts[2], given.negative, given.hints[:1])
        with pytest.raises(ValueError, match="control of layer 2 .* changes the MODEL itself.*after Stack Layer Conditioning"):
            stack(pack, *given.texts[:2], positive)
        with pytest.raises(ValueError, match="changes the MODEL itself"):
            node(pack, stack(pack, *given.texts), given.negative, net, given.hints[:1], "1")
        positive, _ = node(pack, stack(pack, *given.texts), given.negative, net, given.hints[:1], "0-3")
        assert positive[0][1]["control"].get_extra_hooks()

    def test_a_model_without_layers(self, pack, given) -> None:
        net, base = made("ControlNet"), models.sd15(WIDTH, CONTEXT)
        conds = node(pack, stack(pack, *given.texts), given.negative, net, given.hints[:1], "1")
        with pytest.raises(ValueError, match="reached a MODEL without layers"):
            draw(base, *conds, given.noise[:LAYERS, :4])


class TestTheNode:
    def test_names(self, pack, starter) -> None:
        net = made("ControlNet")
        positive, negative, *_ = pack.nodes.prompts.LayerDiffEncodePrompts.execute(
            starter.clip, starter.enhancer, "", "sky: a sky\nred fox: a fox\nballoon: a balloon", "", 1.0).args
        found, _ = node(pack, positive, negative, net, torch.rand(1, 8, 8, 3), "Red Fox=0.5")
        assert found[0][1]["control"].chosen == (1,) and found[0][1]["control"].control.strength == 0.5
        with pytest.raises(ValueError, match="'cat' is not a layer. .* The layers are called sky, red fox, balloon"):
            node(pack, positive, negative, net, torch.rand(1, 8, 8, 3), "cat")

    @pytest.mark.parametrize("change, words", [
        ({"layers": "4"}, "'4' refers to"), ({"hints": 3}, "3 hint images for 2 layers"), ({"plain": True}, "not layered"),
        ({"strength": 11.0}, "strength is 11.0, but must be between"), ({"negative": 2}, "for 2 and 4 layers"),
    ])
    def test_what_is_refused(self, pack, given, change, words) -> None:
        positive = given.texts[0] if change.get("plain") else stack(pack, *given.texts)
        negative = stack(pack, *given.texts[: change["negative"]]) if "negative" in change else given.negative
        with pytest.raises(ValueError, match=words):
            node(pack, positive, negative, made("ControlNet"), given.hints[: change.get("hints", 1)],
                 change.get("layers", "1, 2"), change.get("strength", 1.0))
