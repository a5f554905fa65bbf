"""Bad input for Text2Layer through the real server, and files, latents or VAEs of one family used with the other."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from layerdiff_core import checkpoint
from tests import models
from tests.api.graphs import BIG, STACKED, STARTER, changed, layered, load, node, number, refuse, save, stacked, write_latents
from tools.host import Server

TWO, OTHER = "two_text2layer.safetensors", "other_text2layer.safetensors"
PREFIX = "stacked_"


@pytest.fixture(scope="module")
def files(pack: ModuleType, server: Server, served_models: Path) -> Path:
    """The server's folder with random models of both families, one that generates NaN, and damaged ones."""
    models.write_starter(pack, served_models / STARTER)
    models.write_text2layer(pack, served_models / STACKED)
    models.write_text2layer(pack, served_models / TWO, foregrounds=2)
    facts = models.stacked_architecture()
    facts["text"] |= {"hidden_size": 96, "num_attention_heads": 2}
    facts["unet"] |= {"context_dim": 96}
    head = models.header(facts, family="text2layer", layers=2)
    checkpoint.write(served_models / OTHER, head, models.stacked_tensors(pack, facts))
    sound = models.stacked_tensors(pack, models.stacked_architecture())
    for name, spoil in SPOILED.items():
        head = models.header(models.stacked_architecture(), family="text2layer", layers=2)
        tensors = {key: tensor.clone() for key, tensor in sound.items()}
        spoil(head, tensors)
        checkpoint.write(served_models / f"{PREFIX}{name}.safetensors", head, tensors)
    whole = (served_models / STACKED).read_bytes()
    (served_models / f"{PREFIX}truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    write_latents(server, {"stacked_nan": torch.full((1, 16, 8, 8), float("nan")), "stacked_plain": torch.rand(1, 4, 8, 8),
                           "stacked_flat": torch.rand(1, 16)})
    return served_models


def set_nan(head: Any, tensors: dict[str, torch.Tensor]) -> None:
    tensors["vae.heads.foreground.3.bias"][:] = float("nan")


SPOILED: dict[str, Callable[[Any, dict[str, torch.Tensor]], Any]] = {
    "draws_nan": set_nan,
    "as_layerdiff": lambda head, tensors: setattr(head, "family", "layerdiff"),
    "as_adapter": lambda head, tensors: setattr(head, "kind", "adapter"),
    "with_an_enhancer": lambda head, tensors: tensors.update({"enhancer.gate": torch.zeros(2)}),
    "missing": lambda head, tensors: [tensors.pop(key) for key in list(tensors) if key.startswith("vae.heads.mask.")],
    "missing_words": lambda head, tensors: tensors.pop("text.token_ids"),
    "extra": lambda head, tensors: tensors.update({"vae.decoder.conv_out.weight": torch.zeros(1)}),
    "shape": lambda head, tensors: tensors.update({"unet.out.2.bias": torch.zeros(5)}),
    "whole_numbers": lambda head, tensors: tensors.update({"vae.quant_conv.bias": torch.zeros(32, dtype=torch.int64)}),
    "no_architecture": lambda head, tensors: head.architecture.clear(),
    "no_foregrounds": lambda head, tensors: head.architecture.update(foregrounds=0),
    "many_foregrounds": lambda head, tensors: head.architecture.update(foregrounds=50),
    "strange_foregrounds": lambda head, tensors: head.architecture.update(foregrounds="one"),
    "two_foregrounds": lambda head, tensors: head.architecture.update(foregrounds=2),
    "no_masks": lambda head, tensors: head.architecture["latent"].pop("mask_factors"),
    "few_means": lambda head, tensors: head.architecture["latent"].update(mean=[0.0]),
    "absurd_architecture": lambda head, tensors: head.architecture["unet"].update(model_channels=BIG),
    "no_prediction": lambda head, tensors: head.architecture.update(prediction="x"),
}

FILES = {
    "truncated": "cannot be read as a safetensors file",
    "as_layerdiff": "does not fit its architecture|no model can be built",
    "as_adapter": "family 'text2layer' and kind 'adapter'. Expected one of",
    "with_an_enhancer": "'enhancer.gate', which does not belong in a text2layer file",
    "missing": "VAE does not fit its architecture. missing: heads.mask.0.bias", "missing_words": "lacks text.token_ids",
    "extra": "unexpected: decoder.conv_out.weight", "shape": r"out.2.bias \[5\] instead of \[16\]",
    "whole_numbers": r"quant_conv.bias \(torch.int64\)", "no_architecture": "no model can be built",
    "no_foregrounds": "has 0 foregrounds; 1 to 49", "many_foregrounds": "has 50 foregrounds; 1 to 49",
    "strange_foregrounds": "no model can be built", "two_foregrounds": "no model can be built|does not fit",
    "no_masks": "no model can be built.*mask_factors", "few_means": "no model can be built",
    "absurd_architecture": "no model can be built", "no_prediction": "no model can be built.*'x'",
}


