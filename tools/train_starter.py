"""Train the starter model in stages: vae, text, unet, decoder, evaluator. `all` runs them in this order within the given minutes
and exports. An interrupted stage is resumed. `show` measures the autoencoder, `export` writes the files."""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from tools import setup
from tools.arguments import a_count, a_file, a_number, check_stages
from tools.starter_autoencoder import HELD_OUT_SEED, VAE_SEED, show_vae, train_decoder, train_vae
from tools.training_world import MODELS, World, add_common_arguments, plan_of, prepare_torch

# isort: split
# ComfyUI and the pack can only be imported after training_world.
from layerdiff_pack.layerdiff_core import checkpoint
from layerdiff_pack.layerdiff_core.evaluation.heldout import heldout_figures
from layerdiff_pack.layerdiff_core.evaluator import Evaluator
from layerdiff_pack.layerdiff_core.training import starter, teach, vae
from layerdiff_pack.layerdiff_core.training.layerdiff import LayerDiff
from layerdiff_pack.layerdiff_core.training.loops.judge import fit_evaluator
from layerdiff_pack.layerdiff_core.training.loops.layers import fit_layers
from layerdiff_pack.layerdiff_core.training.loops.text import fit_text, held
from layerdiff_pack.layerdiff_core.training.pool import LatentPool
from layerdiff_pack.layerdiff_core.training.run import Run, average_of, leave_on_signals, seconds_spent
from layerdiff_pack.layerdiff_core.training.start import start_from
from layerdiff_pack.layerdiff_core.whole import write_tensors
from layerdiff_pack.layerdiff_core.world.backgrounds import PLACES
from layerdiff_pack.layerdiff_core.world.renderer import Ring

EVALUATOR_SEED, UNET_SEED = 101, 103
EVALUATOR_RATE = 2e-3
SHARES = {"vae": 0.17, "text": 0.08, "unet": 0.6, "decoder": 0.09, "evaluator": 0.06}
"""How `all` divides the minutes, in the order of the stages. The decoder comes last, for the noise that the UNet leaves."""
STATES = {"unet": "layerdiff"}
"""Names of state files that differ from the stage's name."""


def train_evaluator(world: World, options: argparse.Namespace) -> None:
    plan = plan_of(options, EVALUATOR_RATE)
    model = world.placed(Evaluator(len(world.objects), len(PLACES)))
    run = Run(model, world.folder / "evaluator.safetensors", plan.seconds, EVALUATOR_RATE)
    fit_evaluator(world, plan, run, model, EVALUATOR_SEED, options.ring)
    other = world.renderer(HELD_OUT_SEED)
    with run.averaged():
        figures = heldout_figures(model, other, other.draw_all(1), 20, options.batch)
        run.tell(**{f"heldout_{k}": v for k, v in figures.items()})
    run.save()


def train_text(world: World, options: argparse.Namespace) -> None:
    """Train text encoder and enhancer, before the UNet, to predict what the global prompt says about each layer."""
    plan = plan_of(options, 1e-3)
    side = world.new_text_side().to(world.device)
    begin(side, world, options)
    start = held(side) if options.start else None
    teacher = teach.Teacher(side, starter.CONTEXT).to(world.device)
    run = Run(teacher, world.folder / "text.safetensors", plan.seconds, plan.rate)
    fit_text(world, plan, run, teacher, start, HELD_OUT_SEED)
    run.save()


def begin(parts: nn.Module, world: World, options: argparse.Namespace) -> None:
    """Start from another model's weights if --start is given."""
    if options.start:
        taken = start_from(parts, Path(options.start), world.vocabulary)
        print(f"{taken} of {len(parts.state_dict())} tensors from {options.start}", flush=True)


def train_unet(world: World, options: argparse.Namespace) -> None:
    plan = plan_of(options, 2e-3)
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
    run = Run(world.placed(parts), world.folder / "layerdiff.safetensors", plan.seconds, plan.rate)
    fit_layers(world, plan, run, parts, decoder, pool, (mean, std), options.pure_noise)
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
