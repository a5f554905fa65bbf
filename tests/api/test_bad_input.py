"""Bad input through the real server: an error at the right node that says what is wrong, and a server that keeps running."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from layerdiff_core import checkpoint
from tests import models
from tests.api.graphs import BIG, STARTER, changed, layered, load, node, number, refuse, save, write_latents
from tools.host import Server


@pytest.fixture(scope="module")
def files(pack: ModuleType, server: Server, served_models: Path) -> Path:
    """The server's folder with a random model, one with other sizes, one that generates NaN, and damaged ones."""
    models.write_starter(pack, served_models / STARTER)
    other = models.architecture(channels=4)
    other["text"] |= {"hidden_size": 96, "num_attention_heads": 2}
    other["unet"] |= {"context_dim": 96}
    other["enhancer"] = {"dim": 96, "heads": 2}
    checkpoint.write(served_models / "other.safetensors", models.header(other), models.starter_tensors(pack, other))
    checkpoint.write(served_models / "adapter.safetensors", models.header({"enhancer": {"dim": 64, "heads": 2}}, kind="adapter"),
                     {"unet.mask_in.bias": torch.zeros(32)})
    sound = models.starter_tensors(pack, models.architecture())
    for name, spoil in SPOILED.items():
        head, tensors = models.header(models.architecture()), {key: tensor.clone() for key, tensor in sound.items()}
        spoil(head, tensors)
        checkpoint.write(served_models / f"{name}.safetensors", head, tensors)
    whole = (served_models / STARTER).read_bytes()
    (served_models / "empty.safetensors").write_bytes(b"")
    (served_models / "text.safetensors").write_text("<html>404 not found</html>")
    (served_models / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    save_file({"weight": torch.zeros(2)}, served_models / "foreign.safetensors")
    for name, fact in {"version": {"version": "9"}, "unreadable": {"architecture": "{"}, "uncounted": {"layers": "many"}}.items():
        with safe_open(served_models / STARTER, "pt") as file:
            save_file({"unet.a": torch.zeros(1)}, served_models / f"{name}.safetensors", metadata={**file.metadata(), **fact})
    write_latents(server, {"nan": torch.full((3, 16, 8, 8), float("nan")), "plain": torch.rand(3, 4, 8, 8),
                           "flat": torch.rand(3, 16)})
    return served_models


def set_nan(head: Any, tensors: dict[str, torch.Tensor]) -> None:
    tensors["vae.decoder.conv_out.bias"][:] = float("nan")


def shrink(head: Any, tensors: dict[str, torch.Tensor]) -> None:
    tensors["unet.mask_in.weight"] = torch.zeros(1, 2, 3)


SPOILED: dict[str, Callable[[Any, dict[str, torch.Tensor]], Any]] = {
    "draws_nan": set_nan,
    "family": lambda head, tensors: setattr(head, "family", "text2layer"),
    "strange_family": lambda head, tensors: setattr(head, "family", "omni"),
    "missing": lambda head, tensors: [tensors.pop(key) for key in list(tensors) if key.startswith("unet.out.")],
    "missing_words": lambda head, tensors: tensors.pop("text.token_ids"),
    "strange_words": lambda head, tensors: tensors["text.token_ids"].fill_(60_000),
    "extra": lambda head, tensors: tensors.update({"vae.decoder.surprise": torch.zeros(1)}),
    "extra_part": lambda head, tensors: tensors.update({"lora.surprise": torch.zeros(1)}),
    "shape": shrink,
    "whole_numbers": lambda head, tensors: tensors.update({"enhancer.gate": torch.zeros(2, dtype=torch.int64)}),
    "no_architecture": lambda head, tensors: head.architecture.clear(),
    "no_unet": lambda head, tensors: head.architecture.update(unet={}),
    "absurd_architecture": lambda head, tensors: head.architecture["unet"].update(model_channels=BIG),
    "wide_text": lambda head, tensors: head.architecture["text"].update(hidden_size=96),
    "no_prediction": lambda head, tensors: head.architecture.update(prediction="x"),
}

FILES = {
    "empty": "cannot be read as a safetensors file", "text": "cannot be read as a safetensors file",
    "truncated": "cannot be read as a safetensors file", "foreign": "not a layered model",
    "version": "format version 9, but this pack reads version 1", "unreadable": "incomplete or damaged",
    "uncounted": "incomplete or damaged.*many", "family": "'enhancer.* does not belong in a text2layer file",
    "strange_family": "family 'omni'", "adapter": "kind 'adapter', but 'complete' was expected.*Apply LayerDiff Adapter",
    "missing": "missing: out.0.bias, .*and 1 more", "missing_words": "lacks text.token_ids",
    "strange_words": "not hold CLIP tokens", "extra": "unexpected: decoder.surprise",
    "extra_part": "'lora.surprise', which does not belong", "shape": r"mask_in.weight \[1, 2, 3\] instead of",
    "whole_numbers": r"gate \(torch.int64\)", "no_architecture": "no model can be built",
    "no_unet": "no model can be built", "absurd_architecture": "no model can be built",
    "wide_text": "text encoder does not fit its architecture", "no_prediction": "no model can be built.*'x'",
}


@pytest.mark.parametrize("name", FILES)
def test_model_files(server: Server, files: Path, name: str) -> None:
    refuse(server, layered(f"{name}.safetensors"), "1", FILES[name])


LAYERED_AS_BASE = {"7": node("LayerDiffApplyAdapter", model=["1", 0], adapter_name="adapter.safetensors"), "4.model": ["7", 0]}


def create(name: str) -> dict[str, Any]:
    return {"7": node("LayerDiffCreateAdapter", model=["1", 0], name=name, seed=0)}


def free(text: str) -> dict[str, Any]:
    return {"7": node("LayerDiffFreeLayers", samples=["3", 0], free=text), "4.latent_image": ["7", 0]}


SMG = node("LayerDiffSelfMaskGuidance", model=["1", 0], vae=["7", 2], smg_scale=0.5, blur_sigma=1.0, smg_start=0.0, smg_end=1.0)
OTHER = {"7": node("LayerDiffLoadModel", model_name="other.safetensors")}
SET = {"layers": ["5", 0], "layer": 0, "name": "", "position": -1, "opacity": 1.0, "blend_mode": "normal", "visible": True,
       "right": 0, "down": 0, "scale": 1.0, "rotation": 0.0}


def decimal(value: float, place: str) -> dict[str, Any]:
    """A decimal number over a link, which ComfyUI does not check against the input's limits."""
    return {"8": node("PrimitiveFloat", value=value), place: ["8", 0]}


GUIDED = {"9": node("LayerDiffSelfMaskGuidance", model=["1", 0], vae=["1", 2], smg_scale=0.5, blur_sigma=1.0, smg_start=0.0,
                    smg_end=1.0), "4.model": ["9", 0]}
SET_FIRST = {"7": node("LayerDiffSetLayer", **SET), "6.layers": ["7", 0]}

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no prompts": ({"2.layer_prompts": ""}, "2", "no layer prompts"),
    "blank prompts": ({"2.layer_prompts": " \n\t\n"}, "2", "no layer prompts"),
    "a name without a prompt": ({"2.layer_prompts": "background: sky\nfox:"}, "2", "'fox:' has no prompt"),
    "51 prompts": ({"2.layer_prompts": "a fox\n" * 51}, "2", "51 layer prompts, but at most 50"),
    "strength beyond its range": ({"2.enhancer_strength": 3.0}, "2", "enhancer_strength"),
    "enhancer of another model": ({**OTHER, "2.enhancer": ["7", 3]}, "2", "prompts of width 96, but this CLIP outputs 64"),
    "CLIP of another model": ({**OTHER, "2.clip": ["7", 1], "2.enhancer": ["7", 3]}, "4", "width 96, but this MODEL needs 64"),
    "0 layers": ({"3.layers": 0}, "3", "layers"),
    "51 layers": ({"3.layers": 51}, "3", "layers"),
    "0 layers over a link": ({**number(0), "3.layers": ["8", 0]}, "3", "0 layers were requested, but only 1 to 50"),
    "51 layers over a link": ({**number(51), "3.layers": ["8", 0]}, "3", "51 layers were requested"),
    "65 scenes": ({"3.scenes": 65}, "3", "scenes"),
    "65 scenes over a link": ({**number(100), "3.scenes": ["8", 0]}, "3", "100 scenes of 3 layers"),
    "a size beyond the limits": ({"3.width": BIG}, "3", "width"),
    "an absurd size over a link": ({**number(BIG), "3.width": ["8", 0]}, "3", f"{BIG} x 64 pixels"),
    "a negative size over a link": ({**number(-64), "3.height": ["8", 0]}, "3", "64 x -64 pixels"),
    "4 layers for 3 prompts": ({"3.layers": 4}, "4", "prompts are for 3 layers, but the latent holds 4"),
    "a negative prompt for 2 layers": (
        {"7": {**layered()["2"], "inputs": {**layered()["2"]["inputs"], "layer_prompts": "sky\nfox"}}, "4.negative": ["7", 1]},
        "4", "conditionings for 2 and 3 layers"),
    "a picture's latent for the sampler": ({**load("plain"), "4.latent_image": ["7", 0]}, "4", "4 channels, but.* needs 16"),
    "an empty latent of one picture": (
        {"7": node("EmptyLatentImage", width=64, height=64, batch_size=1), "4.latent_image": ["7", 0]}, "4", "latent holds 1"),
    "a picture's latent to decode": ({**load("plain"), "5.samples": ["7", 0]}, "5", "shape .*4.* 16 channels"),
    "a flat latent to decode": ({**load("flat"), "5.samples": ["7", 0]}, "5", "shape"),
    "a latent of NaN": ({**load("nan"), "5.samples": ["7", 0]}, "5", "contains NaN"),
    "a part of a scene": ({"7": node("LatentFromBatch", samples=["4", 0], batch_index=0, length=2), "5.samples": ["7", 0]}, "5",
                          "2 layers, which is not a whole number of scenes of 3"),
    "a model that draws NaN": ({"1.model_name": "draws_nan.safetensors"}, "5", "not finite"),
    "another VAE to decode": ({**OTHER, "5.vae": ["7", 2]}, "5", "for this VAE has 8 channels"),
    "another VAE for guidance": ({**OTHER, "8": SMG, "4.model": ["8", 0]}, "8", "VAE has 4 latent channels, but .* needs 8"),
    "a scene that is not there": ({"5.scene": 5}, "5", "no scene 5"),
    "a mask's centre beyond its range": ({"5.centre": 2.0}, "5", "centre"),
    "a strength beyond its range over a link": (decimal(7.0, "2.enhancer_strength"), "2",
                                                    "enhancer_strength is 7.0, but must be between 0.0 and 2"),
    "a mask's centre beyond its range over a link": (decimal(-1.0, "5.centre"), "5", "centre is -1.0, but must be between 0.05"),
    "a softness of a million": (decimal(1e6, "5.softness"), "5", "softness is 1000000.0, but must be"),
    "a blur of nothing": ({**GUIDED, **decimal(0.0, "9.blur_sigma")}, "9", "blur_sigma is 0.0, but must be between 0.1 and 10"),
    "a scale of nothing over a link": ({**SET_FIRST, **decimal(0.0, "7.scale")}, "7", "scale is 0.0, but must be between 0.01"),
    "a video's latent for the sampler": (
        {"7": node("EmptyHunyuanLatentVideo", width=64, height=64, length=1, batch_size=1), "4.latent_image": ["7", 0]}, "4",
        "like one of video or audio, but a layered MODEL generates images"),
    "an area where the picture ends": (
        {"7": node("ConditioningSetArea", conditioning=["2", 0], width=64, height=64, x=64, y=0, strength=1.0),
         "4.positive": ["7", 0]}, "4", "area of a prompt is outside the image"),
    "an area at 100 percent": (
        {"7": node("ConditioningSetAreaPercentage", conditioning=["2", 0], width=0.5, height=0.5, x=0.0, y=1.0, strength=1.0),
         "4.positive": ["7", 0]}, "4", "area of a prompt is outside the image"),
    "a mask without pixels": (
        {"7": node("SolidMask", value=1.0, width=8, height=8),
         "8": node("CropMask", mask=["7", 0], x=0, y=64, width=8, height=8),
         "9": node("ConditioningSetMask", conditioning=["2", 0], mask=["8", 0], strength=1.0, set_cond_area="default"),
         "4.positive": ["9", 0]}, "4", "mask of a prompt has no pixels"),
    "an empty latent to decode": (
        {"7": node("LatentUpscaleBy", samples=["3", 0], upscale_method="area", scale_by=0.01), "5.samples": ["7", 0]}, "5",
        "The latent is empty. Its shape"),
    "an empty latent to sample": (
        {"7": node("LatentUpscaleBy", samples=["3", 0], upscale_method="area", scale_by=0.01), "4.latent_image": ["7", 0]}, "4",
        "The latent is empty. Its shape"),
    "a picture of one pixel to encode": (
        {"7": node("EmptyImage", width=1, height=1, batch_size=1, color=0), "8": node("VAEEncode", pixels=["7", 0], vae=["1", 2]),
         "4.latent_image": ["8", 0]}, "8", "smaller than 8 x 8 pixels, the minimum for this VAE"),
    "free x": (free("x"), "7", "'x' is not a layer number"),
    "free 9": (free("9"), "7", "no layer 9. The latent has 3"),
    "free nothing": (free(""), "7", "No layers are listed"),
    "free a trillion": (free(f"0-{BIG}"), "7", f"no layer {BIG}"),
    "an adapter on a layered model": (LAYERED_AS_BASE, "7", "ordinary SD 1.5 MODEL.*LayeredModel"),
    "a complete model as adapter": ({**LAYERED_AS_BASE, "7.adapter_name": STARTER}, "7", "kind 'complete'.*Load Layered Model"),
    "an adapter from a layered model": (create("new"), "7", "ordinary SD 1.5 MODEL"),
    "an adapter above the folder": (create("../outside"), "7", "not a valid file name"),
    "an adapter anywhere": (create("/etc/outside"), "7", "not a valid file name"),
    "an adapter without a name": (create(""), "7", "not a valid file name"),
    "an adapter over another file": (create(STARTER), "7", "random.safetensors already exists"),
    "a model that is not there": ({"1.model_name": "nothing.safetensors"}, "1", "nothing.safetensors"),
    "a model above the folder": ({"1.model_name": "../../secret.safetensors"}, "1", "secret"),
    "files above the output folder": (save("../../outside"), "7", "outside the output folder"),
    "files anywhere": (save("/etc/outside"), "7", "outside the output folder"),
    "a layer that is not there": ({"7": node("LayerDiffSetLayer", **{**SET, "layer": 7}), "6.layers": ["7", 0]}, "7",
                                  "no layer 7. The document has 3"),
    "an unknown blend mode": (
        {"7": node("LayerDiffSetLayer", **{**SET, "blend_mode": "melt"}), "6.layers": ["7", 0]}, "7",
        "melt"),
    "a latent for layers": ({"6.layers": ["4", 0]}, "6", "LATENT"),
    "stacking what is layered": ({"7": node("LayerDiffStackConditioning", **{"conditionings.layer0": ["2", 0]}),
                                  "4.positive": ["7", 0]}, "7", "Layer 0 has a conditioning for 3 images"),
    "stacking two text encoders": (
        {**OTHER, "8": node("CLIPTextEncode", clip=["1", 1], text="sky"), "9": node("CLIPTextEncode", clip=["7", 1], text="fox"),
         "10": node("LayerDiffStackConditioning", **{"conditionings.layer0": ["8", 0], "conditionings.layer1": ["9", 0]}),
         "4.positive": ["10", 0]}, "10", "widths 64 and 96"),
}


@pytest.mark.parametrize("name", CASES)
def test_graphs(server: Server, files: Path, name: str) -> None:
    changes, place, words = CASES[name]
    refuse(server, changed(layered(), changes), place, words)


def test_nothing_was_written_where_it_should_not(server: Server, files: Path) -> None:
    for folder in (files.parent, server.data, server.data.parent):
        assert list(folder.glob("*outside*")) == [] == list(folder.glob("*/*outside*"))
    assert not (files / "new.safetensors").exists()


def test_half_a_sign_in_a_prompt_is_no_matter(server: Server, files: Path) -> None:
    pictures = server.client.run(changed(layered(), {"2.global_prompt": "a fox \ud83e"})).outputs["6"]["images"]
    assert len(pictures) == 4


def test_a_good_graph_still_runs(server: Server, files: Path) -> None:
    pictures = server.client.run(layered()).outputs["6"]["images"]
    assert len(pictures) == 4
