"""Trains CaT2I-AE-SD, a UNet and a text encoder, on the latents of rendered scenes with a fixed number of layers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..autoencoder import CompositionAutoencoder, Layers
from ..world.objects import ObjectSet
from ..world.renderer import Drawings, Renderer
from ..world.scenes import SLOTS
from . import diffusion
from .cat2i import encode
from .layerdiff import PROMPTS_DROPPED, Batch, Scenes, plain_attention
from .starter import ARCHITECTURE as LAYERDIFF
from .text import Vocabulary

CANVAS = 128
THING_WEIGHT = 5.0


def architecture(foregrounds: int, channels: int | None = None) -> dict[str, Any]:
    """The architecture of the Text2Layer starter for this number of foregrounds. channels: default 8 per layer."""
    channels = channels or 8 * (foregrounds + 1)
    return {
        "foregrounds": foregrounds,
        "latent": {"channels": channels},
        "prediction": "v",
        "unet": {**LAYERDIFF["unet"], "in_channels": channels, "out_channels": channels,
                 "transformer_depth": [0, 1, 0], "transformer_depth_output": [0, 0, 1, 1, 0, 0]},
        "vae": {"patch": 4, "ddconfig": {
            "double_z": True, "resolution": CANVAS // 4, "ch": 64, "ch_mult": [1, 2], "num_res_blocks": 1,
            "attn_resolutions": [], "dropout": 0.0,
        }},
        "text": LAYERDIFF["text"],
    }


class FixedScenes(Scenes):
    """Endless batches of `count` training scenes with a fixed number of foregrounds, without held-out pairs.

    The prompt names objects in the order of their layers, because nothing else would tell which foreground is which (ours).
    """

    things_shuffled = False

    def __init__(self, objects: ObjectSet, bank_place: Tensor, bank_light: Tensor, vocabulary: Vocabulary,
                 foregrounds: int, count: int, seed: int = 0):
        super().__init__(objects, bank_place, bank_light, vocabulary, count, seed)
        self.foregrounds = foregrounds

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield self.batch(self.foregrounds + 1, self.total, rng)


def draw(renderer: Renderer, drawings: Drawings, batch: Batch) -> Layers:
    """Assemble a batch's scenes from drawings: layers in 0..1, foregrounds with colours extended outwards.

    Drawings are lit from the left. A scene lit from the right is mirrored as a whole.
    """
    batch = batch.to(renderer.device)
    *fields, slot, size = batch.foregrounds.unbind(-1)
    slot = torch.where(batch.side[:, None] == 1, len(SLOTS) - 1 - slot, slot)
    index = torch.randint(drawings.shape[0], slot.shape, device=renderer.device)
    for axis, field in zip(drawings.shape[1:], (*fields, slot, size)):
        index = index * axis + field
    right = batch.side.bool()[:, None, None, None, None]
    pictures, coverages = (torch.where(right, part.flip(-1), part) for part in
                           (drawings.pictures[index].float() / 255, drawings.coverages[index].float() / 255))
    return Layers(pictures, renderer.place_pictures(batch.place, batch.side), coverages)


class ScenePool:
    """Latents of whole scenes with their prompts, drawn and encoded during training.

    A latent holds all layers of a scene, so scenes cannot be assembled from separate layers as in LayerDiff.
    """

    def __init__(self, renderer: Renderer, drawings: Drawings, autoencoder: CompositionAutoencoder, size: int,
                 channels: int, rows: int):
        device, side = renderer.device, renderer.canvas // 8
        self.renderer, self.drawings, self.autoencoder = renderer, drawings, autoencoder
        self.latents = torch.empty(size, channels, side, side, dtype=torch.bfloat16, device=device)
        self.rows = torch.empty(size, rows, dtype=torch.int16, device=device)
        self.weights = torch.empty(size, 1, side, side, dtype=torch.bfloat16, device=device)
        self.cursor = self.filled = 0

    def add(self, batch: Batch) -> None:
        """Draw and encode a batch of scenes. Once the pool is full, they replace the oldest ones."""
        index = torch.arange(self.cursor, self.cursor + len(batch.place), device=self.latents.device)
        index %= len(self.latents)
        layers = draw(self.renderer, self.drawings, batch)
        self.latents[index] = encode(self.autoencoder, layers).to(torch.bfloat16)
        self.weights[index] = thing_weights(layers.masks).to(torch.bfloat16)
        self.rows[index] = batch.global_rows.to(self.rows.device, torch.int16)
        self.cursor += len(batch.place)
        self.filled = min(self.cursor, len(self.latents))

    def sample(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random scenes: latents [count, C, h, w], not normalised, prompts' rows [count, LENGTH], and the loss' weights
        [count, 1, h, w]."""
        index = torch.randint(self.filled, (count,), device=self.latents.device)
        return self.latents[index].float(), self.rows[index].long(), self.weights[index].float()


def thing_weights(masks: Tensor) -> Tensor:
    """Masks [B, N, 1, H, W] -> loss weights [B, 1, H / 8, W / 8] with mean 1 in each scene, higher where objects are.

    Ours: objects cover a tenth of a scene and are its hard part. The weights contain information that the network has yet to
    predict, so while it is uncertain it leans towards an object being there.
    """
    covered = functional.adaptive_max_pool2d(masks.amax(1), (masks.shape[-2] // 8, masks.shape[-1] // 8))
    weights = 1 + (THING_WEIGHT - 1) * covered
    return weights / weights.mean((2, 3), keepdim=True)


class Text2Layer(nn.Module):
    """The trained parts of CaT2I-AE-SD: ComfyUI's UNet, unchanged, and its CLIP text model."""

    def __init__(self, unet: nn.Module, text: Any):
        super().__init__()
        self.unet = unet
        self.text: Any = text

    def encode(self, rows: Tensor) -> Tensor:
        """Rows [N, LENGTH] -> tokens [N, LENGTH, dim], the same as from ComfyUI's CLIP."""
        return self.text.text_model(rows, dtype=torch.float32)[0]

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, layers: int = 1) -> Tensor:
        """Run the UNet. layers: always 1, only for compatibility with LayerDiff's sampler."""
        return self.unet(x, timestep, context, transformer_options={"optimized_attention_override": plain_attention})


def text2layer_loss(model: Text2Layer, x0: Tensor, rows: Tensor, weights: Tensor, empty: Tensor, alphas: Tensor,
                    prediction: str) -> Tensor:
    """The denoising loss on normalised latents [B, C, h, w]; rows [B, LENGTH], weights [B, 1, h, w]; one prompt in ten is
    dropped."""
    dropped = torch.rand(len(rows), 1, device=rows.device) < PROMPTS_DROPPED
    context = model.encode(torch.where(dropped, empty[None], rows))
    timestep, alpha_bar = diffusion.draw_timesteps(len(x0), alphas)
    noise = torch.randn_like(x0)
    predicted = model(diffusion.add_noise(x0, noise, alpha_bar), timestep.float(), context)
    wanted, root = diffusion.target(x0, noise, alpha_bar, prediction), weights.sqrt()
    return diffusion.loss(root * predicted, root * wanted, alpha_bar, prediction).mean()


def sheet_rows(layers: Layers, image: Tensor) -> list[Tensor]:
    """Rows for a sample sheet: each F, B, each m, the composite by the formula, and that of the I head."""
    masks = [mask.expand(-1, 3, -1, -1) for mask in layers.masks.unbind(1)]
    return [*layers.foregrounds.unbind(1), layers.background, *masks, layers.composite(), image]
