"""Redraw Layers with LayerDiffuse's files: foregrounds added one after another, and a layer redrawn while others are kept."""

from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import pytest
import torch
from comfy_api.latest import io
from comfy_extras import nodes_custom_sampler as custom
from torch import Tensor

from tests import models
from tests.layerdiffuse import CONTEXT, DECODER, WIDTH, apply, image, narrow_vae, prompts, stacked
from tools.studio import defaults

MEMORY_MODES = ("plain",)
HEIGHT, BREADTH = 52, 64
FAST = "fast (1 pass)"


@pytest.fixture(autouse=True)
def as_in_comfyui(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path_factory.mktemp("temp")))
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def base(memory: str) -> Any:
    return models.sd15(WIDTH, CONTEXT)


@pytest.fixture(scope="module")
def vae(memory: str) -> Any:
    return narrow_vae()


@pytest.fixture
def redraw(pack: ModuleType, files: Any, base: Any, vae: Any) -> Any:
    """The node with one of LayerDiffuse's files, two steps, whatever is not said as in a new graph."""

    def run(name: str, layers: dict[str, Any], given: dict[str, Tensor] | None = None, count: int = 2, **changes: Any) -> Any:
        model, frames = apply(pack, base, vae, name, **(given or {}))
        decoding = pack.nodes.layerdiffuse.LayerDiffLoadTransparentDecoder.execute(frames, DECODER, FAST).args[0]
        node = pack.nodes.redraw.LayerDiffRedrawLayers
        return node.execute(**{**defaults(node), "layers": layers, "model": model, "vae": decoding, "steps": 2, "redraw": "",
                               "positive": stacked(pack, prompts(count)), "negative": [[torch.zeros(1, 77, CONTEXT), {}]],
                               **changes})

    return run


def scene(count: int = 1) -> dict[str, Any]:
    """Layers of the user's own, of a size that is no multiple of 8; those above the background have an opacity."""
    layers = [{"image": image(20 + number, HEIGHT, BREADTH), "mask": image(40 + number, HEIGHT, BREADTH)[..., 0],
               "name": f"own {number}"} for number in range(count)]
    layers[0]["mask"] = torch.zeros_like(layers[0]["mask"])
    for layer in layers[1:]:
        layer["opacity"] = 0.5
    return {"version": 1, "canvas": (BREADTH, HEIGHT), "layers": layers}


