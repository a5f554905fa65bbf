"""Trains a LayerDiff model: UNet, text encoder and enhancer together, on scenes assembled from the pool."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from ..world.backgrounds import PLACES
from ..world.objects import ObjectSet
from ..world.scenes import sample_scene
from ..world.words import Told, captions, told
from . import diffusion
from .text import Vocabulary, with_unknown

LAYER_SHARES = {1: 0.04, 2: 0.28, 3: 0.36, 4: 0.32}
PROMPTS_DROPPED = 0.1
GLOBAL_DROPPED = 0.1
EMPTY_WEIGHT = 0.25
UNKNOWN_SHARE = 0.1
UNTOLD = 3


@dataclass
class Batch:
    """Scenes with the same number of layers, as the pool and the text encoder need them.

    place: [B], side: [B], foregrounds: [B, K - 1, 5], rows: [B, K, T], the layer prompts, global_rows: [B, T]; told: [B, K, 3],
    the slot, size and light of each layer according to the global prompt, UNTOLD if it does not say. All long.
    """

    layers: int
    place: Tensor
    side: Tensor
    foregrounds: Tensor
    rows: Tensor
    global_rows: Tensor
    told: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(self.layers, *(getattr(self, name).to(device, non_blocking=True) for name in
                                    ("place", "side", "foregrounds", "rows", "global_rows", "told")))


class Scenes(IterableDataset):
    """Endless batches of training scenes, about `total` layers each, without held-out pairs.

    shares: how often a scene has each number of layers.
    """

    things_shuffled = True

    def __init__(self, objects: ObjectSet, bank_place: Tensor, bank_light: Tensor, vocabulary: Vocabulary, total: int,
                 seed: int = 0, shares: Mapping[int, float] = LAYER_SHARES):
        self.objects, self.vocabulary, self.total, self.seed, self.shares = objects, vocabulary, total, seed, shares
        places = list(PLACES)
        self.pictures: dict[tuple[str, int], np.ndarray] = {}
        for p, place in enumerate(places):
            for light in range(3):
                self.pictures[place, light] = ((bank_place == p) & (bank_light == light)).nonzero()[:, 0].numpy()

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            layers = int(rng.choice(list(self.shares), p=list(self.shares.values())))
            yield self.batch(layers, self.total // layers, rng)

    def batch(self, layers: int, count: int, rng: np.random.Generator) -> Batch:
        """`count` scenes with this number of layers."""
        place, side, foregrounds, rows, global_rows, said = [], [], [], [], [], []
        for _ in range(count):
            scene = sample_scene(rng, self.objects, layers)
            global_prompt, prompts = captions(scene, self.objects, rng, self.things_shuffled)
            side.append(scene.side)
            place.append(rng.choice(self.pictures[scene.place, scene.light]))
            foregrounds.append([[f.object, scene.style, scene.light, f.slot, f.size] for f in scene.foregrounds])
            rows.append([self._rows(prompt, rng) for prompt in prompts])
            global_rows.append(self._rows(global_prompt, rng))
            said.append(told_classes(told(scene, self.objects, global_prompt)))
        return Batch(layers, torch.tensor(np.array(place)), torch.tensor(side),
                     torch.tensor(foregrounds, dtype=torch.long).reshape(count, layers - 1, 5),
                     torch.from_numpy(np.array(rows)), torch.from_numpy(np.array(global_rows)), torch.tensor(said))

    def _rows(self, prompt: str, rng: np.random.Generator) -> np.ndarray:
        rows = self.vocabulary.rows(prompt)
        return with_unknown(rows, self.vocabulary.end, rng) if rng.random() < UNKNOWN_SHARE else rows


def told_classes(told: Told) -> list[list[int]]:
    """[layers][slot, size, light] according to a global prompt, background first, UNTOLD if it does not say."""
    things = [(None, None), *zip(told.slots, told.sizes)]
    return [[UNTOLD if value is None else value for value in (*thing, told.light)] for thing in things]


def plain_attention(host_attention: object, q: Tensor, k: Tensor, v: Tensor, heads: int, **options: object) -> Tensor:
    """Attention as two matrix products, for ComfyUI's attention override. On a CPU its backward pass is faster than that of the
    fused kernels at the starter's sizes. q, k, v: [N, tokens, dim]."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    weight = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return (weight @ v).transpose(1, 2).flatten(2)


