"""Redraw Layers over models of both families: only what was chosen changes, with ComfyUI's own sampling."""

from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import pytest
import torch
from torch import Tensor

import nodes as host
from tools.studio import defaults

MEMORY_MODES = ("plain", "dynamic")
PROMPTS = "meadow: a meadow\nballoon: a red balloon\nfox: a fox"
MORE = PROMPTS + "\nowl: an owl"


@pytest.fixture(autouse=True)
def as_in_comfyui(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path_factory.mktemp("temp")))
    with torch.inference_mode():
        yield


def pictures(count: int = 3, width: int = 60, height: int = 44, seed: int = 1) -> dict[str, Any]:
    """Layers of the user's own, of a size that the model has to round up; the top one is moved and scaled."""
    random = torch.Generator().manual_seed(seed)
    layers = [{"image": torch.rand(1, height, width, 3, generator=random), "mask": torch.rand(1, height, width, generator=random),
               "name": name} for name in ("meadow", "balloon", "fox", "owl")[:count]]  # fmt: skip
    layers[-1] |= {"x": 5, "y": -4, "w": width - 11, "h": height + 6, "opacity": 0.5}
    return {"version": 1, "canvas": (width, height), "layers": layers}


@pytest.fixture
def redraw(pack: ModuleType, starter: SimpleNamespace) -> Any:
    """The node on the LayerDiff model, few steps, whatever is not said as in a new graph."""

    def run(layers: dict[str, Any], prompts: str = PROMPTS, **changes: Any) -> Any:
        positive, negative, _, names = pack.nodes.prompts.LayerDiffEncodePrompts.execute(
            starter.clip, starter.enhancer, "a fox", prompts, "", 1.0).args
        node = pack.nodes.redraw.LayerDiffRedrawLayers
        return node.execute(**{**defaults(node), "layers": layers, "model": starter.model, "vae": starter.vae, "names": names,
                               "positive": positive, "negative": negative, "steps": 3, "redraw": "1", **changes})

    return run


def entries(output: Any) -> list[dict[str, Any]]:
    return list(output.args[0]["layers"])


def samples(output: Any) -> Tensor:
    latent: Tensor = output.args[2]["samples"]
    return latent


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m", "dpmpp_sde", "ddim", "uni_pc", "lcm"])
def test_a_new_seed_for_one_layer_moves_no_other(pack: ModuleType, starter: SimpleNamespace, redraw: Any, sampler: str) -> None:
    layers = pictures()
    one, other = (redraw(layers, sampler_name=sampler, seed=seed) for seed in (1, 2))
    encoded = pack.nodes.latents.LayerDiffEncodeLayers.execute(layers, starter.vae).args[0]["samples"]
    for output in (one, other):
        assert torch.equal(samples(output)[[0, 2]], encoded[[0, 2]])
        for number in (0, 2):
            new, old = entries(output)[number], layers["layers"][number]
            assert torch.equal(new["image"], old["image"]) and torch.equal(new["mask"], old["mask"])
            assert new["image"].data_ptr() == old["image"].data_ptr(), "the very same layer"
        assert [layer["name"] for layer in entries(output)] == ["meadow", "balloon", "fox"]
        assert (entries(output)[2]["x"], entries(output)[2]["opacity"]) == (5, 0.5)
    assert (samples(one)[1] - samples(other)[1]).abs().max() > 0.1
    assert (entries(one)[1]["image"] - layers["layers"][1]["image"]).abs().max() > 0.1


def test_the_noise_of_a_layer_depends_on_the_seed_and_its_number(pack: ModuleType) -> None:
    noise = pack.nodes.host.redraw_sampling.layer_noise
    three, four = noise(torch.zeros(3, 2, 4, 4), 5), noise(torch.zeros(4, 2, 4, 4), 5)
    assert torch.equal(three, four[:3]) and torch.equal(three, noise(torch.zeros(3, 2, 4, 4), 5))
    rows = torch.cat([four, noise(torch.zeros(4, 2, 4, 4), 6)]).flatten(1)
    assert (torch.corrcoef(rows) - torch.eye(8)).abs().max() < 0.8, "no two alike"
    assert noise(torch.zeros(2, 2, 4, 4, dtype=torch.float16), 2**64 - 1).dtype == torch.float16


