"""Small layered graphs in API format, with random models; functions to modify them, and to check how invalid ones fail."""

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.client import NodeFailed, PromptRefused
from tools.host import Server

Graph = dict[str, dict[str, Any]]
STARTER = "random.safetensors"
STACKED = "random_text2layer.safetensors"
BIG = 999_999_999_999


def layered(model: str = STARTER) -> Graph:
    """Three layers, one step, ComfyUI's KSampler."""
    return {
        "1": node("LayerDiffLoadModel", model_name=model),
        "2": node("LayerDiffEncodePrompts", clip=["1", 1], enhancer=["1", 3], global_prompt="a fox", enhancer_strength=1.0,
                  layer_prompts="background: a green meadow\nballoon: a red balloon\nfox: a fox", negative_prompt=""),
        "3": node("LayerDiffEmptyLatent", vae=["1", 2], width=64, height=64, layers=["2", 2], scenes=1),
        "4": node("KSampler", model=["1", 0], positive=["2", 0], negative=["2", 1], latent_image=["3", 0], seed=1, steps=1,
                  cfg=2.0, sampler_name="euler", scheduler="normal", denoise=1.0),
        "5": node("LayerDiffDecodeLayers", samples=["4", 0], vae=["1", 2], names=["2", 3], centre=0.5, softness=0.4, scene=0),
        "6": node("LayerDiffPreviewLayers", layers=["5", 0], colour_space="display"),
    }


def stacked(model: str = STACKED) -> Graph:
    """The same with a Text2Layer model with one foreground."""
    graph = layered(model)
    graph["2"] = node("CLIPTextEncode", clip=["1", 1], text="a fox with a green meadow")
    graph["9"] = node("CLIPTextEncode", clip=["1", 1], text="")
    graph["4"]["inputs"] |= {"positive": ["2", 0], "negative": ["9", 0], "sampler_name": "ddim"}
    graph["3"]["inputs"]["layers"], graph["5"]["inputs"]["names"] = 2, "meadow\nfox"
    return graph


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def changed(graph: Graph, changes: dict[str, Any]) -> Graph:
    """A copy with inputs ("2.layer_prompts": value) or whole nodes ("7": node(...)) set."""
    graph = copy.deepcopy(graph)
    for place, value in changes.items():
        number, _, name = place.partition(".")
        if name:
            graph[number]["inputs"][name] = value
        else:
            graph[number] = value
    return graph


def number(value: int) -> dict[str, Any]:
    """A number over a link, which ComfyUI does not check against the input's limits."""
    return {"8": node("PrimitiveInt", value=value)}


def load(latent: str) -> dict[str, Any]:
    """One of the latents that `write_latents` wrote."""
    return {"7": node("LoadLatent", latent=f"{latent}.latent")}


def save(prefix: str) -> dict[str, Any]:
    """The layers saved under a name."""
    return {"7": node("LayerDiffSaveLayers", layers=["5", 0], filename_prefix=prefix, colour_space="display")}


def write_latents(server: Server, latents: dict[str, Tensor]) -> None:
    """Write latents to the folder of ComfyUI's Load Latent."""
    for name, latent in latents.items():
        save_file({"latent_tensor": latent, "latent_format_version_0": torch.zeros(0)}, server.data / "input" / f"{name}.latent")


def refuse(server: Server, graph: dict, number: str, words: str) -> None:
    """Run a graph that must fail at this node with this message, whether it comes from ComfyUI or the pack."""
    with pytest.raises((NodeFailed, PromptRefused), match=f"(?s){words}") as caught:
        server.client.run(graph)
    if isinstance(caught.value, NodeFailed):
        assert caught.value.node == number
        assert caught.value.kind in ("ValueError", "Exception"), caught.value.kind
        assert len(caught.value.message) < 900
    else:
        assert number in caught.value.errors["node_errors"]
    assert server.is_alive()
