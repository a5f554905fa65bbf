"""Trains the starter in stages: vae, decoder, unet, evaluator. Each goes on where it stopped; `export` writes the files."""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader

from tools import setup, training_host

training_host.import_networks()

from layerdiff_pack.layerdiff_core import checkpoint  # noqa: E402
from layerdiff_pack.layerdiff_core.data.backgrounds import PLACES  # noqa: E402
from layerdiff_pack.layerdiff_core.data.objects import build_objects, load_objects  # noqa: E402
from layerdiff_pack.layerdiff_core.enhancer import PromptEnhancer  # noqa: E402
from layerdiff_pack.layerdiff_core.evaluator import Evaluator  # noqa: E402
from layerdiff_pack.layerdiff_core.training import diffusion, starter, vae  # noqa: E402
from layerdiff_pack.layerdiff_core.training.evaluator import evaluator_loss, heldout_figures  # noqa: E402
from layerdiff_pack.layerdiff_core.training.layerdiff import LayerDiff, Scenes, layerdiff_loss  # noqa: E402
from layerdiff_pack.layerdiff_core.training.pool import LatentPool  # noqa: E402
from layerdiff_pack.layerdiff_core.training.render import Renderer, place_bank  # noqa: E402
from layerdiff_pack.layerdiff_core.training.run import Run  # noqa: E402
from layerdiff_pack.layerdiff_core.training.sheets import autoencoder_sheet, scene_sheet  # noqa: E402
from layerdiff_pack.layerdiff_core.training.text import Vocabulary  # noqa: E402
from layerdiff_pack.nodes.host import networks  # noqa: E402

MODELS = setup.ROOT / "models"
TELL_EVERY = 50
EVALUATOR_SEED, VAE_SEED, UNET_SEED, HELD_OUT_SEED, DECODER_SEED = 101, 102, 103, 104, 105


class World:
    """Everything that the stages share: objects, places, words, the device."""

    def __init__(self, options: argparse.Namespace):
        self.device = torch.device(options.device)
        self.folder, self.data = Path(options.out), Path(options.data)
        path = self.data / "objects.safetensors"
        objects = load_objects(path if path.exists() else build_objects(self.data))
        self.objects = objects.first(options.objects, options.styles)
        bank_path = self.data / f"places_{starter.CANVAS}_{options.place_variants}.safetensors"
        self.bank = place_bank(bank_path, options.place_variants, starter.CANVAS)
        tokens = training_host.word_tokenizer(self.data, starter.caption_words(self.objects))
        self.vocabulary = Vocabulary(tokens[0], starter.caption_words(self.objects), *tokens[1:])
        print(f"{len(self.objects)} objects, {len(PLACES)} places in {len(self.bank['place'])} pictures, "
              f"{len(self.vocabulary)} tokens", flush=True)

    def renderer(self, seed: int) -> Renderer:
        return Renderer(self.objects, self.bank, starter.CANVAS, self.device, seed)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def trained_vae(self) -> Any:
        """The averaged autoencoder of the earlier stages, frozen."""
        network = self.new_vae()
        network.load_state_dict(average_of(self.folder / "vae.safetensors"))
        if (self.folder / "decoder.safetensors").exists():
            network.load_state_dict(average_of(self.folder / "decoder.safetensors"), strict=False)
        return network.requires_grad_(False)

    def new_vae(self) -> Any:
        network = networks.autoencoder(starter.ARCHITECTURE)
        networks.initialise(network)
        return network.to(self.device, memory_format=torch.channels_last)


def train_evaluator(world: World, options: argparse.Namespace) -> None:
    renderer = world.renderer(EVALUATOR_SEED)
    drawings = renderer.draw_all(options.variants)
    model = Evaluator(len(world.objects), len(PLACES)).to(world.device, memory_format=torch.channels_last)
    run = Run(model, world.folder / "evaluator.safetensors", options.minutes * 60, 2e-3)
    while not run.done:
        with world.autocast():
            loss, figures = evaluator_loss(model, renderer, drawings, options.batch)
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
    run = Run(model, world.folder / "vae.safetensors", options.minutes * 60, 2e-3)
    batches = fit_pictures(world, options, run, model, VAE_SEED)
    with run.averaged():
        mean, std = vae.latent_statistics(model, batches)
    (world.folder / "latent.json").write_text(json.dumps({"mean": mean, "std": std}))
    run.save()


def train_decoder(world: World, options: argparse.Namespace) -> None:
    """Go on with the decoder alone: sharper pictures, and the latents and what learnt from them stay as they are."""
    network = world.trained_vae()
    decoder = nn.ModuleDict({"decoder": network.decoder, "post_quant_conv": network.post_quant_conv})
    run = Run(decoder, world.folder / "decoder.safetensors", options.minutes * 60, 1e-3)
    fit_pictures(world, options, run, network, DECODER_SEED)
    run.save()


def fit_pictures(world: World, options: argparse.Namespace, run: Run, network: Any, seed: int) -> Iterator[torch.Tensor]:
    """Train what the run trains of an autoencoder until its time is up. Returns the batches that go on."""
    renderer = world.renderer(seed)
    batches = vae.pictures(renderer, renderer.draw_all(options.variants), options.batch)
    sheet = run.path.with_suffix(".png")
    while not run.done:
        pixels = next(batches).contiguous(memory_format=torch.channels_last)
        with world.autocast():
            loss, figures = vae.autoencoder_loss(network, pixels)
        run.update(loss)
        if run.step % TELL_EVERY == 0:
            run.tell(**{name: value.item() for name, value in figures.items()})
        if run.step % 1000 == 0:
            autoencoder_sheet(network, next(batches)[::4], sheet)
    with run.averaged():
        autoencoder_sheet(network, next(batches)[::4], sheet)
    return batches