class TextSide(nn.Module):
    """Turns prompts into a UNet's context: ComfyUI's CLIP text model and the enhancer."""

    def __init__(self, text: Any, enhancer: nn.Module):
        super().__init__()
        self.text: Any = text
        self.enhancer = enhancer

    def encode(self, rows: Tensor) -> Tensor:
        """Rows [N, T] -> tokens [N, T, dim], the same as from ComfyUI's CLIP."""
        return self.text.text_model(rows, dtype=torch.float32)[0]

    def context(self, rows: Tensor, global_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Enhanced and plain layer prompts: rows [B, K, T], global_rows [B, T] -> two tensors [B, K, T, dim]."""
        count, layers = rows.shape[:2]
        tokens = self.encode(torch.cat([rows.flatten(0, 1), global_rows]))
        plain, overall = tokens[: count * layers], tokens[count * layers :].repeat_interleave(layers, 0)
        enriched = self.enhancer(plain, overall)
        return enriched.unflatten(0, (count, layers)), plain.unflatten(0, (count, layers))


class LayerDiff(TextSide):
    """All trained parts: the layer-collaborative UNet and the text side."""

    def __init__(self, unet: nn.Module, text: Any, enhancer: nn.Module):
        super().__init__(text, enhancer)
        self.unet = unet

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, layers: int) -> Tensor:
        return self.unet(x, timestep, context, transformer_options={"optimized_attention_override": plain_attention},
                         layers=layers)


def context_with_drops(model: TextSide, batch: Batch, empty: Tensor, prompts_dropped: float = PROMPTS_DROPPED,
                       global_dropped: float = GLOBAL_DROPPED) -> Tensor:
    """The UNet's context of a batch, [B * K, T, dim], layers innermost. Some scenes lose all prompts, others only the global one.

    empty: [T], the rows of the empty prompt. prompts_dropped, global_dropped: shares of the scenes.
    """
    context, plain = model.context(batch.rows, batch.global_rows)
    none = model.encode(empty[None])[:, None]
    chance = torch.rand(len(batch.place), 1, 1, 1, device=context.device)
    context = torch.where(chance < prompts_dropped + global_dropped, plain, context)
    return torch.where(chance < prompts_dropped, none, context).flatten(0, 1)


def channel_weight(x0: Tensor, coverage: Tensor) -> Tensor:
    """Factors for prediction and target [N, 2C, h, w]: outside the layer's mask the image counts less, because it is never seen
    and capacity should go to the object (ours)."""
    picture, mask = torch.ones_like(x0).chunk(2, dim=1)
    return torch.cat([picture * (EMPTY_WEIGHT + (1 - EMPTY_WEIGHT) * (coverage > 0)), mask], dim=1).sqrt()


def layerdiff_loss(model: LayerDiff, x0: Tensor, coverage: Tensor, batch: Batch, empty: Tensor, alphas: Tensor,
                   prediction: str, pure_noise: float = diffusion.PURE_NOISE) -> Tensor:
    """The ordinary denoising loss over all layers of a scene at one timestep (LayerDiff, section 3).

    Sometimes all prompts are dropped together, for guidance, or only the global prompt, so that enhancer strength 0 works.
    empty: [T], the rows of the empty prompt. pure_noise: the share of scenes that start from pure noise.
    """
    layers, context = batch.layers, context_with_drops(model, batch, empty)
    timestep, alpha_bar = (each.repeat_interleave(layers)
                           for each in diffusion.draw_timesteps(len(batch.place), alphas, pure_noise))
    x0 = x0.float()
    noise = torch.randn_like(x0)
    predicted = model(diffusion.add_noise(x0, noise, alpha_bar), timestep.float(), context, layers).float()
    wanted = diffusion.target(x0, noise, alpha_bar, prediction)
    weight = channel_weight(x0, coverage)
    return diffusion.loss(predicted * weight, wanted * weight, alpha_bar, prediction).mean()


@torch.no_grad()
def sample(model: LayerDiff, context: Tensor, none: Tensor, shape: tuple[int, ...], layers: int, steps: int,
           scale: float, alphas: Tensor, generator: torch.Generator) -> Tensor:
    """DDIM for v-prediction, only for sample sheets during training. Returns normalised latents.

    context: [N, T, dim]. none: [1, T, dim], the empty prompt. shape: (N, 2C, h, w), layers innermost. scale: guidance scale.
    """
    x = torch.randn(shape, generator=generator, device=context.device)
    both = torch.cat([context, none.expand_as(context)])
    times = torch.linspace(diffusion.TIMESTEPS - 1, 0, steps + 1).long().tolist()
    for index, following in zip(times, times[1:]):
        a = alphas[index]
        after = alphas[following] if following > 0 else torch.ones((), device=x.device)
        timestep = torch.full((2 * len(x),), float(index), device=x.device)
        with_prompt, without = model(torch.cat([x, x]), timestep, both, layers).float().chunk(2)
        v = without + scale * (with_prompt - without)
        x0, noise = a.sqrt() * x - (1 - a).sqrt() * v, (1 - a).sqrt() * x + a.sqrt() * v
        x = after.sqrt() * x0 + (1 - after).sqrt() * noise
    return x