@pytest.mark.parametrize("name", FILES)
def test_model_files(server: Server, files: Path, name: str) -> None:
    refuse(server, stacked(f"{PREFIX}{name}.safetensors"), "1", FILES[name])


def smg(model: str, vae: str) -> dict[str, Any]:
    return node("LayerDiffSelfMaskGuidance", model=[model, 0], vae=[vae, 2], smg_scale=0.5, blur_sigma=1.0, smg_start=0.0,
                smg_end=1.0)


def decode(latent: str, vae: str) -> dict[str, Any]:
    return node("LayerDiffDecodeLayers", samples=[latent, 0], vae=[vae, 2], names="", centre=0.5, softness=0.4, scene=0)


def keep(**changes: Any) -> dict[str, Any]:
    """Layers decoded from an empty latent, to be kept while the graph samples."""
    return {"20": decode("3", "1"),
            "21": node("LayerDiffKeepLayers", **{"model": ["1", 0], "vae": ["1", 2], "layers": ["20", 0], "keep": "background",
                                                 "start": 0.0, "end": 1.0, **changes}), "4.model": ["21", 0]}


LAYERDIFF = {"7": node("LayerDiffLoadModel", model_name=STARTER)}
SECOND = {"7": node("LayerDiffLoadModel", model_name=OTHER)}
THREE_LAYERS = {"30": node("LayerDiffLoadModel", model_name=TWO),
                "31": node("LayerDiffEmptyLatent", vae=["30", 2], width=64, height=64, layers=3, scenes=1),
                "32": decode("31", "30")}