def train_unet(world: World, options: argparse.Namespace) -> None:
    latent = json.loads((world.folder / "latent.json").read_text())
    mean, std = torch.tensor(latent["mean"]), torch.tensor(latent["std"])
    decoder, started = world.trained_vae(), time.monotonic()
    renderer = world.renderer(UNET_SEED)
    with world.autocast():
        pool = LatentPool(renderer, renderer.draw_all(options.variants), decoder, mean, std)
    print(f"pool of {len(pool.latents)} layers in {time.monotonic() - started:.0f} s", flush=True)
    unet = networks.unet(starter.ARCHITECTURE)
    networks.initialise(unet)
    unet.reset_added_parameters()
    networks.initialise_added_convolutions(unet)
    parts = LayerDiff(unet, networks.trainable_text_model(starter.ARCHITECTURE, len(world.vocabulary)),
                      PromptEnhancer(**starter.ARCHITECTURE["enhancer"]))
    parts = parts.to(world.device, memory_format=torch.channels_last)
    run = Run(parts, world.folder / "layerdiff.safetensors", options.minutes * 60, 2e-3)
    scenes = Scenes(world.objects, world.bank["place"], world.bank["light"], world.vocabulary, options.batch,
                    seed=run.step)
    alphas = diffusion.sd_alphas_cumprod(world.device)
    empty = torch.from_numpy(world.vocabulary.rows("")).to(world.device)
    total, sheet_at = torch.zeros((), device=world.device), time.monotonic()

    def draw() -> None:
        with run.averaged(), world.autocast():
            scene_sheet(parts, decoder, mean, std, world.objects, world.vocabulary, alphas,
                        world.folder / f"scenes_{run.step}.png")

    for batch in DataLoader(scenes, batch_size=None, num_workers=1, prefetch_factor=4):
        for name in ("place", "foregrounds", "rows", "global_rows"):
            setattr(batch, name, getattr(batch, name).to(world.device, non_blocking=True))
        x0, coverage = pool.scenes(batch.place, batch.foregrounds)
        with world.autocast():
            loss = layerdiff_loss(parts, x0, coverage, batch, empty, alphas, starter.ARCHITECTURE["prediction"])
        run.update(loss)
        total += loss.detach()
        if run.step % TELL_EVERY == 0:
            run.tell(loss=total.item() / TELL_EVERY)
            total.zero_()
        if time.monotonic() - sheet_at > options.sheet_seconds:
            draw()
            sheet_at = time.monotonic()
        if run.done:
            break
    draw()
    run.save()


def export(world: World, options: argparse.Namespace) -> None:
    """Write the starter into models/ and its judges into benchmarks/, in half precision."""
    latent = json.loads((world.folder / "latent.json").read_text())
    network = world.trained_vae()
    pixels = next(vae.pictures(world.renderer(VAE_SEED), world.renderer(VAE_SEED).draw_all(1), 64))
    factors, bias = vae.preview_factors(network, pixels, torch.tensor(latent["mean"]), torch.tensor(latent["std"]))
    architecture = {**starter.ARCHITECTURE, "latent": {**starter.ARCHITECTURE["latent"], **latent,
                                                       "rgb_factors": factors, "rgb_bias": bias}}
    trained = average_of(world.folder / "layerdiff.safetensors")
    tensors = {f"vae.{k}": v for k, v in network.state_dict().items()} | trained
    tensors = {name: tensor.half() for name, tensor in tensors.items()}
    tensors["text.token_ids"] = world.vocabulary.token_ids
    header = checkpoint.Header("layerdiff", "complete", architecture, starter.MAX_LAYERS, "from scratch",
                               "MIT (models/ATTRIBUTION.md)", "scenes rendered by this pack, see models/README.md")
    checkpoint.write(MODELS / "layerdiff_starter.safetensors", header, tensors)
    judge = {name: tensor.half() for name, tensor in average_of(world.folder / "evaluator.safetensors").items()}
    save_file(judge, setup.ROOT / "benchmarks" / "evaluator.safetensors", metadata={
        "objects": json.dumps(world.objects.names), "places": json.dumps(list(PLACES))})


def average_of(path: Path) -> dict[str, torch.Tensor]:
    """The average weights of a run's state."""
    prefix = "average."
    return {name[len(prefix):]: tensor for name, tensor in load_file(path).items() if name.startswith(prefix)}


STAGES = {"evaluator": train_evaluator, "vae": train_vae, "decoder": train_decoder, "unet": train_unet, "export": export}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=float, default=60, help="how long to train in all, earlier starts included")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", default=str(setup.DEV / "data"), help="where the training pictures lie")
    parser.add_argument("--out", default=str(setup.ROOT / ".checkpoints" / "starter"), help="where the state is kept")
    parser.add_argument("--batch", type=int, default=48, help="pictures, or layers, in a step")
    parser.add_argument("--objects", type=int, default=48, help="how many of the objects, the most iconic first")
    parser.add_argument("--styles", type=int, default=1, help="1: 3d alone, 2: 3d and flat")
    parser.add_argument("--variants", type=int, default=6, help="drawings of each object in each slot, size and light")
    parser.add_argument("--place-variants", type=int, default=16, help="pictures of each place in each light")
    parser.add_argument("--sheet-seconds", type=float, default=600, help="time between sample sheets")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    STAGES[options.stage](World(options), options)


if __name__ == "__main__":
    main()
