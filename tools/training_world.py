"""Shared by the training stages: the world's images and words on a device, and the networks with their states."""

import argparse
from pathlib import Path
from typing import Any

import torch

from tools import setup, training_host
from tools.arguments import a_count, a_device, a_number
from tools.objects import objects_file

training_host.import_networks()

from layerdiff_pack.layerdiff_core.enhancer import PromptEnhancer  # noqa: E402
from layerdiff_pack.layerdiff_core.training import starter  # noqa: E402
from layerdiff_pack.layerdiff_core.training.layerdiff import TextSide  # noqa: E402
from layerdiff_pack.layerdiff_core.training.loops.plan import Plan  # noqa: E402
from layerdiff_pack.layerdiff_core.training.run import average_of  # noqa: E402
from layerdiff_pack.layerdiff_core.training.setting import Setting  # noqa: E402
from layerdiff_pack.layerdiff_core.training.text import Vocabulary  # noqa: E402
from layerdiff_pack.layerdiff_core.world.backgrounds import PLACES  # noqa: E402
from layerdiff_pack.layerdiff_core.world.objects import load_objects  # noqa: E402
from layerdiff_pack.layerdiff_core.world.renderer import place_bank  # noqa: E402
from layerdiff_pack.nodes.host import networks  # noqa: E402

MODELS = setup.ROOT / "models"


class World(Setting):
    """Everything shared by the stages: objects, places, words, the device, the folders, and new networks."""

    def __init__(self, options: argparse.Namespace, canvas: int = starter.CANVAS):
        self.folder, self.data = Path(options.out), Path(options.data)
        objects = load_objects(objects_file(self.data)).first(options.objects, options.styles)
        bank_path = self.data / f"places_{canvas}_{options.place_variants}.safetensors"
        bank = place_bank(bank_path, options.place_variants, canvas, workers=torch.get_num_threads())
        tokens = training_host.word_tokenizer(self.data, starter.caption_words(objects))
        vocabulary = Vocabulary(tokens[0], starter.caption_words(objects), *tokens[1:])
        super().__init__(objects, bank, vocabulary, canvas, torch.device(options.device))
        print(f"{len(objects)} objects, {len(PLACES)} places in {len(bank['place'])} pictures, {len(vocabulary)} tokens",
              flush=True)

    def trained_vae(self) -> Any:
        """The averaged autoencoder of the earlier stages, frozen."""
        network = self.new_vae()
        network.load_state_dict(average_of(self.folder / "vae.safetensors"))
        if (self.folder / "decoder.safetensors").exists():
            network.load_state_dict(average_of(self.folder / "decoder.safetensors"), strict=False)
        return network.requires_grad_(False)

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
        return self.placed(network)


def plan_of(options: argparse.Namespace, rate: float) -> Plan:
    """The plan of a stage. rate: its default learning rate."""
    return Plan(options.minutes * 60, options.rate or rate, options.batch, options.sheet_seconds)


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
