"""A small layered graph in the API's format, over a model of random weights, and changes to it."""

import copy
from typing import Any

Graph = dict[str, dict[str, Any]]
STARTER = "random.safetensors"


def layered(model: str = STARTER) -> Graph:
    """Three layers, one step, the host's KSampler."""
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
