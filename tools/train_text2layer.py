"""Train the Text2Layer starter model in stages: autoencoder, unet, decoder. An interrupted stage is resumed. `export` writes
the file."""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from tools.arguments import a_count, a_file, a_number, check_stages
from tools.text2layer_autoencoder import (
    AUTOENCODER_FILE,
    fresh_scenes,
    load_autoencoder,
    scenes,
    start_from,
    train_autoencoder,
    train_decoder,
    write_average,
)
from tools.training_world import MODELS, TELL_EVERY, World, add_common_arguments, prepare_torch

# isort: split
# ComfyUI and the pack can only be imported after training_world.
import comfy.ops
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from layerdiff_pack.layerdiff_core import checkpoint
from layerdiff_pack.layerdiff_core.data.scenes import sample_scene
from layerdiff_pack.layerdiff_core.data.words import captions
from layerdiff_pack.layerdiff_core.training import cat2i, diffusion, text2layer
from layerdiff_pack.layerdiff_core.training.layerdiff import sample
from layerdiff_pack.layerdiff_core.training.run import Run, leave_on_signals
from layerdiff_pack.layerdiff_core.training.sheets import save_rows
from layerdiff_pack.layerdiff_core.whole import write_text
from layerdiff_pack.nodes.host import networks

UNET_SEED, FILL_SEED = 202, 204
UNET_FILE = "unet_average.safetensors"
STARTERS = {1: "text2layer_starter.safetensors", 2: "text2layer_two_foregrounds.safetensors"}
SHEET_PROMPTS = 8


def train_unet(world: World, options: argparse.Namespace) -> None:
    """Train UNet and text encoder on the latents of the earlier stage's autoencoder."""
    fit_unet(world, options, *load_autoencoder(world))


def fit_unet(world: World, options: argparse.Namespace, decoder: Any, facts: dict[str, Any]) -> None:
    """Train UNet and text encoder on the latents of a frozen autoencoder, and write their averaged weights."""
    architecture = facts["architecture"]
    mean, std = (torch.tensor(facts[name], device=world.device).view(1, -1, 1, 1) for name in ("mean", "std"))
    started, empty = time.monotonic(), torch.from_numpy(world.vocabulary.rows("")).to(world.device)
    renderer = world.renderer(UNET_SEED + options.seed)
    pool = text2layer.ScenePool(renderer, renderer.draw_all(options.variants), decoder, options.scenes, mean.numel(),
                                len(empty))
    with world.autocast():
        for batch in scenes(world, options, options.refresh, FILL_SEED + options.seed):
            pool.add(batch)
            if pool.filled >= options.scenes // 8:
                break
    print(f"{pool.filled} scenes in {time.monotonic() - started:.0f} s", flush=True)
    model = text2layer_model(world, architecture)
    start_from(model, options.start)
    run = Run(model.to(world.device, memory_format=torch.channels_last), world.folder / "unet.safetensors",
              options.minutes * 60, options.rate or 1e-3)
    batches = scenes(world, options, options.refresh, run.step + options.seed)
    alphas = diffusion.sd_alphas_cumprod(world.device)
    sheet_at, total = time.monotonic(), torch.zeros((), device=world.device)

    def write() -> None:
        with run.averaged(), world.autocast():
            unet_sheet(world, options, model, decoder, (mean, std), empty, alphas)
            write_average(model, world.folder / UNET_FILE, step=run.step)

    while not run.done:
        with world.autocast():
            pool.add(next(batches))
            z, rows, weights = pool.sample(options.batch)
            loss = text2layer.text2layer_loss(model, (z - mean) / std, rows, weights, empty, alphas, architecture["prediction"])
        run.update(loss)
        total += loss.detach()
        if run.step % TELL_EVERY == 0:
            run.tell(loss=total.item() / TELL_EVERY)
            total.zero_()
        if time.monotonic() - sheet_at > options.sheet_seconds:
            write()
            sheet_at = time.monotonic()
    write()
    run.save()


def text2layer_model(world: World, architecture: dict[str, Any]) -> text2layer.Text2Layer:
    """A UNet and text encoder with initial weights."""
    model = text2layer.Text2Layer(UNetModel(**architecture["unet"], dtype=torch.float32,
                                            operations=comfy.ops.disable_weight_init),
                                  networks.trainable_text_model(architecture, len(world.vocabulary)))
    networks.initialise(model.unet)
    return model