def same(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """The very same layer, with nothing copied or rounded."""
    return all(new[key].data_ptr() == value.data_ptr() if key == "image" else torch.equal(new[key], value)
               if isinstance(value, Tensor) else new[key] == value for key, value in old.items())


def test_four_foregrounds_one_after_another(pack: ModuleType, redraw: Any, monkeypatch: pytest.MonkeyPatch,
                                            tmp_path: Path) -> None:
    """Each is drawn for the blended image of the one before; the layers below stay as they are, into a PSD and back."""
    start = image(7, HEIGHT, BREADTH)
    layers = pack.nodes.convert.LayerDiffImagesToLayers.execute(start, "covered", "bottom first", False, "room").args[0]
    background, blends = start, []
    for number in range(1, 5):
        output = redraw("bg2fg", layers, {"background": background}, add_at=49, seed=number, names=f"object {number}")
        after, _, latent, blended = output.args
        assert len(after["layers"]) == number + 1 and latent["samples"].shape == (2, 4, 7, 8)
        assert all(same(new, old) for new, old in zip(after["layers"], layers["layers"])), f"after foreground {number}"
        added = after["layers"][-1]
        assert added["name"] == f"object {number}" and added["image"].shape == (1, HEIGHT, BREADTH, 3)
        assert added["mask"].shape == (1, HEIGHT, BREADTH) and added["mask"].std() > 0
        assert blended.shape == start.shape and not any(torch.equal(blended, each) for each in blends)
        layers, background, blends = after, blended, [*blends, blended]
    assert torch.equal(layers["layers"][0]["image"], start)
    pictures = [layer["image"] for layer in layers["layers"]]
    assert all((one - other).abs().mean() > 0.01 for n, one in enumerate(pictures) for other in pictures[:n])

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    export = pack.nodes.exchange.LayerDiffExportLayers.PREPARE_CLASS_CLONE(
        {"hidden_inputs": {io.Hidden.prompt: None, io.Hidden.extra_pnginfo: None}})
    export.execute(layers, "added", "psd", False, "display")
    (written,) = tmp_path.glob("*.psd")
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    again = pack.nodes.exchange.LayerDiffImportLayers.execute(written.name).args[0]
    assert [layer["name"] for layer in again["layers"]] == ["room", *(f"object {number}" for number in range(1, 5))]
    shown = (pack.nodes.composite.LayerDiffCompositeLayers.execute(each, "display").args[0] for each in (layers, again))
    assert (next(shown) - next(shown)).abs().max() <= 2.5 / 255


def test_the_same_as_sampler_and_decode_layers(pack: ModuleType, files: Any, base: Any, vae: Any, redraw: Any) -> None:
    """At the seed's noise, the added foreground is the one that KSampler and Decode Layers make."""
    layers = scene()
    background = layers["layers"][0]["image"]
    output = redraw("bg2fg", layers, {"background": background}, add_at=1, sampler_name="euler")
    model, frames = apply(pack, base, vae, "bg2fg", background=background)
    decoding = pack.nodes.layerdiffuse.LayerDiffLoadTransparentDecoder.execute(frames, DECODER, FAST).args[0]
    noise = pack.nodes.host.redraw_sampling.layer_noise(torch.zeros(2, 4, 7, 8), 1)
    empty = pack.nodes.latents.LayerDiffEmptyLatent.execute(frames, 0, 0, 1, 1).args[0]
    guider = custom.CFGGuider.execute(model, stacked(pack, prompts(2)), [[torch.zeros(1, 77, CONTEXT), {}]], 2.5).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", 2, 1.0).args[0]
    sampler = custom.KSamplerSelect.execute("euler").args[0]
    latent = custom.SamplerCustomAdvanced.execute(models.Noise(noise), guider, sampler, sigmas, empty).args[0]
    document, _, _, _, blended = pack.nodes.decode.LayerDiffDecodeLayers.execute(latent, decoding, "", 0.5, 0.4, 0).args
    assert torch.allclose(latent["samples"], output.args[2]["samples"], atol=1e-5)
    assert torch.allclose(document[0]["layers"][1]["image"], output.args[0]["layers"][1]["image"], atol=1e-4)
    assert torch.allclose(document[0]["layers"][1]["mask"], output.args[0]["layers"][1]["mask"], atol=1e-4)
    assert torch.allclose(blended, output.args[3], atol=1e-4)


def test_a_layer_in_the_middle_is_redrawn(redraw: Any) -> None:
    layers = scene(3)
    output = redraw("bg2fg", layers, {"background": image(3, HEIGHT, BREADTH)}, redraw="own 1", names="new")
    _, middle, _ = output.args[0]["layers"]
    assert all(same(output.args[0]["layers"][number], layers["layers"][number]) for number in (0, 2))
    assert middle["name"] == "new" and middle["opacity"] == 0.5
    assert (middle["image"] - layers["layers"][1]["image"]).abs().mean() > 0.05


def test_joint_keeps_the_background_or_draws_both(pack: ModuleType, vae: Any, redraw: Any) -> None:
    layers = scene()
    added = redraw("joint", layers, count=3, add_at=1)
    assert same(added.args[0]["layers"][0], layers["layers"][0]) and len(added.args[0]["layers"]) == 2
    codec = pack.nodes.host.codecs.codec_for(vae)
    kept = vae.encode(codec.fill_up(layers["layers"][0]["image"]))
    assert torch.equal(added.args[2]["samples"][:1], kept), "the background's frame is held fixed"
    elsewhere = {**layers, "layers": [{**layers["layers"][0], "image": image(9, HEIGHT, BREADTH)}]}
    other = redraw("joint", elsewhere, count=3, add_at=1)
    assert (other.args[2]["samples"][1] - added.args[2]["samples"][1]).abs().max() > 1e-3, "the foreground depends on it"
    both = redraw("joint", scene(2), count=3, redraw="0-1", names="a\nb").args[0]["layers"]
    assert [layer["name"] for layer in both] == ["a", "b"]
    assert all((new["image"] - old["image"]).abs().mean() > 0.05 for new, old in zip(both, scene(2)["layers"]))


def test_a_background_is_redrawn_restyled_or_repainted(pack: ModuleType, vae: Any, redraw: Any) -> None:
    layers = scene(2)
    own = layers["layers"][0]["image"]
    given = {"foreground": layers["layers"][1]["image"], "coverage": 1 - layers["layers"][1]["mask"]}
    encoded = vae.encode(pack.nodes.host.codecs.codec_for(vae).fill_up(own))[0]
    distance = []
    for denoise in (1.0, 0.2):
        output = redraw("fg2bg", layers, given, redraw="0", denoise=denoise)
        new = output.args[0]["layers"]
        assert same(new[1], layers["layers"][1]) and (new[0]["image"] - own).abs().mean() > 0.05 and (new[0]["mask"] == 0).all()
        distance.append((output.args[2]["samples"][0] - encoded).std())
    assert 0 < distance[1] < 0.3 * distance[0]
    mask = torch.zeros(1, HEIGHT, BREADTH)
    mask[:, :, 40:] = 1
    part = redraw("fg2bg", layers, given, redraw="0", mask=mask, feather=0).args[0]["layers"][0]["image"]
    assert torch.equal(part[:, :, :40], own[:, :, :40]) and (part[:, :, 40:] - own[:, :, 40:]).abs().mean() > 0.05


def test_nothing_chosen_passes_through(redraw: Any) -> None:
    layers = scene(2)
    output = redraw("bg2fg", layers, {"background": image(3, HEIGHT, BREADTH)})
    assert all(map(same, output.args[0]["layers"], layers["layers"]))
    assert output.args[2]["samples"].shape == (2, 4, 7, 8) and "pass through" in str(output.ui)


def test_a_single_image_alone(redraw: Any) -> None:
    """The transparent file draws a foreground that takes no notice of the other layers."""
    first, second = (redraw("transparent_attn", scene(), count=1, add_at=1, names="cut-out").args[0]["layers"] for _ in (0, 1))
    assert len(first) == 2 and first[1]["name"] == "cut-out" and torch.equal(first[1]["image"], second[1]["image"])


BACKGROUND, FOREGROUND = {"background": image(3, HEIGHT, BREADTH)}, {"foreground": image(3, HEIGHT, BREADTH)}
REFUSED: dict[str, tuple[str, int, dict[str, Tensor], dict[str, Any], str]] = {
    "a third layer from joint": ("joint", 2, {}, {"add_at": 2}, "there are 3 layers, an added one included.*layer_sd15_bg2fg"),
    "the background from joint": ("joint", 2, {}, {"redraw": "0"}, "cannot keep the foreground.*layer_sd15_fg2bg"),
    "a foreground from fg2bg": ("fg2bg", 2, FOREGROUND, {"redraw": "1"}, "generates a background, so it cannot redraw layer 1"),
    "a new layer from fg2bg": ("fg2bg", 2, FOREGROUND, {"add_at": 2}, "cannot redraw layer 2.*add_at to -1"),
    "a background from bg2fg": ("bg2fg", 2, BACKGROUND, {"redraw": "0"}, "generates one foreground, so it cannot redraw layer 0"),
    "two foregrounds at once": ("bg2fg", 2, BACKGROUND, {"redraw": "1", "add_at": 2}, "cannot redraw layer 1 and layer 2"),
    "a restyled foreground": ("bg2fg", 2, BACKGROUND, {"redraw": "1", "denoise": 0.6}, "existing foreground, but denoise is 0.6"),
    "a repainted foreground": ("bg2fg", 2, BACKGROUND, {"redraw": "1", "mask": torch.ones(1, 8, 8)}, "but a mask is connected"),
    "another size": ("bg2fg", 1, {"background": image(3, 64, 64)}, {"add_at": 1},
                     "canvas of the layers has 64 x 52 pixels, but the given background has 64 x 64"),
    "too few prompts": ("bg2fg", 1, BACKGROUND, {"add_at": 1, "positive": [[prompts(1), {"layers": 3}]]}, "got 3 prompts"),
    "a layer that is not there": ("bg2fg", 1, BACKGROUND, {"redraw": "9"}, "There is no layer '9'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_file_cannot_do_is_refused(redraw: Any, case: str) -> None:
    name, count, given, changes, words = REFUSED[case]
    with pytest.raises(ValueError, match=f"(?s){words}"):
        redraw(name, scene(count), given, **changes)


def test_a_vae_of_another_node_or_without_decoder(pack: ModuleType, files: Any, base: Any, vae: Any, redraw: Any) -> None:
    joint, background = apply(pack, base, vae, "joint")[1], scene()["layers"][0]["image"]
    for other, words in ((vae, "not from the same Apply LayerDiffuse"), (joint, "not from the same Apply LayerDiffuse"),
                         (apply(pack, base, vae, "bg2fg", background=background)[1], "Add Load Transparent Decoder")):
        with pytest.raises(ValueError, match=words):
            redraw("bg2fg", scene(), {"background": background}, add_at=1, vae=other)


def test_an_ordinary_model_is_refused(base: Any, redraw: Any) -> None:
    with pytest.raises(ValueError, match="not a layered one"):
        redraw("joint", scene(), count=3, add_at=1, model=base)


@pytest.mark.parametrize("name", ["FG2BLE", "BG2BLE", "FGBLE2BG", "BGBLE2FG"])
def test_kinds_of_two_steps_are_refused(pack: ModuleType, name: str) -> None:
    kind = getattr(pack.layerdiff_core.layerdiffuse_xl, name)
    with pytest.raises(ValueError, match=f"{kind.name}.*two steps.*cannot redraw single layers"):
        pack.nodes.host.redraw_frames.check_chosen(kind, [1], 2)
