"""Train the Text2Layer starter model in stages: autoencoder, unet, decoder. An interrupted stage is resumed. `export` writes
the file."""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from tools import setup
from tools.arguments import a_count, a_device, a_file, a_number, check_stages
from tools.train_starter import MODELS, TELL_EVERY
from tools.training_world import World

# isort: split
# ComfyUI and the pack can only be imported after train_starter.
import comfy.ops
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from layerdiff_pack.layerdiff_core import checkpoint
from layerdiff_pack.layerdiff_core.autoencoder import Layers
from layerdiff_pack.layerdiff_core.data.scenes import sample_scene
from layerdiff_pack.layerdiff_core.data.words import captions
from layerdiff_pack.layerdiff_core.training import cat2i, diffusion, losses, text2layer
from layerdiff_pack.layerdiff_core.training.layerdiff import Batch, sample
from layerdiff_pack.layerdiff_core.training.run import Run, leave_on_signals
from layerdiff_pack.layerdiff_core.training.sheets import save_rows
from layerdiff_pack.layerdiff_core.whole import write_tensors, write_text
from layerdiff_pack.nodes.host import networks

AUTOENCODER_SEED, UNET_SEED, FRESH_SEED, FILL_SEED, DECODER_SEED = 201, 202, 203, 204, 205
ADVERSARIAL_FROM, NORMS_SETTLE_AT = 0.7, 0.8
AUTOENCODER_FILE, UNET_FILE = "autoencoder_average.safetensors", "unet_average.safetensors"
STARTERS = {1: "text2layer_starter.safetensors", 2: "text2layer_two_foregrounds.safetensors"}
SHEET_PROMPTS = 8


def scenes(world: World, options: argparse.Namespace, count: int, seed: int) -> Iterator[Batch]:
    """Endless batches of `count` scenes, assembled by worker processes."""
    source = text2layer.FixedScenes(world.objects, world.bank["place"], world.bank["light"], world.vocabulary,
                                    foregrounds=options.foregrounds, count=count, seed=seed)
    return iter(DataLoader(source, batch_size=None, num_workers=1, prefetch_factor=4))


def train_autoencoder(world: World, options: argparse.Namespace) -> None:
    """Train CaT2I-AE with its full objective."""
    architecture = text2layer.architecture(options.foregrounds)
    model = networks.composition_autoencoder(architecture)
    networks.initialise(model)
    cat2i.initialise(model)
    start_from(model, options.start)
    fit_autoencoder(world, options, architecture, model)


def start_from(model: torch.nn.Module, path: str | None) -> None:
    """Start from the matching weights of a layered model's or a VAE's file."""
    if path:
        tensors = {name.removeprefix("vae."): value for name, value in load_file(path).items()}
        print(f"{len(cat2i.start_from(model, tensors))} of {len(model.state_dict())} tensors from {path}", flush=True)


def fit_autoencoder(world: World, options: argparse.Namespace, architecture: dict, model: Any, **terms: bool) -> None:
    """Train an autoencoder of stacked layers and write its averaged weights. terms: those of the objective, for comparisons."""
    seconds = options.minutes * 60
    renderer = world.renderer(AUTOENCODER_SEED + options.seed)
    drawings = renderer.draw_all(options.variants)
    fresh = fresh_scenes(world, options)
    run = Run(model.to(world.device, memory_format=torch.channels_last), world.folder / "autoencoder.safetensors", seconds,
              options.rate or 1e-3)
    discriminator = losses.PatchDiscriminator().to(world.device, memory_format=torch.channels_last)
    critic = Run(discriminator, world.folder / "discriminator.safetensors", seconds, 3e-4)
    objective = cat2i.AutoencoderObjective(model, discriminator, losses.RandomFeatures().to(world.device), **terms)
    batches = (text2layer.draw(renderer, drawings, batch)
               for batch in scenes(world, options, options.batch, run.step + options.seed))
    settled, sheet_at = not cat2i.norms(model), time.monotonic()  # a plain autoencoder has no batch norms

    def write() -> None:
        with run.averaged(), world.autocast():
            model.eval()
            run.tell(**autoencoder_sheet(model, fresh, world.folder / "autoencoder.png"))
            z = torch.cat([cat2i.encode(model, layers).cpu() for layers in fresh])
            write_average(model, world.folder / AUTOENCODER_FILE, architecture=architecture,
                          mean=z.mean((0, 2, 3)).tolist(), std=z.std((0, 2, 3)).tolist())
            model.train(not settled)

    while not run.done:
        progress = run.progress
        if progress >= NORMS_SETTLE_AT and not settled:
            with world.autocast():
                cat2i.settle_norms(model, list(itertools.islice(batches, 16)))
            settled = True
        layers = next(batches)
        step = update(world, objective, run, critic, layers, progress >= ADVERSARIAL_FROM)
        if run.step % TELL_EVERY == 0:
            figures = cat2i.reconstruction_figures(layers, step.found, step.image)
            run.tell(loss=step.reconstruction.item(), kl=step.kl.item(), **figures)
            if run.saved > critic.saved:
                critic.save()
        if time.monotonic() - sheet_at > options.sheet_seconds:
            write()
            sheet_at = time.monotonic()
    if not settled:  # a finished run was started again, and its state has no statistics
        with world.autocast():
            cat2i.settle_norms(model, list(itertools.islice(batches, 16)))
        settled = True
    write()
    run.save()
    critic.save()