def test_at_denoise_1_nothing_of_the_old_layer_is_left(redraw: Any) -> None:
    """ComfyUI adds the latent to the noise also at denoise 1."""
    layers, changed = pictures(), pictures()
    changed["layers"][1]["image"] = changed["layers"][1]["image"].flip(1)
    one, other = (redraw(given, seed=3) for given in (layers, changed))
    assert torch.equal(samples(one)[1], samples(other)[1])
    some, more = (samples(redraw(layers, denoise=denoise)) for denoise in (0.2, 0.7))
    start = samples(redraw(layers, redraw=""))
    assert (some[1] - start[1]).abs().mean() < (more[1] - start[1]).abs().mean()


def test_nothing_is_drawn_where_nothing_is_chosen(redraw: Any) -> None:
    layers = pictures()
    output = redraw(layers, redraw=" ")
    for new, old in zip(entries(output), layers["layers"], strict=True):
        assert new["image"] is old["image"] or torch.equal(new["image"], old["image"])
    assert "Click the brush" in output.ui["warnings"][0][0] and len(output.ui["layer_panel"][0]["layers"]) == 3


def test_layers_by_name_and_the_names_of_the_prompts(redraw: Any) -> None:
    output = redraw(pictures(), PROMPTS.replace("fox: a fox", "cat: a fox"), redraw="fox")
    assert [layer["name"] for layer in entries(output)] == ["meadow", "balloon", "cat"]
    again = redraw(pictures(), PROMPTS.replace("fox: a fox", "cat: a fox"), redraw="cat")
    assert torch.equal(samples(output), samples(again))
    assert [layer["name"] for layer in entries(redraw(pictures(), names="", redraw="2"))] == ["meadow", "balloon", "fox"]


@pytest.mark.parametrize(("add_at", "number"), [(0, 0), (1, 1), (3, 3), (40, 3)])
def test_a_layer_is_added_and_the_others_stay(redraw: Any, add_at: int, number: int) -> None:
    layers = pictures()
    output = redraw(layers, MORE, redraw="", add_at=add_at)
    others = [layer for n, layer in enumerate(entries(output)) if n != number]
    assert len(entries(output)) == 4 and entries(output)[number]["name"] == MORE.splitlines()[number].partition(":")[0]
    for new, old in zip(others, layers["layers"], strict=True):
        assert torch.equal(new["image"], old["image"]) and torch.equal(new["mask"], old["mask"]) and new["name"] == old["name"]
    assert entries(output)[number]["image"].shape == (1, 44, 60, 3)
    assert torch.isfinite(output.args[1]).all() and output.args[1].shape == (1, 44, 60, 3)


def test_inside_a_mask_alone(redraw: Any) -> None:
    layers = pictures()
    mask = torch.zeros(1, 44, 60)
    mask[:, 10:30, 20:40] = 1
    output = redraw(layers, redraw="1-2", mask=mask, feather=4)
    rest = torch.ones(44, 60, dtype=torch.bool)
    rest[6:34, 16:44] = False
    new, old = entries(output)[1], layers["layers"][1]
    assert torch.equal(new["image"][0, rest], old["image"][0, rest])
    assert (new["mask"][0, rest] - old["mask"][0, rest]).abs().max() < 1e-6
    assert (new["image"] - old["image"])[0, 12:28, 22:38].abs().max() > 0.1
    # The composite, too, where a scaled layer was painted in.
    before = redraw(layers, redraw="").args[1]
    assert (output.args[1] - before)[0, rest].abs().max() <= 1 / 255
    whole = redraw(layers, redraw="1-2", mask=torch.ones(1, 8, 8), feather=0)
    assert torch.allclose(samples(whole), samples(redraw(layers, redraw="1-2")))


def test_the_panel_gets_the_drawn_layers_and_its_edits_are_applied_to_them(redraw: Any) -> None:
    plain = redraw(pictures())
    output = redraw(pictures(), edits='{"version": 1, "layers": {"1": {"visible": false}}}')
    assert output.ui["layer_panel"] == plain.ui["layer_panel"]
    assert [layer["visible"] for layer in entries(output)] == [True, False, True]
    assert torch.equal(samples(output), samples(plain)) and not torch.equal(output.args[1], plain.args[1])


