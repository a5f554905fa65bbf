"""Options of single layers: what a layer's conditioning does in a picture of its own, it does for that layer in a stack.

The oracle is ComfyUI itself: where layers do not see each other, each is drawn as the same conditioning draws it alone.
"""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.hooks
import comfy.samplers
import pytest
import torch
from comfy_extras import nodes_cond
from comfy_extras import nodes_custom_sampler as custom
from torch import Tensor

import nodes as host
from tests import models
from tests.host.test_plain_nodes import difference, empty, ksampler

STEPS = 5
PROMPTS = ("a green meadow", "a red balloon", "a fox on the left")


@pytest.fixture(autouse=True)
def as_in_the_host():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def blind(starter: SimpleNamespace) -> Any:
    return blinded(starter.model)


def blinded(model: Any) -> Any:
    """The MODEL without inter-layer attention."""
    model = model.clone()
    weights = model.model_state_dict()
    for key in weights:
        if "inter_layer.to_out" in key:
            model.add_patches({key: ("set", (torch.zeros_like(weights[key]),))})
    return model


@pytest.fixture(scope="module")
def texts(starter: SimpleNamespace) -> list[Any]:
    """The plain conditionings of three layers and of nothing."""
    with torch.inference_mode():
        return [host.CLIPTextEncode().encode(starter.clip, text)[0] for text in (*PROMPTS, "")]


def stack(pack: ModuleType, *layers: Any) -> Any:
    return pack.nodes.prompts.LayerDiffStackConditioning.execute(dict(enumerate(layers))).args[0]


