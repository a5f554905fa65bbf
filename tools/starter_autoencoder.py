"""The autoencoder's stages of starter training: vae, decoder, show."""

import argparse
import json
from typing import Any

import torch
from torch import nn

from tools.training_world import World, plan_of

# isort: split
# ComfyUI and the pack can be imported once training_world has been
from layerdiff_pack.layerdiff_core.evaluation.reconstruction import reconstruction_figures
from layerdiff_pack.layerdiff_core.evaluation.renders import held_out_renderer
from layerdiff_pack.layerdiff_core.training import vae
from layerdiff_pack.layerdiff_core.training.loops.pictures import fit_pictures
from layerdiff_pack.layerdiff_core.training.run import Run
from layerdiff_pack.layerdiff_core.training.sheets import autoencoder_sheet, decode
from layerdiff_pack.layerdiff_core.whole import write_text
from layerdiff_pack.layerdiff_core.world.render import compose
from layerdiff_pack.layerdiff_core.world.renderer import Items, Ring

ADVERSARIAL_FROM = {"vae": 0.8, "decoder": 0.1}
SHOWN, SHEETS = 8, 4
VAE_SEED, HELD_OUT_SEED, DECODER_SEED = 102, 104, 105


def train_vae(world: World, options: argparse.Namespace) -> None:
    model = world.new_vae()
    plan = plan_of(options, 2e-3)
    run = Run(model, world.folder / "vae.safetensors", plan.seconds, plan.rate)
    fit_pictures(world, plan, run, model, VAE_SEED, options.ring, ADVERSARIAL_FROM["vae"])
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
    plan = plan_of(options, 1e-3)
    run = Run(decoder, world.folder / "decoder.safetensors", plan.seconds, plan.rate)
    fit_pictures(world, plan, run, network, DECODER_SEED, options.ring, ADVERSARIAL_FROM["decoder"], std.view(1, -1, 1, 1))
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
