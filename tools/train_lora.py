"""Train the starter's style LoRA, flat drawings, against the frozen starter: lora, export. An interrupted stage is resumed."""

import argparse
from pathlib import Path

import torch

from tools import frozen_starter, setup
from tools.training_world import World, average_of

# isort: split
# ComfyUI and the pack can be imported once training_world has been
from layerdiff_pack.layerdiff_core.training import diffusion
from layerdiff_pack.layerdiff_core.training.loops.plan import Steps
from layerdiff_pack.layerdiff_core.training.lora import Lora, lora_file, lora_loss
from layerdiff_pack.layerdiff_core.training.run import Run
from layerdiff_pack.layerdiff_core.training.steer import draw_chosen
from layerdiff_pack.layerdiff_core.whole import write_tensors

FILE = "layerdiff_flat_lora.safetensors"
RANK = 8
STYLE_FIELD = 1
"""The index of the style among a foreground's fields in a batch."""


def train(world: World, options: argparse.Namespace) -> None:
    frozen = frozen_starter.Frozen(Path(options.starter), world)
    lora = Lora(frozen.model.unet, RANK)
    run = Run(lora.to(world.device, memory_format=torch.channels_last), world.folder / "lora.safetensors",
              options.minutes * 60, options.rate)
    pool = frozen_starter.latent_pool(world, options, frozen, world.folder / "lora_pool.safetensors")
    alphas = diffusion.sd_alphas_cumprod(world.device)
    empty = torch.from_numpy(world.vocabulary.rows("")).to(world.device)
    steps = Steps(world, run)
    for batch in world.scenes(options.batch, run.step, frozen_starter.SHARES, styles=1):
        if run.done:
            break
        chosen = draw_chosen(len(batch.place), batch.layers, world.device)
        batch.foregrounds[..., STYLE_FIELD] = chosen.view(len(batch.place), batch.layers)[:, 1:]
        x0, coverage = pool.scenes(batch.place, batch.side, batch.foregrounds)
        with world.autocast():
            loss = lora_loss(frozen.model, lora, x0, coverage, chosen, batch, empty, alphas, frozen.facts["prediction"])
        steps.take(loss)
    run.save()


def export(world: World, options: argparse.Namespace) -> None:
    """Write the LoRA, in half precision, for Load LoRA for Layers and ComfyUI's Load LoRA."""
    tensors = lora_file(average_of(world.folder / "lora.safetensors"))
    write_tensors(Path(options.models) / FILE, tensors, {"licence": "MIT (models/ATTRIBUTION.md)", "style": "flat drawing",
                                                         "starter": Path(options.starter).name})


if __name__ == "__main__":
    frozen_starter.run(__doc__, "lora", 2, setup.ROOT / "extras" / "loras", train, export)
