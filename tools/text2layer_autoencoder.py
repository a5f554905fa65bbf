"""The autoencoder's stages of Text2Layer training: autoencoder, decoder."""

import argparse
import json
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tools.training_world import World, plan_of

# isort: split
# ComfyUI and the pack can only be imported after training_world.
from layerdiff_pack.layerdiff_core.training import cat2i, text2layer
from layerdiff_pack.layerdiff_core.training.loops.composition import AVERAGE_FILE, decoder_of, fit_autoencoder, fit_decoder
from layerdiff_pack.layerdiff_core.training.run import Run
from layerdiff_pack.nodes.host import networks


def train_autoencoder(world: World, options: argparse.Namespace) -> None:
    """Train CaT2I-AE with its full objective."""
    architecture = text2layer.architecture(options.foregrounds)
    model = networks.composition_autoencoder(architecture)
    networks.initialise(model)
    cat2i.initialise(model)
    start_from(model, options.start)
    fit(world, options, architecture, model)


def start_from(model: torch.nn.Module, path: str | None) -> None:
    """Start from the matching weights of a layered model's or a VAE's file."""
    if path:
        tensors = {name.removeprefix("vae."): value for name, value in load_file(path).items()}
        print(f"{len(cat2i.start_from(model, tensors))} of {len(model.state_dict())} tensors from {path}", flush=True)


def fit(world: World, options: argparse.Namespace, architecture: dict, model: Any, **terms: bool) -> None:
    """Train an autoencoder of stacked layers and write its averaged weights. terms: those of the objective, for comparisons."""
    plan = plan_of(options, 1e-3)
    run = Run(world.placed(model), world.folder / "autoencoder.safetensors", plan.seconds, plan.rate)
    fit_autoencoder(world, plan, run, model, architecture, options.foregrounds, options.variants, options.seed, **terms)


def train_decoder(world: World, options: argparse.Namespace) -> None:
    """Train only CaT2I-AE's decoder, on noisy latents."""
    model, facts = load_autoencoder(world)
    plan = plan_of(options, 5e-4)
    run = Run(decoder_of(model), world.folder / "decoder.safetensors", plan.seconds, plan.rate)
    fit_decoder(world, plan, run, model, facts, options.foregrounds, options.variants)


def load_autoencoder(world: World, model: Any = None) -> tuple[Any, dict[str, Any]]:
    """The averaged autoencoder of the earlier stage, frozen, and the facts stored with it. model: the network to load the weights
    into, if it is not CaT2I-AE."""
    path = world.folder / AVERAGE_FILE
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
    model = model or networks.composition_autoencoder(facts["architecture"])
    model.load_state_dict(load_file(path))
    return frozen(model, world), facts


def frozen(model: Any, world: World) -> Any:
    return world.placed(model.float()).train(False).requires_grad_(False)
