"""Shared by the trainings against the frozen starter: its networks, its pool of latents, and their arguments."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from tools import setup
from tools.arguments import a_count, a_device, a_file, a_number, check_stages
from tools.training_world import World, prepare_torch

# isort: split
# ComfyUI and the pack can be imported once training_world has been
from layerdiff_pack.layerdiff_core import checkpoint
from layerdiff_pack.layerdiff_core.enhancer import PromptEnhancer
from layerdiff_pack.layerdiff_core.training.layerdiff import LayerDiff
from layerdiff_pack.layerdiff_core.training.pool import LatentPool
from layerdiff_pack.layerdiff_core.training.run import leave_on_signals
from layerdiff_pack.layerdiff_core.training.start import GATE, start_from
from layerdiff_pack.nodes.host import networks

STARTER = setup.ROOT / "models" / "layerdiff_starter.safetensors"
POOL_SEED = 105
SHARES = {2: 0.5, 3: 0.3, 4: 0.2}
"""How often a scene has each number of layers."""

Stage = Callable[[World, argparse.Namespace], None]


class Frozen:
    """The starter loaded from its file: autoencoder, UNet and text encoder, all frozen."""

    def __init__(self, path: Path, world: World):
        self.header = checkpoint.read_header(path)
        self.facts = facts = self.header.architecture
        tensors = {key: value.float() for key, value in load_file(path).items() if key != "text.token_ids"}
        self.vae = networks.autoencoder(facts)
        self.vae.load_state_dict({key.removeprefix("vae."): value for key, value in tensors.items() if key.startswith("vae.")},
                                 strict=False)
        text = networks.trainable_text_model(facts, len(world.vocabulary))
        self.model = LayerDiff(networks.unet(facts), text, PromptEnhancer(**facts["enhancer"]))
        start_from(self.model, path, world.vocabulary)
        self.model.load_state_dict({GATE: tensors[GATE]}, strict=False)
        for network in (self.vae, self.model):
            network.to(world.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.mean, self.std = (torch.tensor(facts["latent"][name]) for name in ("mean", "std"))


def latent_pool(world: World, options: argparse.Namespace, frozen: Frozen, path: Path) -> LatentPool:
    """The pool of the starter's autoencoder, loaded from its file if that was made with the same autoencoder and world."""
    latent = f"{frozen.mean.sum().item():.6f} {frozen.std.sum().item():.6f}"
    key = f"boxes {latent} {world.canvas} {options.objects} {options.styles} {options.variants}"
    pool = LatentPool.load(path, key, world.device)
    if pool is None:
        started = time.monotonic()
        with world.autocast(), torch.no_grad():
            pool = LatentPool.build(world.renderer(POOL_SEED), options.variants, frozen.vae, frozen.mean, frozen.std)
        pool.save(path, key)
        print(f"pool of {pool.tensors['things'].shape[1]} drawings in {time.monotonic() - started:.0f} s", flush=True)
    return pool


def add_arguments(parser: argparse.ArgumentParser, what: str, styles: int, folder: Path) -> None:
    """Add the arguments that these trainings share. what: the folder of the state. styles: how many styles the pool has, 3d
    first. folder: the one for the trained file."""
    parser.set_defaults(styles=styles)
    parser.add_argument("--minutes", type=a_number(0, above=True), default=60, help="total training time, including earlier runs")
    parser.add_argument("--device", type=a_device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", default=str(setup.DEV / "data"), help="folder of the training images")
    parser.add_argument("--out", default=str(setup.ROOT / ".checkpoints" / what), help="folder of the training state")
    parser.add_argument("--models", default=str(folder), help="folder to which export writes the file")
    parser.add_argument("--starter", type=a_file, default=str(STARTER), help="the layered model to train for")
    parser.add_argument("--batch", type=a_count(8), default=24, help="layers per step")
    parser.add_argument("--rate", type=a_number(0, above=True), default=1e-3, help="maximum learning rate")
    parser.add_argument("--threads", type=a_count(0), default=0, help="number of CPU threads; 0: one per core")
    parser.add_argument("--canvas", type=a_count(64), default=128, help="side of the images that the starter was trained at")
    parser.add_argument("--objects", type=a_count(), default=48, help="number of objects, the most iconic first; the starter "
                        "knows 48")
    parser.add_argument("--variants", type=a_count(), default=2, help="drawings per object, slot, size and light")
    parser.add_argument("--place-variants", type=a_count(), default=4, help="images per place and light")


def run(description: str | None, name: str, styles: int, folder: Path, train: Stage, export: Stage) -> None:
    """Run the stage `name`, which trains, or the stage `export`, as the command's arguments say. Other parameters: as in
    `add_arguments`."""
    parser = argparse.ArgumentParser(description=description)
    stages = {name: train, "export": export}
    parser.add_argument("stage", choices=stages)
    add_arguments(parser, name, styles, folder)
    options = parser.parse_args()
    needed = {f"{name}.safetensors": name} if options.stage == "export" else {}
    check_stages(parser, f"train-{name}", options.stage, needed, Path(options.out))
    leave_on_signals()
    prepare_torch()
    if options.threads:
        torch.set_num_threads(options.threads)
    stages[options.stage](World(options, options.canvas), options)
