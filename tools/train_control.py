"""Train the starter's box ControlNet against the frozen starter: control, export. An interrupted stage is resumed."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tools import setup
from tools.arguments import a_count, a_device, a_file, a_number, check_stages
from tools.training_world import World, average_of

# isort: split
# ComfyUI and the pack can be imported once training_world has been
from comfy.cldm.cldm import ControlNet
from layerdiff_pack.layerdiff_core import checkpoint
from layerdiff_pack.layerdiff_core.enhancer import PromptEnhancer
from layerdiff_pack.layerdiff_core.training import control, diffusion
from layerdiff_pack.layerdiff_core.training.layerdiff import LayerDiff
from layerdiff_pack.layerdiff_core.training.pool import LatentPool
from layerdiff_pack.layerdiff_core.training.run import Run, leave_on_signals
from layerdiff_pack.layerdiff_core.training.start import GATE, start_from
from layerdiff_pack.layerdiff_core.whole import write_tensors
from layerdiff_pack.nodes.host import networks

STARTER = setup.ROOT / "models" / "layerdiff_starter.safetensors"
FILE = "layerdiff_box_control.safetensors"
TELL_EVERY = 50
POOL_SEED = 105
SHARES = {2: 0.5, 3: 0.3, 4: 0.2}
PIXELS_PER_LATENT = 8
"""The size of a hint relative to the latent, as ComfyUI expects it for SD 1.5 ControlNets."""


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
    frozen = Frozen(Path(options.starter), world)
    network = new_control(frozen.facts)
    control.begin_from(network, frozen.model.unet)
    run = Run(network.to(world.device, memory_format=torch.channels_last), world.folder / "control.safetensors",
              options.minutes * 60, options.rate)
    pool = latent_pool(world, options, frozen)
    alphas = diffusion.sd_alphas_cumprod(world.device)
    empty = torch.from_numpy(world.vocabulary.rows("")).to(world.device)
    total = torch.zeros((), device=world.device)
    for batch in world.scenes(options.batch, run.step, SHARES):
        if run.done:
            break
        x0, coverage, boxes = pool.boxed_scenes(batch.place, batch.side, batch.foregrounds)
        hints = control.box_hints(boxes, PIXELS_PER_LATENT * x0.shape[-1])
        chosen = control.draw_hinted(len(batch.place), batch.layers, world.device)
        with world.autocast():
            loss = control.control_loss(frozen.model, network, x0, coverage, hints, chosen, batch, empty, alphas,
                                        frozen.facts["prediction"])
        run.update(loss)
        total += loss.detach()
        if run.step % TELL_EVERY == 0:
            run.tell(loss=total.item() / TELL_EVERY)
            total.zero_()
    run.save()


def latent_pool(world: World, options: argparse.Namespace, frozen: Frozen) -> LatentPool:
    """The pool of the starter's autoencoder, loaded from its file if that was made with the same autoencoder and world."""
    path = world.folder / "control_pool.safetensors"
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


def export(world: World, options: argparse.Namespace) -> None:
    """Write the ControlNet, in half precision, for ComfyUI's Load ControlNet Model."""
    tensors = {name: tensor.half().contiguous() for name, tensor in average_of(world.folder / "control.safetensors").items()}
    write_tensors(Path(options.models) / FILE, tensors, {"licence": "MIT (models/ATTRIBUTION.md)", "hint": json.dumps(
        "a white box on black where the layer's object is to be"), "starter": Path(options.starter).name})


STAGES = {"control": train, "export": export}
NEEDED = {"export": {"control.safetensors": "control"}}
"""For each stage, the files it needs and the stages that write them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=a_number(0, above=True), default=60, help="total training time, including earlier runs")
    parser.add_argument("--device", type=a_device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", default=str(setup.DEV / "data"), help="folder of the training images")
    parser.add_argument("--out", default=str(setup.ROOT / ".checkpoints" / "control"), help="folder of the training state")
    parser.add_argument("--models", default=str(setup.ROOT / "models"), help="folder to which export writes the ControlNet")
    parser.add_argument("--starter", type=a_file, default=str(STARTER), help="the layered model to control")
    parser.add_argument("--batch", type=a_count(8), default=24, help="layers per step")
    parser.add_argument("--rate", type=a_number(0, above=True), default=1e-3, help="maximum learning rate")
    parser.add_argument("--threads", type=a_count(0), default=0, help="number of CPU threads; 0: one per core")
    parser.add_argument("--canvas", type=a_count(64), default=128, help="side of the images that the starter was trained at")
    parser.add_argument("--objects", type=a_count(), default=64, help="number of objects, the most iconic first")
    parser.add_argument("--styles", type=int, choices=(1, 2), default=1, help="1: 3d only, 2: 3d and flat")
    parser.add_argument("--variants", type=a_count(), default=2, help="drawings per object, slot, size and light")
    parser.add_argument("--place-variants", type=a_count(), default=4, help="images per place and light")
    options = parser.parse_args()
    check_stages(parser, "train-control", options.stage, NEEDED.get(options.stage, {}), Path(options.out))
    leave_on_signals()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    STAGES[options.stage](World(options, options.canvas), options)


if __name__ == "__main__":
    main()
