"""Train the starter's box ControlNet against the frozen starter: control, export. An interrupted stage is resumed."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from tools import frozen_starter, setup
from tools.training_world import World, average_of

# isort: split
# ComfyUI and the pack can be imported once training_world has been
from comfy.cldm.cldm import ControlNet
from layerdiff_pack.layerdiff_core.training import control, diffusion
from layerdiff_pack.layerdiff_core.training.loops.plan import Steps
from layerdiff_pack.layerdiff_core.training.run import Run
from layerdiff_pack.layerdiff_core.training.steer import draw_chosen
from layerdiff_pack.layerdiff_core.whole import write_tensors
from layerdiff_pack.layerdiff_core.world.boxes import box_hints
from layerdiff_pack.nodes.host import networks

FILE = "layerdiff_box_control.safetensors"
PIXELS_PER_LATENT = 8
"""The size of a hint relative to the latent, as ComfyUI expects it for SD 1.5 ControlNets."""


def new_control(facts: dict[str, Any]) -> Any:
    """A small ControlNet of ComfyUI's class for the UNet of an architecture. Only the first level has attention, so that the file
    has no more than 4 MB."""
    unet = {key: value for key, value in facts["unet"].items() if key != "transformer_depth_output"}
    levels = len(unet["channel_mult"])
    depth = [1, *[0] * (levels - 1)] if all(n == 1 for n in unet["num_res_blocks"]) else None
    if depth is None:
        raise ValueError(f"The UNet has {unet['num_res_blocks']} blocks a level, but this ControlNet is made for one.")
    # ComfyUI's loader reads the widths from the file and assumes 64 channels per head.
    network = ControlNet(**{**unet, "in_channels": facts["latent"]["channels"], "transformer_depth": depth,
                            "transformer_depth_middle": -1, "num_head_channels": 64, "num_heads": -1}, hint_channels=3,
                         dtype=torch.float32, operations=networks.PLAIN)
    networks.initialise(network)
    return network


def train(world: World, options: argparse.Namespace) -> None:
    frozen = frozen_starter.Frozen(Path(options.starter), world)
    network = new_control(frozen.facts)
    control.begin_from(network, frozen.model.unet)
    run = Run(network.to(world.device, memory_format=torch.channels_last), world.folder / "control.safetensors",
              options.minutes * 60, options.rate)
    pool = frozen_starter.latent_pool(world, options, frozen, world.folder / "control_pool.safetensors")
    alphas = diffusion.sd_alphas_cumprod(world.device)
    empty = torch.from_numpy(world.vocabulary.rows("")).to(world.device)
    steps = Steps(world, run)
    for batch in world.scenes(options.batch, run.step, frozen_starter.SHARES):
        if run.done:
            break
        x0, coverage, boxes = pool.boxed_scenes(batch.place, batch.side, batch.foregrounds)
        hints = box_hints(boxes, PIXELS_PER_LATENT * x0.shape[-1])
        chosen = draw_chosen(len(batch.place), batch.layers, world.device)
        with world.autocast():
            loss = control.control_loss(frozen.model, network, x0, coverage, hints, chosen, batch, empty, alphas,
                                        frozen.facts["prediction"])
        steps.take(loss)
    run.save()


def export(world: World, options: argparse.Namespace) -> None:
    """Write the ControlNet, in half precision, for ComfyUI's Load ControlNet Model."""
    tensors = {name: tensor.half().contiguous() for name, tensor in average_of(world.folder / "control.safetensors").items()}
    write_tensors(Path(options.models) / FILE, tensors, {"licence": "MIT (models/ATTRIBUTION.md)", "hint": json.dumps(
        "a white box on black where the layer's object is to be"), "starter": Path(options.starter).name})


if __name__ == "__main__":
    frozen_starter.run(__doc__, "control", 1, setup.ROOT / "extras" / "controlnet", train, export)