def draw(pack: ModuleType, starter: SimpleNamespace, model: Any, positive: Any, negative: Any, noise: Tensor,
         layers: int, cfg: float = 3.0) -> Tensor:
    return sample(model, positive, negative, noise, empty(pack, starter, layers=layers, scenes=len(noise) // layers), cfg)


def sample(model: Any, positive: Any, negative: Any, noise: Tensor, latent: dict, cfg: float = 3.0,
           steps: int = STEPS) -> Tensor:
    """What SamplerCustomAdvanced draws from this very noise."""
    guider = custom.CFGGuider.execute(model, positive, negative, cfg).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", steps, 1.0).args[0]
    return custom.SamplerCustomAdvanced.execute(models.Noise(noise), guider, comfy.samplers.sampler_object("euler"), sigmas,
                                                latent).args[0]["samples"]


def during(conditioning: Any, start: float, end: float) -> Any:
    return host.ConditioningSetTimestepRange().set_range(conditioning, start, end)[0]


def masked(conditioning: Any, mask: Tensor, strength: float = 1.0, bounds: str = "default") -> Any:
    return host.ConditioningSetMask().append(conditioning, mask, bounds, strength)[0]


def two(*conditionings: Any) -> Any:
    return conditionings[0] + conditionings[1]


LEFT = torch.zeros(1, 64, 64)
LEFT[..., :24] = 1.0

ALONE: dict[str, Callable[[Any, Any], Any]] = {
    "a mask": lambda fox, other: masked(fox, LEFT),
    "two masked prompts": lambda fox, other: two(masked(fox, LEFT, 0.7), masked(other, 1 - LEFT)),
    "two prompts of different strength": lambda fox, other: two(
        host.ConditioningSetAreaStrength().append(fox, 0.3)[0], other),
    "a range that ends": lambda fox, other: during(fox, 0.0, 0.4),
    "a range that starts later": lambda fox, other: during(fox, 0.3, 1.0),
    "two prompts one after the other": lambda fox, other: two(during(fox, 0.0, 0.5), during(other, 0.5, 1.0)),
    "three prompts, two of them at once": lambda fox, other: two(fox, two(during(fox, 0.0, 0.5), during(other, 0.25, 0.75))),
}


@pytest.mark.parametrize("change", ALONE.values(), ids=ALONE)
def test_each_layer_is_drawn_as_alone(pack, starter, blind, texts, change) -> None:
    meadow, balloon, fox, nothing = texts
    layers = [meadow, change(fox, balloon), fox]
    torch.manual_seed(5)
    noise = torch.randn(6, 2 * models.CHANNELS, 8, 8)
    drawn = draw(pack, starter, blind, stack(pack, *layers), nothing, noise, 3)
    alone = torch.cat([draw(pack, starter, blind, layers[row % 3], nothing, noise[row : row + 1], 1) for row in range(6)])
    assert (drawn - alone).abs().max() < 1e-4 * alone.abs().max()
    unchanged = draw(pack, starter, blind, stack(pack, meadow, fox, fox), nothing, noise, 3)
    assert [change > 1e-3 for change in difference(drawn, unchanged)] == [False, True, False] * 2


def test_an_area_of_a_layer(pack, starter, blind, texts) -> None:
    """In ComfyUI an area crops the picture. The layers of a scene are sampled
    together, so here it is a mask, with ComfyUI's edges."""
    meadow, balloon, fox, nothing = texts
    placed = host.ConditioningSetAreaPercentage().append(fox, 0.5, 1.0, 0.0, 0.0, 1.0)[0]
    torch.manual_seed(5)
    noise = torch.randn(3, 2 * models.CHANNELS, 8, 8)
    plain, drawn = (draw(pack, starter, blind, stack(pack, meadow, balloon, top), nothing, noise, 3, 1.0)
                    for top in (fox, placed))
    assert [change > 1e-3 for change in difference(drawn, plain)] == [False, False, True]
    alone = draw(pack, starter, blind, placed, nothing, noise[2:], 1, 1.0)
    assert torch.allclose(drawn[2:, ..., 4:], alone[..., 4:], atol=1e-4), "what no prompt covers"
    half = torch.zeros(1, 8, 8)
    half[..., :4] = 1.0
    inside = draw(pack, starter, blind, masked(fox, half), nothing, noise[2:], 1, 1.0)
    assert torch.allclose(drawn[2:, ..., :4], inside[..., :4], atol=1e-4), "what the prompt covers alone"


def test_masks_of_scenes(pack, starter, blind, texts) -> None:
    meadow, balloon, fox, nothing = texts
    masks = torch.cat([LEFT, 1 - LEFT])
    torch.manual_seed(5)
    noise = torch.randn(4, 2 * models.CHANNELS, 8, 8)
    drawn = draw(pack, starter, blind, stack(pack, meadow, masked(fox, masks)), nothing, noise, 2)
    for scene in range(2):
        alone = draw(pack, starter, blind, masked(fox, masks[scene : scene + 1]), nothing, noise[2 * scene + 1 :][:1], 1)
        assert (drawn[2 * scene + 1] - alone[0]).abs().max() < 1e-4 * alone.abs().max()
    with pytest.raises(ValueError, match="batch of 2, but 3 scenes are sampled"):
        draw(pack, starter, blind, stack(pack, meadow, masked(fox, masks)), nothing, noise[[0, 1] * 3], 2)


def test_what_is_alike_stays_as_it_was(pack, texts) -> None:
    meadow, balloon, fox, _ = texts
    ((_, options),) = stack(pack, *(during(masked(each, LEFT), 0.1, 0.9) for each in (meadow, balloon, fox)))
    assert "layer_options" not in options and torch.equal(options["mask"], LEFT)
    assert (options["start_percent"], options["end_percent"], options["layers"]) == (0.1, 0.9, 3)


def test_what_is_set_after_stacking_is_for_all_layers(pack, starter, blind, texts) -> None:
    meadow, balloon, fox, nothing = texts
    torch.manual_seed(5)
    noise = torch.randn(2, 2 * models.CHANNELS, 8, 8)
    replaced = masked(stack(pack, meadow, masked(fox, 1 - LEFT)), LEFT)
    assert (draw(pack, starter, blind, replaced, nothing, noise, 2)
            - draw(pack, starter, blind, masked(stack(pack, meadow, fox), LEFT), nothing, noise, 2)).abs().max() < 1e-5
    weaker = host.ConditioningSetAreaStrength().append(fox, 0.3)[0]
    both = [two(masked(stack(pack, meadow, each), LEFT), stack(pack, meadow, fox)) for each in (weaker, fox)]
    changed = difference(*(draw(pack, starter, blind, each, nothing, noise, 2) for each in both))
    assert changed[0] == 0 or changed[0] < 1e-5


def test_layers_see_each_other_also_where_one_has_no_prompt(pack, starter, texts) -> None:
    meadow, balloon, fox, nothing = texts
    for positive in (stack(pack, meadow, during(fox, 0.0, 0.3)), stack(pack, during(meadow, 0.5, 1.0), during(fox, 0.0, 0.3))):
        assert torch.isfinite(ksampler(starter.model, SimpleNamespace(positive=positive, negative=nothing),
                                       empty(pack, starter, layers=2))).all()


class TestRefused:
    def hooked(self, conditioning: Any, *hooks: comfy.hooks.Hook) -> Any:
        group = comfy.hooks.HookGroup()
        for hook in hooks:
            group.add(hook)
        return comfy.hooks.set_hooks_for_conditioning(conditioning, group)

    def test_hooks_of_one_layer(self, pack, texts) -> None:
        meadow, balloon, fox, _ = texts
        hook = comfy.hooks.WeightHook(1.0, 1.0)
        with pytest.raises(ValueError, match=r"different hooks \(layer 2 of 3\).*Use Load LoRA for Layers"):
            stack(pack, meadow, balloon, self.hooked(fox, hook))
        with pytest.raises(ValueError, match="different hooks"):
            stack(pack, self.hooked(meadow, hook), self.hooked(fox, comfy.hooks.WeightHook(1.0, 1.0)))

    def test_the_same_hooks_on_all_are_kept(self, pack, texts) -> None:
        hook = comfy.hooks.WeightHook(1.0, 1.0)
        ((_, options),) = stack(pack, *(self.hooked(each, hook) for each in texts[:3]))
        assert options["hooks"].hooks == [hook]

    def test_options_that_we_do_not_know(self, pack, texts) -> None:
        meadow, balloon, fox, _ = texts
        strange = [[fox[0][0], {**fox[0][1], "strange": torch.rand(2)}]]
        with pytest.raises(ValueError, match=r"option 'strange' \(layer 1 of 2\)"):
            stack(pack, meadow, strange)
        boxes = [[fox[0][0], {**fox[0][1], "gligen": ("position", None, [])}]]
        with pytest.raises(ValueError, match="GLIGEN boxes"):
            stack(pack, boxes, meadow)
        ((_, options),) = stack(pack, strange, strange)
        assert "strange" in options

    def test_ranges_of_no_steps(self, pack, texts) -> None:
        with pytest.raises(ValueError, match="contain no steps"):
            stack(pack, during(texts[0], 0.9, 0.1), during(texts[1], 0.8, 0.2))


def test_tokens_for_the_control_are_of_each_layer(pack, starter, texts) -> None:
    said = [nodes_cond.CLIPTextEncodeControlnet.execute(starter.clip, cond, text).args[0]
            for cond, text in zip(texts, ("a fox", "a red fox", "a blue fox"))]
    ((_, options),) = stack(pack, *said)
    assert torch.equal(options["cross_attn_controlnet"], torch.cat([each[0][1]["cross_attn_controlnet"] for each in said]))


class TestEncodeLayerPrompts:
    """It hears what CLIP Text Encode hears."""

    def encode(self, pack: ModuleType, clip: Any, enhancer: Any, lines: str, overall: str = "", strength: float = 1.0) -> Any:
        return pack.nodes.prompts.LayerDiffEncodePrompts.execute(clip, enhancer, overall, lines, "a blue fox", strength).args

    def test_weights(self, pack, starter) -> None:
        positive, _, _, names = self.encode(pack, starter.clip, starter.enhancer, "a (green:1.3) meadow\nfox: a (red:0.5) fox")
        alone = [host.CLIPTextEncode().encode(starter.clip, text)[0] for text in ("a (green:1.3) meadow", "a (red:0.5) fox")]
        assert torch.equal(positive[0][0], torch.cat([each[0][0] for each in alone])) and names == "background\nfox"
        assert positive[0][1]["layer_names"] == ["background", "fox"]

    def test_a_clip_with_scheduled_hooks(self, pack, starter, memory) -> None:
        if memory == "dynamic":
            pytest.skip("Without a GPU, hooks on a CLIP have no effect in ComfyUI's own CLIP Text Encode in this mode.")
        hooks = comfy.hooks.HookGroup()
        hook = comfy.hooks.WeightHook(strength_model=0.0, strength_clip=1.0)
        key = next(key for key in starter.clip.patcher.model_state_dict() if key.endswith("mlp.fc1.weight"))
        shape = starter.clip.patcher.model_state_dict()[key].shape
        hook.weights = hook.weights_clip = {key: (torch.full(shape, 0.05),)}
        hook.need_weight_init = False
        hooks.add(hook)
        frames = comfy.hooks.HookKeyframeGroup()
        frames.add(comfy.hooks.HookKeyframe(strength=0.0))
        frames.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.5))
        hooks.set_keyframes_on_hooks(frames)
        clip = starter.clip.clone(disable_dynamic=True)
        clip.patcher.register_all_hook_patches(hooks, comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Clip))
        clip.patcher.forced_hooks, clip.use_clip_schedule = hooks, True
        clip.patcher.set_hook_mode = None
        alone = [host.CLIPTextEncode().encode(clip, text)[0] for text in ("a green meadow", "a fox", "a blue fox")]
        assert len(alone[0]) == 2 and (alone[0][0][0] - alone[0][1][0]).abs().max() > 1e-4, "the schedule changes nothing"
        positive, negative, *_ = self.encode(pack, clip, starter.enhancer, "a green meadow\na fox")
        assert len(positive) == len(negative) == 2
        for part in range(2):
            assert torch.equal(positive[part][0], torch.cat([alone[0][part][0], alone[1][part][0]]))
            assert torch.equal(negative[part][0], alone[2][part][0])
            assert positive[part][1]["clip_start_percent"] == (0.0, 0.5)[part]
        enhanced, *_ = self.encode(pack, clip, starter.enhancer, "a green meadow\na fox", "a fox at sunset")
        assert (enhanced[0][0] - enhanced[1][0]).abs().max() > 1e-4
        stacked = stack(pack, *alone[:2])
        assert len(stacked) == 2 and torch.equal(stacked[1][0], positive[1][0])
        prompts = SimpleNamespace(positive=enhanced, negative=negative)
        assert torch.isfinite(ksampler(starter.model, prompts, empty(pack, starter, layers=2))).all()
