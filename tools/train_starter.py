"""Train the starter model in stages: vae, text, unet, decoder, evaluator. `all` runs them in this order within the given minutes
and exports. An interrupted stage is resumed. `show` measures the autoencoder, `export` writes the files."""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tools import setup
from tools.arguments import a_count, a_file, a_number, check_stages
from tools.starter_autoencoder import HELD_OUT_SEED, RENEWED, VAE_SEED, show_vae, train_decoder, train_vae
from tools.training_world import MODELS, TELL_EVERY, World, add_common_arguments, average_of, prepare_torch

# isort: split
# ComfyUI and the pack can only be imported after training_world.
from layerdiff_pack.layerdiff_core import checkpoint
from layerdiff_pack.layerdiff_core.data.backgrounds import PLACES
from layerdiff_pack.layerdiff_core.evaluator import Evaluator
from layerdiff_pack.layerdiff_core.training import diffusion, starter, teach, vae
from layerdiff_pack.layerdiff_core.training.evaluator import evaluator_loss, heldout_figures
from layerdiff_pack.layerdiff_core.training.layerdiff import LayerDiff, layerdiff_loss
from layerdiff_pack.layerdiff_core.training.pool import LatentPool
from layerdiff_pack.layerdiff_core.training.render import Ring
from layerdiff_pack.layerdiff_core.training.run import Run, leave_on_signals, seconds_spent
from layerdiff_pack.layerdiff_core.training.sheets import scene_sheet
from layerdiff_pack.layerdiff_core.training.start import start_from
from layerdiff_pack.layerdiff_core.whole import write_tensors

EXAMINED = 200
EVALUATOR_SEED, UNET_SEED = 101, 103
SHARES = {"vae": 0.17, "text": 0.08, "unet": 0.6, "decoder": 0.09, "evaluator": 0.06}
"""How `all` divides the minutes, in the order of the stages. The decoder comes last, for the noise that the UNet leaves."""
STATES = {"unet": "layerdiff"}
"""Names of state files that differ from the stage's name."""


def train_evaluator(world: World, options: argparse.Namespace) -> None:
    renderer = world.renderer(EVALUATOR_SEED)
    ring = Ring(renderer, options.ring)
    model = Evaluator(len(world.objects), len(PLACES)).to(world.device, memory_format=torch.channels_last)
    run = Run(model, world.folder / "evaluator.safetensors", options.minutes * 60, 2e-3)
    while not run.done:
        ring.renew(options.batch // RENEWED)
        with world.autocast():
            loss, figures = evaluator_loss(model, renderer, ring, options.batch)
        run.update(loss)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=loss.item(), **figures)
    other = world.renderer(HELD_OUT_SEED)
    with run.averaged():
        figures = heldout_figures(model, other, other.draw_all(1), 20, options.batch)
        run.tell(**{f"heldout_{k}": v for k, v in figures.items()})
    run.save()


def train_text(world: World, options: argparse.Namespace) -> None:
    """Train text encoder and enhancer, before the UNet, to predict what the global prompt says about each layer."""
    side = world.new_text_side().to(world.device)
    begin(side, world, options)
    held = copy.deepcopy(side).requires_grad_(False) if options.start else None
    teacher = teach.Teacher(side, starter.CONTEXT).to(world.device)
    run = Run(teacher, world.folder / "text.safetensors", options.minutes * 60, options.rate or 1e-3)
    for batch in world.scenes(options.batch, run.step, teach.SHARES):
        if run.done:
            break
        with world.autocast():
            plain = held.context(batch.rows, batch.global_rows)[1].float() if held else None
            loss, figures = teach.teaching_loss(teacher, batch, plain)
        run.update(loss)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=loss.item(), layers=batch.layers, **figures)
    with run.averaged(), world.autocast(), torch.no_grad():
        for layers in range(2, starter.MAX_LAYERS + 1):
            batch = world.scene_source(0, HELD_OUT_SEED).batch(layers, EXAMINED, np.random.default_rng(HELD_OUT_SEED))
            batch = batch.to(world.device)
            run.tell(layers=layers, **teach.told_right(teacher(batch)[0], batch))
    run.save()


def begin(parts: nn.Module, world: World, options: argparse.Namespace) -> None:
    """Start from another model's weights if --start is given."""
    if options.start:
        taken = start_from(parts, Path(options.start), world.vocabulary)
        print(f"{taken} of {len(parts.state_dict())} tensors from {options.start}", flush=True)


def train_unet(world: World, options: argparse.Namespace) -> None:
    latent = json.loads((world.folder / "latent.json").read_text())
    mean, std = torch.tensor(latent["mean"]), torch.tensor(latent["std"])
    decoder, pool = world.trained_vae(), latent_pool(world, options, mean, std)
    side = world.new_text_side()
    parts = LayerDiff(world.new_unet(), side.text, side.enhancer)
    begin(parts, world, options)
    taught = world.folder / "text.safetensors"
    if taught.exists():
        side.load_state_dict({name.removeprefix("side."): value for name, value in average_of(taught).items()
                              if name.startswith("side.")})
    parts = parts.to(world.device, memory_format=torch.channels_last)
    run = Run(parts, world.folder / "layerdiff.safetensors", options.minutes * 60, options.rate or 2e-3)
    alphas = diffusion.sd_alphas_cumprod(world.device)
    empty = torch.from_numpy(world.vocabulary.rows("")).to(world.device)
    total, sheet_at = torch.zeros((), device=world.device), time.monotonic()

    def draw() -> None:
        with run.averaged(), world.autocast():
            scene_sheet(parts, decoder, mean, std, world.objects, world.vocabulary, alphas,
                        world.folder / f"scenes_{run.step}.png")

    for batch in world.scenes(options.batch, run.step):
        if run.done:
            break
        x0, coverage = pool.scenes(batch.place, batch.side, batch.foregrounds)
        with world.autocast():
            loss = layerdiff_loss(parts, x0, coverage, batch, empty, alphas, starter.ARCHITECTURE["prediction"],
                                  options.pure_noise)
        run.update(loss)
        total += loss.detach()
        if run.step % TELL_EVERY == 0:
            run.tell(loss=total.item() / TELL_EVERY)
            total.zero_()
        if time.monotonic() - sheet_at > options.sheet_seconds:
            draw()
            sheet_at = time.monotonic()
    draw()
    run.save()


