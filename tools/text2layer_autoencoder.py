"""The autoencoder's stages of Text2Layer training: autoencoder, decoder."""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from tools.training_world import TELL_EVERY, World, update

# isort: split
# ComfyUI and the pack can only be imported after training_world.
from layerdiff_pack.layerdiff_core.autoencoder import Layers
from layerdiff_pack.layerdiff_core.training import cat2i, losses, text2layer
from layerdiff_pack.layerdiff_core.training.layerdiff import Batch
from layerdiff_pack.layerdiff_core.training.run import Run
from layerdiff_pack.layerdiff_core.training.sheets import save_rows
from layerdiff_pack.layerdiff_core.whole import write_tensors
from layerdiff_pack.nodes.host import networks

AUTOENCODER_SEED, FRESH_SEED, DECODER_SEED = 201, 203, 205
ADVERSARIAL_FROM, NORMS_SETTLE_AT = 0.7, 0.8
AUTOENCODER_FILE = "autoencoder_average.safetensors"


def scenes(world: World, options: argparse.Namespace, count: int, seed: int) -> Iterator[Batch]:
    """Endless batches of `count` scenes, assembled by worker processes."""
    source = text2layer.FixedScenes(world.objects, world.bank["place"], world.bank["light"], world.vocabulary,
                                    foregrounds=options.foregrounds, count=count, seed=seed)
    return iter(DataLoader(source, batch_size=None, num_workers=1, prefetch_factor=4))


def train_autoencoder(world: World, options: argparse.Namespace) -> None:
    """Train CaT2I-AE with its full objective."""
    architecture = text2layer.architecture(options.foregrounds)
    model = networks.composition_autoencoder(architecture)
    networks.initialise(model)
    cat2i.initialise(model)
    start_from(model, options.start)
    fit_autoencoder(world, options, architecture, model)


def start_from(model: torch.nn.Module, path: str | None) -> None:
    """Start from the matching weights of a layered model's or a VAE's file."""
    if path:
        tensors = {name.removeprefix("vae."): value for name, value in load_file(path).items()}
        print(f"{len(cat2i.start_from(model, tensors))} of {len(model.state_dict())} tensors from {path}", flush=True)


def fit_autoencoder(world: World, options: argparse.Namespace, architecture: dict, model: Any, **terms: bool) -> None:
    """Train an autoencoder of stacked layers and write its averaged weights. terms: those of the objective, for comparisons."""
    seconds = options.minutes * 60
    renderer = world.renderer(AUTOENCODER_SEED + options.seed)
    drawings = renderer.draw_all(options.variants)
    fresh = fresh_scenes(world, options)
    run = Run(model.to(world.device, memory_format=torch.channels_last), world.folder / "autoencoder.safetensors", seconds,
              options.rate or 1e-3)
    discriminator = losses.PatchDiscriminator().to(world.device, memory_format=torch.channels_last)
    critic = Run(discriminator, world.folder / "discriminator.safetensors", seconds, 3e-4)
    objective = cat2i.AutoencoderObjective(model, discriminator, losses.RandomFeatures().to(world.device), **terms)
    batches = (text2layer.draw(renderer, drawings, batch)
               for batch in scenes(world, options, options.batch, run.step + options.seed))
    settled, sheet_at = not cat2i.norms(model), time.monotonic()  # a plain autoencoder has no batch norms

    def write() -> None:
        with run.averaged(), world.autocast():
            model.eval()
            run.tell(**autoencoder_sheet(model, fresh, world.folder / "autoencoder.png"))
            z = torch.cat([cat2i.encode(model, layers).cpu() for layers in fresh])
            write_average(model, world.folder / AUTOENCODER_FILE, architecture=architecture,
                          mean=z.mean((0, 2, 3)).tolist(), std=z.std((0, 2, 3)).tolist())
            model.train(not settled)

    while not run.done:
        progress = run.progress
        if progress >= NORMS_SETTLE_AT and not settled:
            with world.autocast():
                cat2i.settle_norms(model, list(itertools.islice(batches, 16)))
            settled = True
        layers = next(batches)
        step = update(world, objective, run, critic, layers, progress >= ADVERSARIAL_FROM)
        if run.step % TELL_EVERY == 0:
            figures = cat2i.reconstruction_figures(layers, step.found, step.image)
            run.tell(loss=step.reconstruction.item(), kl=step.kl.item(), **figures)
            if run.saved > critic.saved:
                critic.save()
        if time.monotonic() - sheet_at > options.sheet_seconds:
            write()
            sheet_at = time.monotonic()
    if not settled:  # a finished run was started again, and its state has no statistics
        with world.autocast():
            cat2i.settle_norms(model, list(itertools.islice(batches, 16)))
        settled = True
    write()
    run.save()
    critic.save()


