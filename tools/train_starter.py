"""Train the starter model in stages: vae, decoder, text, unet, evaluator. An interrupted stage is resumed. `show` measures
the autoencoder, `export` writes the files."""

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tools import setup
from tools.arguments import a_count, a_device, a_file, a_number, check_stages
from tools.training_world import World, average_of

# isort: split
# ComfyUI and the pack can only be imported after training_world.
from layerdiff_pack.layerdiff_core import checkpoint
from layerdiff_pack.layerdiff_core.data.backgrounds import PLACES
from layerdiff_pack.layerdiff_core.data.render import compose
from layerdiff_pack.layerdiff_core.evaluation.reconstruction import reconstruction_figures
from layerdiff_pack.layerdiff_core.evaluation.renders import held_out_renderer
from layerdiff_pack.layerdiff_core.evaluator import Evaluator
from layerdiff_pack.layerdiff_core.training import diffusion, losses, starter, teach, vae
from layerdiff_pack.layerdiff_core.training.evaluator import evaluator_loss, heldout_figures
from layerdiff_pack.layerdiff_core.training.layerdiff import LayerDiff, layerdiff_loss
from layerdiff_pack.layerdiff_core.training.pool import LatentPool
from layerdiff_pack.layerdiff_core.training.render import Items, Ring
from layerdiff_pack.layerdiff_core.training.run import Run, leave_on_signals
from layerdiff_pack.layerdiff_core.training.sheets import autoencoder_sheet, decode, scene_sheet
from layerdiff_pack.layerdiff_core.training.start import start_from
from layerdiff_pack.layerdiff_core.whole import write_tensors, write_text

MODELS = setup.ROOT / "models"
TELL_EVERY = 50
CROPS_UNTIL, ADVERSARIAL_FROM = 0.75, {"vae": 0.8, "decoder": 0.1}
RENEWED = 16
SHOWN, SHEETS, EXAMINED = 8, 4, 200
EVALUATOR_SEED, VAE_SEED, UNET_SEED, HELD_OUT_SEED, DECODER_SEED = 101, 102, 103, 104, 105


def train_evaluator(world: World, options: argparse.Namespace) -> None:
    renderer = world.renderer(EVALUATOR_SEED)
    ring = Ring(renderer, options.ring)
    model = Evaluator(len(world.objects), len(PLACES)).to(world.device, memory_format=torch.channels_last)
    run = Run(model, world.folder / "evaluator.safetensors", options.minutes * 60, 2e-3)
    while not run.done:
        ring.renew(options.batch // RENEWED)
        with world.autocast():
            loss, figures = evaluator_loss(model, renderer, ring, options.batch)
        run.update(loss)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=loss.item(), **figures)
    other = world.renderer(HELD_OUT_SEED)
    with run.averaged():
        figures = heldout_figures(model, other, other.draw_all(1), 20, options.batch)
        run.tell(**{f"heldout_{k}": v for k, v in figures.items()})
    run.save()


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
        with world.autocast():
            step = objective.generator(batch, adversarial)
        run.update(step.loss)
        if adversarial:
            with world.autocast():
                loss = objective.critic(step)
            critic.update(loss)
        if run.step % TELL_EVERY == 0:
            run.tell(**{name: value.item() for name, value in step.figures.items()})
            if run.saved > critic.saved:
                critic.save()
        if time.monotonic() - sheet_at > options.sheet_seconds:
            draw()
            sheet_at = time.monotonic()
    draw()
    critic.save()


def train_text(world: World, options: argparse.Namespace) -> None:
    """Train text encoder and enhancer, before the UNet, to predict what the global prompt says about each layer."""
    side = world.new_text_side().to(world.device)
    begin(side, world, options)
    held = copy.deepcopy(side).requires_grad_(False) if options.start else None
    teacher = teach.Teacher(side, starter.CONTEXT).to(world.device)
    run = Run(teacher, world.folder / "text.safetensors", options.minutes * 60, options.rate or 1e-3)
    for batch in world.scenes(options.batch, run.step, teach.SHARES):
        if run.done:
            break
        with world.autocast():
            plain = held.context(batch.rows, batch.global_rows)[1].float() if held else None
            loss, figures = teach.teaching_loss(teacher, batch, plain)
        run.update(loss)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=loss.item(), layers=batch.layers, **figures)
    with run.averaged(), world.autocast(), torch.no_grad():
        for layers in range(2, starter.MAX_LAYERS + 1):
            batch = world.scene_source(0, HELD_OUT_SEED).batch(layers, EXAMINED, np.random.default_rng(HELD_OUT_SEED))
            batch = batch.to(world.device)
            run.tell(layers=layers, **teach.told_right(teacher(batch)[0], batch))
    run.save()