def test_progress_and_interrupt(redraw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *rest, **more: seen.append((value, total)))
    redraw(pictures())
    assert (3, 3) in seen
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        redraw(pictures())
    comfy.model_management.interrupt_current_processing(False)


@pytest.mark.parametrize(("changes", "words"), [
    ({"redraw": "fish"}, "no layer 'fish'"), ({"redraw": "3"}, "no layer '3'"), ({"add_at": 3}, "prompts are for 3 layers"),
    ({"add_at": 3, "denoise": 0.5}, "nothing to start from"), ({"mask": torch.zeros(1, 4, 4)}, "selects nothing"),
    ({"mask": torch.ones(2, 4, 4)}, "one mask for all layers"), ({"steps": 0}, "steps is 0"), ({"denoise": 1.5}, "denoise"),
    ({"model": None}, "not a layered one"), ({"layers": {}}, "LAYERS document"), ({"prompts": MORE}, "prompts are for 4 layers"),
])  # fmt: skip
def test_what_cannot_be_is_said(redraw: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        redraw(**{"layers": pictures(), **changes})


def test_a_layer_with_broken_numbers_is_named(redraw: Any) -> None:
    layers = pictures()
    layers["layers"][2]["image"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="'fox' contains values that are not finite"):
        redraw(layers)


@pytest.fixture
def stacked(pack: ModuleType, text2layer: SimpleNamespace) -> Any:
    """The node on a Text2Layer model."""

    def run(layers: dict[str, Any], **changes: Any) -> Any:
        positive, negative = (host.CLIPTextEncode().encode(text2layer.clip, text)[0] for text in ("a fox", ""))
        node = pack.nodes.redraw.LayerDiffRedrawLayers
        return node.execute(**{**defaults(node), "layers": layers, "model": text2layer.model, "vae": text2layer.vae,
                               "positive": positive, "negative": negative, "steps": 3, "redraw": "0", "names": "", **changes})

    return run


def test_text2layer_draws_the_background_or_the_foregrounds(text2layer: SimpleNamespace, stacked: Any) -> None:
    count = text2layer.foregrounds + 1
    layers, front = pictures(count), [*range(1, count)]
    for chosen in ([0], front, [0, *front]):
        one, other = (stacked(layers, redraw=", ".join(map(str, chosen)), seed=seed) for seed in (1, 2))
        for number in range(count):
            new, again, old = (each["layers"][number] for each in (one.args[0], other.args[0], layers))
            assert torch.equal(new["image"], old["image"]) == (number not in chosen)
            assert torch.equal(new["image"], again["image"]) == (number not in chosen)
    mask = torch.zeros(1, 44, 60)
    mask[:, :16] = 1
    output = stacked(layers, mask=mask, feather=0, denoise=0.6)
    assert torch.equal(output.args[0]["layers"][0]["image"][:, 16:], layers["layers"][0]["image"][:, 16:])


def test_what_text2layer_cannot_do_is_said(text2layer: SimpleNamespace, stacked: Any) -> None:
    count = text2layer.foregrounds + 1
    with pytest.raises(ValueError, match="cannot add one"):
        stacked(pictures(count), add_at=1)
    with pytest.raises(ValueError, match=f"always has {count}"):
        stacked(pictures(4 if count == 3 else 3))
    if count == 3:
        with pytest.raises(ValueError, match=r"cannot redraw layer 1 alone. It can redraw the background \(0\), all foregrounds"):
            stacked(pictures(3), redraw="1")


def test_models_that_do_not_belong_together(starter: SimpleNamespace, text2layer: SimpleNamespace, redraw: Any,
                                            stacked: Any) -> None:
    with pytest.raises(ValueError, match="The VAE is from a Text2Layer model"):
        redraw(pictures(), vae=text2layer.vae)
    with pytest.raises(ValueError, match="does not belong to this Text2Layer MODEL"):
        stacked(pictures(), vae=starter.vae)