def train_decoder(world: World, options: argparse.Namespace) -> None:
    """Train only CaT2I-AE's decoder, on noisy latents. The latents do not change, so models trained on them remain valid."""
    model, facts = load_autoencoder(world)
    renderer = world.renderer(DECODER_SEED)
    drawings = renderer.draw_all(options.variants)
    halves = torch.nn.ModuleDict({name: model.get_submodule(name) for name in ("decoder", "post_quant_conv", "heads")})
    run = Run(halves, world.folder / "decoder.safetensors", options.minutes * 60, options.rate or 5e-4)
    discriminator = losses.PatchDiscriminator().to(world.device, memory_format=torch.channels_last)
    critic = Run(discriminator, world.folder / "discriminator.safetensors", math.inf, 1e-4)
    objective = cat2i.AutoencoderObjective(model, discriminator, losses.RandomFeatures().to(world.device),
                                           latent_std=torch.tensor(facts["std"], device=world.device).view(1, -1, 1, 1))
    batches = scenes(world, options, options.batch, run.step + DECODER_SEED)
    while not run.done:
        step = update(world, objective, run, critic, text2layer.draw(renderer, drawings, next(batches)), adversarial=True)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=step.reconstruction.item())
    with run.averaged(), world.autocast():
        run.tell(**autoencoder_sheet(model, fresh_scenes(world, options), world.folder / "decoder.png"))
        write_average(model, world.folder / AUTOENCODER_FILE, **facts)
    run.save()


def fresh_scenes(world: World, options: argparse.Namespace) -> list[Layers]:
    """Newly drawn batches of training scenes, for evaluation."""
    renderer = world.renderer(FRESH_SEED)
    drawings = renderer.draw_all(1)
    batches = itertools.islice(scenes(world, options, 16, FRESH_SEED), 8)
    return [text2layer.draw(renderer, drawings, batch) for batch in batches]


def autoencoder_sheet(model: Any, fresh: list[Layers], path: Path) -> dict[str, float]:
    """Mean metrics over new scenes. Saves a sheet with the first ones above their reconstructions."""
    totals: dict[str, float] = {}
    for layers in fresh:
        figures = cat2i.reconstruction_figures(layers, *cat2i.decode(model, cat2i.encode(model, layers)))
        for name, value in figures.items():
            totals[f"fresh_{name}"] = totals.get(f"fresh_{name}", 0.0) + value / len(fresh)
    few = Layers(fresh[0].foregrounds[:8], fresh[0].background[:8], fresh[0].masks[:8])
    pairs = zip(text2layer.sheet_rows(few, few.composite()),
                text2layer.sheet_rows(*cat2i.decode(model, cat2i.encode(model, few))))
    save_rows([row for pair in pairs for row in pair], path)
    return totals


def load_autoencoder(world: World, model: Any = None) -> tuple[Any, dict[str, Any]]:
    """The averaged autoencoder of the earlier stage, frozen, and the facts stored with it. model: the network to load the weights
    into, if it is not CaT2I-AE."""
    path = world.folder / AUTOENCODER_FILE
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
    model = model or networks.composition_autoencoder(facts["architecture"])
    model.load_state_dict(load_file(path))
    return frozen(model, world), facts


def frozen(model: Any, world: World) -> Any:
    return model.float().to(world.device, memory_format=torch.channels_last).eval().requires_grad_(False)


def write_average(model: torch.nn.Module, path: Path, **facts: object) -> None:
    """Write the averaged weights, which `model` currently has, in half precision. Statistics of batch norms are not converted."""
    tensors = {name: value.half() if value.is_floating_point() and "running" not in name else value
               for name, value in model.state_dict().items()}
    write_tensors(path, tensors, {"facts": json.dumps(facts)})