def update(world: World, objective: cat2i.AutoencoderObjective, run: Run, critic: Run, layers: Layers,
           adversarial: bool) -> cat2i.Step:
    """Take one step of the autoencoder, or its decoder, and one of the discriminator if it is used."""
    with world.autocast():
        step = objective.generator(layers, adversarial)
    run.update(step.loss)
    if adversarial:
        with world.autocast():
            loss = objective.critic(step)
        critic.update(loss)
    return step


def train_decoder(world: World, options: argparse.Namespace) -> None:
    """Train only CaT2I-AE's decoder, on noisy latents. The latents do not change, so models trained on them remain valid."""
    model, facts = load_autoencoder(world)
    renderer = world.renderer(DECODER_SEED)
    drawings = renderer.draw_all(options.variants)
    halves = torch.nn.ModuleDict({name: model.get_submodule(name) for name in ("decoder", "post_quant_conv", "heads")})
    run = Run(halves, world.folder / "decoder.safetensors", options.minutes * 60, options.rate or 5e-4)
    discriminator = losses.PatchDiscriminator().to(world.device, memory_format=torch.channels_last)
    critic = Run(discriminator, world.folder / "discriminator.safetensors", math.inf, 1e-4)
    objective = cat2i.AutoencoderObjective(model, discriminator, losses.RandomFeatures().to(world.device),
                                           latent_std=torch.tensor(facts["std"], device=world.device).view(1, -1, 1, 1))
    batches = scenes(world, options, options.batch, run.step + DECODER_SEED)
    while not run.done:
        step = update(world, objective, run, critic, text2layer.draw(renderer, drawings, next(batches)), adversarial=True)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=step.reconstruction.item())
    with run.averaged(), world.autocast():
        run.tell(**autoencoder_sheet(model, fresh_scenes(world, options), world.folder / "decoder.png"))
        write_average(model, world.folder / AUTOENCODER_FILE, **facts)
    run.save()


def fresh_scenes(world: World, options: argparse.Namespace) -> list[Layers]:
    """Newly drawn batches of training scenes, for evaluation."""
    renderer = world.renderer(FRESH_SEED)
    drawings = renderer.draw_all(1)
    batches = itertools.islice(scenes(world, options, 16, FRESH_SEED), 8)
    return [text2layer.draw(renderer, drawings, batch) for batch in batches]


def autoencoder_sheet(model: Any, fresh: list[Layers], path: Path) -> dict[str, float]:
    """Mean metrics over new scenes. Saves a sheet with the first ones above their reconstructions."""
    totals: dict[str, float] = {}
    for layers in fresh:
        figures = cat2i.reconstruction_figures(layers, *cat2i.decode(model, cat2i.encode(model, layers)))
        for name, value in figures.items():
            totals[f"fresh_{name}"] = totals.get(f"fresh_{name}", 0.0) + value / len(fresh)
    few = Layers(fresh[0].foregrounds[:8], fresh[0].background[:8], fresh[0].masks[:8])
    pairs = zip(text2layer.sheet_rows(few, few.composite()),
                text2layer.sheet_rows(*cat2i.decode(model, cat2i.encode(model, few))))
    save_rows([row for pair in pairs for row in pair], path)
    return totals


def load_autoencoder(world: World, model: Any = None) -> tuple[Any, dict[str, Any]]:
    """The averaged autoencoder of the earlier stage, frozen, and the facts stored with it. model: the network to load the weights
    into, if it is not CaT2I-AE."""
    path = world.folder / AUTOENCODER_FILE
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
    model = model or networks.composition_autoencoder(facts["architecture"])
    model.load_state_dict(load_file(path))
    return frozen(model, world), facts


def frozen(model: Any, world: World) -> Any:
    return model.float().to(world.device, memory_format=torch.channels_last).eval().requires_grad_(False)


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


def write_average(model: torch.nn.Module, path: Path, **facts: object) -> None:
    """Write the averaged weights, which `model` currently has, in half precision. Statistics of batch norms are not converted."""
    tensors = {name: value.half() if value.is_floating_point() and "running" not in name else value
               for name, value in model.state_dict().items()}
    write_tensors(path, tensors, {"facts": json.dumps(facts)})


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
    parser.add_argument("--minutes", type=a_number(0, above=True), default=60,
                        help="total training time, including earlier runs")
    parser.add_argument("--device", type=a_device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", default=str(setup.DEV / "data"), help="folder of the training images")
    parser.add_argument("--out", default=str(setup.ROOT / ".checkpoints" / "text2layer"), help="folder of the training state")
    parser.add_argument("--batch", type=a_count(), default=16, help="scenes per step")
    parser.add_argument("--foregrounds", type=a_count(1, 49), default=1, help="foregrounds per scene")
    parser.add_argument("--objects", type=a_count(), default=48, help="number of objects, the most iconic first")
    parser.add_argument("--styles", type=int, choices=(1, 2), default=1, help="1: 3d only, 2: 3d and flat")
    parser.add_argument("--variants", type=a_count(), default=6, help="drawings per object, slot, size and light")
    parser.add_argument("--scenes", type=a_count(8), default=16000, help="number of encoded scenes kept for the UNet")
    parser.add_argument("--refresh", type=a_count(), default=8, help="scenes replaced at each step of the UNet")
    parser.add_argument("--rate", type=a_number(0), default=0, help="maximum learning rate; 0: the default of the stage")
    parser.add_argument("--place-variants", type=a_count(), default=16, help="images per place and light")
    parser.add_argument("--sheet-seconds", type=a_number(0), default=600, help="seconds between sample sheets")
    parser.set_defaults(seed=0, start=None)
    return parser


def prepare_torch() -> None:
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


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
