"""The autoencoder's stages of starter training: vae, decoder, show."""

import argparse
import json
import time
from typing import Any

import torch
from torch import nn

from tools.training_world import TELL_EVERY, World, update

# isort: split
# ComfyUI and the pack can be imported once training_world has been
from layerdiff_pack.layerdiff_core.data.render import compose
from layerdiff_pack.layerdiff_core.evaluation.reconstruction import reconstruction_figures
from layerdiff_pack.layerdiff_core.evaluation.renders import held_out_renderer
from layerdiff_pack.layerdiff_core.training import losses, starter, vae
from layerdiff_pack.layerdiff_core.training.render import Items, Ring
from layerdiff_pack.layerdiff_core.training.run import Run
from layerdiff_pack.layerdiff_core.training.sheets import autoencoder_sheet, decode
from layerdiff_pack.layerdiff_core.whole import write_text

CROPS_UNTIL, ADVERSARIAL_FROM = 0.75, {"vae": 0.8, "decoder": 0.1}
RENEWED = 16
SHOWN, SHEETS = 8, 4
VAE_SEED, HELD_OUT_SEED, DECODER_SEED = 102, 104, 105


def train_vae(world: World, options: argparse.Namespace) -> None:
    model = world.new_vae()
    run = Run(model, world.folder / "vae.safetensors", options.minutes * 60, options.rate or 2e-3)
    fit_pictures(world, options, run, model, VAE_SEED)
    with run.averaged():
        run.tell(**kept(world, model))
    renderer = world.renderer(HELD_OUT_SEED)
    batches = vae.pictures(renderer, Ring(renderer, 128), 32)
    with run.averaged():
        mean, std = vae.latent_statistics(model, batches)
    write_text(world.folder / "latent.json", json.dumps({"mean": mean, "std": std}))
    run.save()


def train_decoder(world: World, options: argparse.Namespace) -> None:
    """Train only the decoder, for sharper images. The latents do not change, so models trained on them remain valid."""
    network = world.trained_vae()
    std = torch.tensor(json.loads((world.folder / "latent.json").read_text())["std"], device=world.device)
    decoder = nn.ModuleDict({name: getattr(network, name) for name in ("decoder", "post_quant_conv", "refine")})
    run = Run(decoder, world.folder / "decoder.safetensors", options.minutes * 60, options.rate or 1e-3)
    fit_pictures(world, options, run, network, DECODER_SEED, std.view(1, -1, 1, 1))
    with run.averaged():
        run.tell(**kept(world, network))
    run.save()


def show_vae(world: World, options: argparse.Namespace) -> None:
    """Print the autoencoder's current reconstruction metrics on held-out renders, and save images of faces and places."""
    network, generator = world.trained_vae(), torch.Generator().manual_seed(HELD_OUT_SEED)
    print(kept(world, network), flush=True)
    renderer = world.renderer(HELD_OUT_SEED)
    for part in range(SHEETS):
        things = torch.randperm(len(world.objects), generator=generator)[:SHOWN].to(world.device)
        zeros = torch.zeros_like(things)
        picture, coverage = renderer.foregrounds(Items(things, zeros, zeros + part % 3, zeros + 1, zeros + 1, zeros))
        place, _ = renderer.places(SHOWN)
        with world.autocast():
            autoencoder_sheet(network, compose(place, [picture], [coverage]), world.folder / f"faces_{part}.png")


@torch.no_grad()
def kept(world: World, network: Any) -> dict[str, float]:
    """An autoencoder's reconstruction metrics on held-out renders."""
    renderer = held_out_renderer(world.objects, world.data, world.canvas, world.device)

    def through(pictures: torch.Tensor) -> torch.Tensor:
        with world.autocast():
            return decode(network, vae.encode(network, pictures.contiguous(memory_format=torch.channels_last)))

    return reconstruction_figures(through, renderer)


def fit_pictures(world: World, options: argparse.Namespace, run: Run, network: Any, seed: int,
                 latent_std: torch.Tensor | None = None) -> None:
    """Train an autoencoder, or its decoder, until the run's time is up: first on crops, at the end on whole canvases."""
    renderer = world.renderer(seed + run.step)
    ring = Ring(renderer, options.ring)
    batches, whole = (vae.pictures(renderer, ring, count) for count in (options.batch, options.batch // 4))
    discriminator = losses.PatchDiscriminator().to(world.device, memory_format=torch.channels_last)
    critic = Run(discriminator, world.folder / f"{run.path.stem}_critic.safetensors", options.minutes * 60, 3e-4)
    features = losses.RandomFeatures().to(world.device, memory_format=torch.channels_last)
    objective = vae.AutoencoderObjective(network, discriminator, features, latent_std)
    shown, sheet_at = next(whole).pixels, time.monotonic()

    def draw() -> None:
        with run.averaged(), world.autocast():
            autoencoder_sheet(network, shown, run.path.with_suffix(".png"))

    while not run.done:
        ring.renew(options.batch // RENEWED)
        in_crops = run.progress < CROPS_UNTIL
        batch = vae.crop(next(batches), starter.CANVAS // 2, renderer.generator) if in_crops else next(whole)
        batch.pixels = batch.pixels.contiguous(memory_format=torch.channels_last)
        adversarial = run.progress >= ADVERSARIAL_FROM[run.path.stem]
        step = update(world, objective, run, critic, batch, adversarial)
        if run.step % TELL_EVERY == 0:
            run.tell(**{name: value.item() for name, value in step.figures.items()})
            if run.saved > critic.saved:
                critic.save()
        if time.monotonic() - sheet_at > options.sheet_seconds:
            draw()
            sheet_at = time.monotonic()
    draw()
    critic.save()
