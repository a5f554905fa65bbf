"""Shared by the training stages: the world's images and words on a device, and the networks with their states."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from tools import setup, training_host
from tools.arguments import a_count, a_device, a_number
from tools.objects import objects_file

training_host.import_networks()

from layerdiff_pack.layerdiff_core.data.backgrounds import PLACES  # noqa: E402
from layerdiff_pack.layerdiff_core.data.objects import load_objects  # noqa: E402
from layerdiff_pack.layerdiff_core.enhancer import PromptEnhancer  # noqa: E402
from layerdiff_pack.layerdiff_core.training import starter  # noqa: E402
from layerdiff_pack.layerdiff_core.training.layerdiff import LAYER_SHARES, Batch, Scenes, TextSide  # noqa: E402
from layerdiff_pack.layerdiff_core.training.render import Renderer, place_bank  # noqa: E402
from layerdiff_pack.layerdiff_core.training.run import Run, has_bfloat16  # noqa: E402
from layerdiff_pack.layerdiff_core.training.text import Vocabulary  # noqa: E402
from layerdiff_pack.nodes.host import networks  # noqa: E402

MODELS = setup.ROOT / "models"
TELL_EVERY = 50
WORKERS = 8


class World:
    """Everything shared by the stages: objects, places, words and the device."""

    def __init__(self, options: argparse.Namespace, canvas: int = starter.CANVAS):
        self.canvas = canvas
        self.device = torch.device(options.device)
        self.folder, self.data = Path(options.out), Path(options.data)
        objects = load_objects(objects_file(self.data))
        self.objects = objects.first(options.objects, options.styles)
        bank_path = self.data / f"places_{canvas}_{options.place_variants}.safetensors"
        self.bank = place_bank(bank_path, options.place_variants, canvas, workers=torch.get_num_threads())
        tokens = training_host.word_tokenizer(self.data, starter.caption_words(self.objects))
        self.vocabulary = Vocabulary(tokens[0], starter.caption_words(self.objects), *tokens[1:])
        print(f"{len(self.objects)} objects, {len(PLACES)} places in {len(self.bank['place'])} pictures, "
              f"{len(self.vocabulary)} tokens", flush=True)

    def renderer(self, seed: int) -> Renderer:
        return Renderer(self.objects, self.bank, self.canvas, self.device, seed)

    def autocast(self) -> torch.autocast:
        """Autocast to bfloat16 if the device supports it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device))

    def trained_vae(self) -> Any:
        """The averaged autoencoder of the earlier stages, frozen."""
        network = self.new_vae()
        network.load_state_dict(average_of(self.folder / "vae.safetensors"))
        if (self.folder / "decoder.safetensors").exists():
            network.load_state_dict(average_of(self.folder / "decoder.safetensors"), strict=False)
        return network.requires_grad_(False)

    def scenes(self, layers: int, seed: int, shares: Mapping[int, float] = LAYER_SHARES, styles: int = 2) -> Iterator[Batch]:
        """Endless training batches of about this many layers, on the device. If the device is so fast that it would have to wait,
        they are drawn in other processes. styles: the first styles that they have, if the world has so many."""
        scenes = self.scene_source(layers, seed, shares, styles)
        source: Iterable[Batch] = scenes
        if self.device.type != "cpu":
            source = DataLoader(scenes, batch_size=None, num_workers=WORKERS)
        return (batch.to(self.device) for batch in source)

    def scene_source(self, layers: int, seed: int, shares: Mapping[int, float] = LAYER_SHARES, styles: int = 2) -> Scenes:
        """The source of these batches."""
        objects = self.objects.first(len(self.objects), styles)
        return Scenes(objects, self.bank["place"], self.bank["light"], self.vocabulary, layers, seed, shares)

    def new_text_side(self) -> TextSide:
        """A new text encoder, and an enhancer with open gates."""
        enhancer = PromptEnhancer(**starter.ARCHITECTURE["enhancer"])
        enhancer.open_gates()
        return TextSide(networks.trainable_text_model(starter.ARCHITECTURE, len(self.vocabulary)), enhancer)

    def new_unet(self) -> Any:
        """A new UNet, to be trained from scratch."""
        unet = networks.unet(starter.ARCHITECTURE)
        networks.initialise(unet)
        unet.reset_added_parameters()
        networks.initialise_added_convolutions(unet)
        return unet

    def new_vae(self) -> Any:
        network = networks.autoencoder(starter.ARCHITECTURE)
        networks.initialise(network)
        return network.to(self.device, memory_format=torch.channels_last)


def average_of(path: Path) -> dict[str, torch.Tensor]:
    """The averaged weights in a run's state."""
    prefix = "average."
    return {name[len(prefix):]: tensor for name, tensor in load_file(path).items() if name.startswith(prefix)}


def add_common_arguments(parser: argparse.ArgumentParser, model: str, objects: int) -> None:
    """Add the arguments that training commands share. objects: the default number of objects."""
    parser.add_argument("--minutes", type=a_number(0, above=True), default=60,
                        help="total training time, including earlier runs")
    parser.add_argument("--device", type=a_device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", default=str(setup.DEV / "data"), help="folder of the training images")
    parser.add_argument("--out", default=str(setup.ROOT / ".checkpoints" / model), help="folder of the training state")
    parser.add_argument("--objects", type=a_count(), default=objects, help="number of objects, the most iconic first")
    parser.add_argument("--styles", type=int, choices=(1, 2), default=1, help="1: 3d only, 2: 3d and flat")
    parser.add_argument("--variants", type=a_count(), default=6, help="drawings per object, slot, size and light")
    parser.add_argument("--place-variants", type=a_count(), default=16, help="images per place and light")
    parser.add_argument("--sheet-seconds", type=a_number(0), default=600, help="seconds between sample sheets")


def prepare_torch() -> None:
    """Make training repeatable, and fast on NVIDIA GPUs."""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def update(world: World, objective: Any, run: Run, critic: Run, batch: Any, adversarial: bool) -> Any:
    """Take one step of an autoencoder, or its decoder, and one of the discriminator if it is used."""
    with world.autocast():
        step = objective.generator(batch, adversarial)
    run.update(step.loss)
    if adversarial:
        with world.autocast():
            loss = objective.critic(step)
        critic.update(loss)
    return step