@torch.no_grad()
def unet_sheet(world: World, options: argparse.Namespace, model: text2layer.Text2Layer, decoder: Any,
               statistics: tuple[torch.Tensor, torch.Tensor], empty: torch.Tensor, alphas: torch.Tensor) -> None:
    """Save samples for eight held-out prompts, one per column, with the prompts in a text file next to the image."""
    rng = np.random.default_rng(1)
    prompts = []
    for _ in range(SHEET_PROMPTS):
        scene = sample_scene(rng, world.objects, options.foregrounds + 1, heldout=True)
        prompts.append(captions(scene, world.objects, rng, shuffled=False)[0])
    rows = torch.from_numpy(np.array([world.vocabulary.rows(prompt) for prompt in prompts])).to(world.device)
    mean, std = statistics
    side = text2layer.CANVAS // 8
    z = sample(model, model.encode(rows), model.encode(empty[None]), (len(rows), mean.numel(), side, side), 1, 25, 4.0,
               alphas, torch.Generator(world.device).manual_seed(1))
    save_rows(text2layer.sheet_rows(*cat2i.decode(decoder, z * std + mean)), world.folder / "scenes.png")
    write_text(world.folder / "scenes.txt", "\n".join(prompts))


def export(world: World, options: argparse.Namespace) -> None:
    """Write the starter to models/, in half precision, with the measurements on the finished autoencoder."""
    decoder, facts = load_autoencoder(world)
    mean, std = (torch.tensor(facts[name], device=world.device) for name in ("mean", "std"))
    latent = {"mean": facts["mean"], "std": facts["std"],
              **cat2i.latent_maps(decoder, fresh_scenes(world, options), mean, std)}
    architecture = {**facts["architecture"], "latent": {**facts["architecture"]["latent"], **latent}}
    tensors = {f"vae.{name}": value for name, value in decoder.weights().items()} | load_file(world.folder / UNET_FILE)
    tensors = {name: value if "running" in name else value.half() for name, value in tensors.items()}
    tensors["text.token_ids"] = world.vocabulary.token_ids
    header = checkpoint.Header("text2layer", "complete", architecture, options.foregrounds + 1, "from scratch",
                               "MIT (models/ATTRIBUTION.md)", "scenes rendered by this pack, see models/README.md")
    path = Path(options.file or MODELS / STARTERS.get(options.foregrounds, f"text2layer_{options.foregrounds}.safetensors"))
    checkpoint.write(path, header, tensors)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


STAGES = {"autoencoder": train_autoencoder, "unet": train_unet, "decoder": train_decoder, "export": export}
NEEDED = {"unet": {AUTOENCODER_FILE: "autoencoder"}, "decoder": {AUTOENCODER_FILE: "autoencoder"},
          "export": {AUTOENCODER_FILE: "autoencoder", UNET_FILE: "unet"}}
"""For each stage, the files it needs and the stages that write them."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser, "text2layer", objects=48)
    parser.add_argument("--batch", type=a_count(), default=16, help="scenes per step")
    parser.add_argument("--foregrounds", type=a_count(1, 49), default=1, help="foregrounds per scene")
    parser.add_argument("--scenes", type=a_count(8), default=16000, help="number of encoded scenes kept for the UNet")
    parser.add_argument("--refresh", type=a_count(), default=8, help="scenes replaced at each step of the UNet")
    parser.add_argument("--rate", type=a_number(0), default=0, help="maximum learning rate; 0: the default of the stage")
    parser.set_defaults(seed=0, start=None)
    return parser


def main() -> None:
    parser = arguments()
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--start", type=a_file,
                        help="model file to start from, as far as its weights fit, for example the starter with one foreground "
                        "for a model with two")
    parser.add_argument("--file", help="file that export writes, instead of the starter model in models/")
    options = parser.parse_args()
    check_stages(parser, "train-text2layer", options.stage, NEEDED.get(options.stage, {}), Path(options.out))
    leave_on_signals()
    prepare_torch()
    STAGES[options.stage](World(options, text2layer.CANVAS), options)


if __name__ == "__main__":
    main()