LARGE = {"31": node("LayerDiffEmptyLatent", vae=["1", 2], width=128, height=64, layers=2, scenes=1), "32": decode("31", "1")}
LAYER_PROMPTS = layered()["2"]
STACK = {"7": node("LayerDiffStackConditioning", **{"conditionings.layer0": ["2", 0], "conditionings.layer1": ["9", 0]})}
PICTURE = {"7": node("EmptyImage", width=64, height=64, batch_size=1, color=0)}

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "layer prompts": ({"7": LAYER_PROMPTS, "4.positive": ["7", 0]}, "7", "one prompt for the whole image.*CLIP Text Encode"),
    "layer prompts of the other family": (
        {"10": node("LayerDiffLoadModel", model_name=STARTER),
         "7": {**LAYER_PROMPTS, "inputs": {**LAYER_PROMPTS["inputs"], "clip": ["10", 1], "enhancer": ["10", 3]}},
         "4.positive": ["7", 0]},
        "4", "prompts are for single layers.*CLIP Text Encode"),
    "an enhancer of the other family": (
        {"10": node("LayerDiffLoadModel", model_name=STARTER),
         "7": {**LAYER_PROMPTS, "inputs": {**LAYER_PROMPTS["inputs"], "enhancer": ["10", 3]}}, "4.positive": ["7", 0]},
        "7", "encoded with the CLIP of .*text2layer.*, but the enhancer is from random.safetensors"),
    "CLIP of the other family": ({"10": node("LayerDiffLoadModel", model_name=STARTER), "2.clip": ["10", 1]}, "4",
                                 "encoded with the CLIP of random.safetensors, but this MODEL is from .*text2layer"),
    "a video's latent": (
        {"7": node("EmptyHunyuanLatentVideo", width=64, height=64, length=1, batch_size=1), "4.latent_image": ["7", 0]}, "4",
        "like one of video or audio, but a layered MODEL generates images"),
    "stacked conditionings": ({**STACK, "4.positive": ["7", 0]}, "4", "prompts are for single layers"),
    "CLIP of another model": ({**SECOND, "2.clip": ["7", 1]}, "4", "width 96, but this MODEL needs 64"),
    "one layer": ({"3.layers": 1}, "3", "1 layers were requested, but this Text2Layer model always has 2"),
    "three layers": ({"3.layers": 3}, "3", "3 layers were requested, but this Text2Layer model always has 2"),
    "0 layers over a link": ({**number(0), "3.layers": ["8", 0]}, "3", "0 layers were requested, but only 1 to 50"),
    "51 layers over a link": ({**number(51), "3.layers": ["8", 0]}, "3", "51 layers were requested"),
    "65 scenes": ({"3.scenes": 65}, "3", "scenes"),
    "200 scenes over a link": ({**number(200), "3.scenes": ["8", 0]}, "3", "200 scenes of 2 layers"),
    "an absurd size over a link": ({**number(BIG), "3.width": ["8", 0]}, "3", f"{BIG} x 64 pixels"),
    "a picture's latent for the sampler": ({**load("stacked_plain"), "4.latent_image": ["7", 0]}, "4",
                                           "4 channels, but.* needs 16"),
    "a picture's latent to decode": ({**load("stacked_plain"), "5.samples": ["7", 0]}, "5", "shape .*4.* 16 channels"),
    "a picture's latent for VAE Decode": (
        {**load("stacked_plain"), "10": node("VAEDecode", samples=["7", 0], vae=["1", 2]),
         "11": node("PreviewImage", images=["10", 0])}, "10", "latents with 16 channels, but got one with 4"),
    "a flat latent to decode": ({**load("stacked_flat"), "5.samples": ["7", 0]}, "5", "shape"),
    "a latent of NaN": ({**load("stacked_nan"), "5.samples": ["7", 0]}, "5", "contains NaN"),
    "a model that draws NaN": ({"1.model_name": f"{PREFIX}draws_nan.safetensors"}, "5", "not finite"),
    "a scene that is not there": ({"5.scene": 1}, "5", "no scene 1. The latent has 1"),
    "a mask's centre beyond its range": ({"5.centre": 2.0}, "5", "centre"),
    "the VAE of a model with more layers": ({"7": node("LayerDiffLoadModel", model_name=TWO), "5.vae": ["7", 2]}, "5",
                                            "for this VAE has 24 channels"),
    "LayerDiff's VAE to decode": ({**LAYERDIFF, "5.vae": ["7", 2]}, "5", "latent is from a Text2Layer model"),
    "LayerDiff's VAE for guidance": ({**LAYERDIFF, "8": smg("1", "7"), "4.model": ["8", 0]}, "8",
                                     "VAE does not belong to this"),
    "a Text2Layer VAE for LayerDiff's guidance": ({**LAYERDIFF, "8": smg("7", "1"), "4.model": ["8", 0]}, "8",
                                                  "VAE is from a Text2Layer model"),
    "a LayerDiff model on its latent": ({**LAYERDIFF, "4.model": ["7", 0], "2.clip": ["7", 1], "9.clip": ["7", 1],
                                         "5.vae": ["7", 2]}, "5", "latent is from a Text2Layer model"),
    "a LayerDiff latent to decode": (
        {**LAYERDIFF, "8": node("LayerDiffEmptyLatent", vae=["7", 2], width=64, height=64, layers=3, scenes=1),
         "5.samples": ["8", 0]}, "5", "latent is from a LayerDiff model"),
    "a picture for VAE Encode": ({**PICTURE, "8": node("VAEEncode", pixels=["7", 0], vae=["1", 2]), "4.latent_image": ["8", 0]},
                                 "8", "encodes layers .7 channels.*Encode Layers"),
    "three layers to encode": ({**THREE_LAYERS, "33": node("LayerDiffEncodeLayers", layers=["32", 0], vae=["1", 2]),
                                "4.latent_image": ["33", 0]}, "33",
                               "3 layers were connected, but this Text2Layer model always has 2"),
    "free layers": ({"7": node("LayerDiffFreeLayers", samples=["3", 0], free="1"), "4.latent_image": ["7", 0]}, "7",
                    "cannot be freed.*Keep Layers"),
    "an adapter on a Text2Layer model": (
        {"7": node("LayerDiffApplyAdapter", model=["1", 0], adapter_name=STACKED), "4.model": ["7", 0]}, "7",
        "is a text2layer model, but a layerdiff model was expected"),
    "an adapter from a Text2Layer model": ({"7": node("LayerDiffCreateAdapter", model=["1", 0], name="new", seed=0)}, "7",
                                           "ordinary SD 1.5 MODEL.*Text2Layer"),
    "keep a LayerDiff model's layers": (keep(model=["7", 0]) | LAYERDIFF, "21", "not a Text2Layer model.*Free Layers"),
    "keep with LayerDiff's VAE": (keep(vae=["7", 2]) | LAYERDIFF, "21", "VAE does not belong to this"),
    "keep layers of another size": (keep(layers=["32", 0]) | LARGE, "4", "are 128 x 64 pixels.*latent is for 64 x 64"),
    "keep three layers' foregrounds": (keep(layers=["32", 0], keep="foregrounds") | THREE_LAYERS, "21",
                                       "3 layers to keep foregrounds from, but this model has 1"),
    "keep what is no part": (keep(keep="masks"), "21", "masks"),
    "keep a latent": (keep(layers=["3", 0]), "21", "LATENT"),
    "files above the output folder": (save("../../outside"), "7", "outside the output folder"),
    "a latent for layers": ({"6.layers": ["4", 0]}, "6", "LATENT"),
}


@pytest.mark.parametrize("name", CASES)
def test_graphs(server: Server, files: Path, name: str) -> None:
    changes, place, words = CASES[name]
    refuse(server, changed(stacked(), changes), place, words)


def test_good_graphs_still_run(server: Server, files: Path) -> None:
    assert len(server.client.run(stacked()).outputs["6"]["images"]) == 3
    assert len(server.client.run(changed(stacked(), keep())).outputs["6"]["images"]) == 3
    three = changed(stacked(TWO), {"3.layers": 3})
    assert len(server.client.run(three).outputs["6"]["images"]) == 4
