"""Train the Text2Layer starter model in stages: autoencoder, unet, decoder. An interrupted stage is resumed. `export` writes
the file."""

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tools.arguments import a_count, a_file, a_number, check_stages
from tools.text2layer_autoencoder import load_autoencoder, start_from, train_autoencoder, train_decoder
from tools.training_world import MODELS, World, add_common_arguments, plan_of, prepare_torch

# isort: split
# ComfyUI and the pack can only be imported after training_world.
import comfy.ops
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from layerdiff_pack.layerdiff_core import checkpoint
from layerdiff_pack.layerdiff_core.training import cat2i, text2layer
from layerdiff_pack.layerdiff_core.training.loops.composition import AVERAGE_FILE, fresh_scenes
from layerdiff_pack.layerdiff_core.training.loops.two_layers import UNET_FILE, fit_unet
from layerdiff_pack.layerdiff_core.training.run import Run, leave_on_signals
from layerdiff_pack.nodes.host import networks

STARTERS = {1: "text2layer_starter.safetensors", 2: "text2layer_two_foregrounds.safetensors"}


def train_unet(world: World, options: argparse.Namespace) -> None:
    """Train UNet and text encoder on the latents of the earlier stage's autoencoder."""
    train(world, options, *load_autoencoder(world))


def train(world: World, options: argparse.Namespace, decoder: Any, facts: dict[str, Any]) -> None:
    """Train UNet and text encoder on the latents of a frozen autoencoder, and write their averaged weights."""
    plan = plan_of(options, 1e-3)
    model = text2layer_model(world, facts["architecture"])
    start_from(model, options.start)
    run = Run(world.placed(model), world.folder / "unet.safetensors", plan.seconds, plan.rate)
    fit_unet(world, plan, run, model, decoder, facts, options.foregrounds, options.variants, options.scenes, options.refresh,
             options.seed)


def text2layer_model(world: World, architecture: dict[str, Any]) -> text2layer.Text2Layer:
    """A UNet and text encoder with initial weights."""
    model = text2layer.Text2Layer(UNetModel(**architecture["unet"], dtype=torch.float32,
                                            operations=comfy.ops.disable_weight_init),
                                  networks.trainable_text_model(architecture, len(world.vocabulary)))
    networks.initialise(model.unet)
    return model


def export(world: World, options: argparse.Namespace) -> None:
    """Write the starter to models/, in half precision, with the measurements on the finished autoencoder."""
    decoder, facts = load_autoencoder(world)
    mean, std = (torch.tensor(facts[name], device=world.device) for name in ("mean", "std"))
    latent = {"mean": facts["mean"], "std": facts["std"],
              **cat2i.latent_maps(decoder, fresh_scenes(world, options.foregrounds), mean, std)}
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
NEEDED = {"unet": {AVERAGE_FILE: "autoencoder"}, "decoder": {AVERAGE_FILE: "autoencoder"},
          "export": {AVERAGE_FILE: "autoencoder", UNET_FILE: "unet"}}
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