def begin(parts: nn.Module, world: World, options: argparse.Namespace) -> None:
    """Start from another model's weights if --start is given."""
    if options.start:
        taken = start_from(parts, Path(options.start), world.vocabulary)
        print(f"{taken} of {len(parts.state_dict())} tensors from {options.start}", flush=True)


def train_unet(world: World, options: argparse.Namespace) -> None:
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
    parts = parts.to(world.device, memory_format=torch.channels_last)
    run = Run(parts, world.folder / "layerdiff.safetensors", options.minutes * 60, options.rate or 2e-3)
    alphas = diffusion.sd_alphas_cumprod(world.device)
    empty = torch.from_numpy(world.vocabulary.rows("")).to(world.device)
    total, sheet_at = torch.zeros((), device=world.device), time.monotonic()

    def draw() -> None:
        with run.averaged(), world.autocast():
            scene_sheet(parts, decoder, mean, std, world.objects, world.vocabulary, alphas,
                        world.folder / f"scenes_{run.step}.png")

    for batch in world.scenes(options.batch, run.step):
        if run.done:
            break
        x0, coverage = pool.scenes(batch.place, batch.side, batch.foregrounds)
        with world.autocast():
            loss = layerdiff_loss(parts, x0, coverage, batch, empty, alphas, starter.ARCHITECTURE["prediction"],
                                  options.pure_noise)
        run.update(loss)
        total += loss.detach()
        if run.step % TELL_EVERY == 0:
            run.tell(loss=total.item() / TELL_EVERY)
            total.zero_()
        if time.monotonic() - sheet_at > options.sheet_seconds:
            draw()
            sheet_at = time.monotonic()
    draw()
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


STAGES = {"vae": train_vae, "decoder": train_decoder, "show": show_vae, "text": train_text, "unet": train_unet,
          "evaluator": train_evaluator, "export": export}
NEEDED = {"decoder": {"latent.json": "vae"}, "show": {"vae.safetensors": "vae"}, "unet": {"latent.json": "vae"},
          "export": {"latent.json": "vae", "layerdiff.safetensors": "unet"}}
"""For each stage, the files it needs and the stages that write them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=a_number(0, above=True), default=60,
                        help="total training time, including earlier runs")
    parser.add_argument("--device", type=a_device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", default=str(setup.DEV / "data"), help="folder of the training images")
    parser.add_argument("--out", default=str(setup.ROOT / ".checkpoints" / "starter"), help="folder of the training state")
    parser.add_argument("--models", default=str(MODELS), help="folder to which export writes the starter model")
    parser.add_argument("--judges", default=str(setup.ROOT / "benchmarks"), help="folder to which export writes the judge")
    parser.add_argument("--batch", type=a_count(16), default=48, help="images or layers per step")
    parser.add_argument("--rate", type=a_number(0, above=True),
                        help="maximum learning rate, instead of the default of the stage")
    parser.add_argument("--start", type=a_file, help="layered model file to start text and UNet from, as far as its weights fit")
    parser.add_argument("--pure-noise", type=a_number(0, 1), default=0.5,
                        help="fraction of scenes that the UNet sees as pure noise")
    parser.add_argument("--threads", type=a_count(0), default=0, help="number of CPU threads; 0: one per core")
    parser.add_argument("--ring", type=a_count(), default=1024, help="number of foregrounds kept in memory for the autoencoder")
    parser.add_argument("--objects", type=a_count(), default=64, help="number of objects, the most iconic first")
    parser.add_argument("--styles", type=int, choices=(1, 2), default=1, help="1: 3d only, 2: 3d and flat")
    parser.add_argument("--variants", type=a_count(), default=6, help="drawings per object, slot, size and light")
    parser.add_argument("--place-variants", type=a_count(), default=16, help="images per place and light")
    parser.add_argument("--sheet-seconds", type=a_number(0), default=600, help="seconds between sample sheets")
    options = parser.parse_args()
    check_stages(parser, "train-starter", options.stage, NEEDED.get(options.stage, {}), Path(options.out))
    leave_on_signals()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    STAGES[options.stage](World(options), options)


if __name__ == "__main__":
    main()