def latent_pool(world: World, options: argparse.Namespace, mean: torch.Tensor, std: torch.Tensor) -> LatentPool:
    """The trained autoencoder's pool, loaded from its file if that was made with the same autoencoder and world."""
    path = world.folder / "pool.safetensors"
    key = f"{mean.sum().item():.6f} {std.sum().item():.6f} {options.objects} {options.styles} {options.variants}"
    pool = LatentPool.load(path, key, world.device)
    if pool is None:
        started, renderer = time.monotonic(), world.renderer(UNET_SEED)
        with world.autocast(), torch.no_grad():
            pool = LatentPool.build(renderer, options.variants, world.trained_vae(), mean, std)
        pool.save(path, key)
        print(f"pool of {pool.tensors['things'].shape[1]} drawings in {time.monotonic() - started:.0f} s", flush=True)
    return pool


def export(world: World, options: argparse.Namespace) -> None:
    """Write the starter and, if it has been trained, its judge, in half precision."""
    latent = json.loads((world.folder / "latent.json").read_text())
    network = world.trained_vae()
    renderer = world.renderer(VAE_SEED)
    pixels = next(vae.pictures(renderer, Ring(renderer, 64), 64)).pixels
    factors, bias = vae.preview_factors(network, pixels, torch.tensor(latent["mean"]), torch.tensor(latent["std"]))
    architecture = {**starter.ARCHITECTURE, "latent": {**starter.ARCHITECTURE["latent"], **latent,
                                                       "rgb_factors": factors, "rgb_bias": bias}}
    trained = average_of(world.folder / "layerdiff.safetensors")
    tensors = {f"vae.{k}": v for k, v in network.state_dict().items()} | trained
    tensors = {name: tensor.half() for name, tensor in tensors.items()}
    tensors["text.token_ids"] = world.vocabulary.token_ids
    header = checkpoint.Header("layerdiff", "complete", architecture, starter.MAX_LAYERS, "from scratch",
                               "MIT (models/ATTRIBUTION.md)", "scenes rendered by this pack, see models/README.md")
    checkpoint.write(Path(options.models) / "layerdiff_starter.safetensors", header, tensors)
    trained_judge = world.folder / "evaluator.safetensors"
    if trained_judge.exists():
        judge = {name: tensor.half() for name, tensor in average_of(trained_judge).items()}
        write_tensors(Path(options.judges) / "evaluator.safetensors", judge, {
            "objects": json.dumps(world.objects.names), "places": json.dumps(list(PLACES))})


def train_all(world: World, options: argparse.Namespace) -> None:
    """Run all stages and the export, skipping stages that are complete."""
    minutes = options.minutes
    for stage, share in SHARES.items():
        options.minutes = minutes * share
        state = world.folder / f"{STATES.get(stage, stage)}.safetensors"
        if not state.exists() or seconds_spent(state) < options.minutes * 60:
            STAGES[stage](world, options)
    export(world, options)


STAGES = {"all": train_all, "vae": train_vae, "decoder": train_decoder, "show": show_vae, "text": train_text, "unet": train_unet,
          "evaluator": train_evaluator, "export": export}
NEEDED = {"decoder": {"latent.json": "vae"}, "show": {"vae.safetensors": "vae"}, "unet": {"latent.json": "vae"},
          "export": {"latent.json": "vae", "layerdiff.safetensors": "unet"}}
"""For each stage, the files it needs and the stages that write them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    add_common_arguments(parser, "starter", objects=64)
    parser.add_argument("--models", default=str(MODELS), help="folder to which export writes the starter model")
    parser.add_argument("--judges", default=str(setup.ROOT / "benchmarks"), help="folder to which export writes the judge")
    parser.add_argument("--batch", type=a_count(16), help="images or layers per step; 48 on a CPU, 256 elsewhere")
    parser.add_argument("--rate", type=a_number(0, above=True),
                        help="maximum learning rate, instead of the default of the stage")
    parser.add_argument("--start", type=a_file, help="layered model file to start text and UNet from, as far as its weights fit")
    parser.add_argument("--pure-noise", type=a_number(0, 1), default=0.5,
                        help="fraction of scenes that the UNet sees as pure noise")
    parser.add_argument("--threads", type=a_count(0), default=0, help="number of CPU threads; 0: one per core")
    parser.add_argument("--ring", type=a_count(), default=1024, help="number of foregrounds kept in memory for the autoencoder")
    options = parser.parse_args()
    check_stages(parser, "train-starter", options.stage, NEEDED.get(options.stage, {}), Path(options.out))
    options.batch = options.batch or (48 if torch.device(options.device).type == "cpu" else 256)
    leave_on_signals()
    prepare_torch()
    if options.threads:
        torch.set_num_threads(options.threads)
    STAGES[options.stage](World(options), options)


if __name__ == "__main__":
    main()
