"""Sample sheets: images that show what the networks generate during training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..whole import whole
from ..world.objects import ObjectSet
from ..world.render import compose
from ..world.scenes import sample_scene
from ..world.words import captions
from .layerdiff import LayerDiff, sample
from .starter import CANVAS
from .text import Vocabulary
from .vae import encode


def save_rows(rows: list[Tensor], path: Path) -> None:
    """Save rows of images, each [N, 3, H, W] in 0..1, as one PNG."""
    sheet = torch.cat([torch.cat(list(row.float().clamp(0, 1).cpu()), dim=2) for row in rows], dim=1)
    with whole(path) as part:
        Image.fromarray((sheet.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(part, "PNG")


def decode(vae: Any, latents: Tensor) -> Tensor:
    """The VAE's latents, not normalised -> images [N, 3, H, W] in 0..1."""
    return (vae.decode(latents).float() / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def autoencoder_sheet(vae: Any, pixels: Tensor, path: Path) -> None:
    """Images above their reconstructions by the autoencoder."""
    save_rows([pixels, decode(vae, encode(vae, pixels))], path)


@torch.no_grad()
def scene_sheet(model: LayerDiff, vae: Any, mean: Tensor, std: Tensor, objects: ObjectSet, vocabulary: Vocabulary,
                alphas: Tensor, path: Path, scenes: int = 8, layers: int = 3, steps: int = 25, scale: float = 4.0,
                seed: int = 1) -> list[str]:
    """Held-out scenes, one per column: the composite, the background, then the image and mask of each layer."""
    rng = np.random.default_rng(seed)
    device = alphas.device
    worlds = [sample_scene(rng, objects, layers, heldout=True) for _ in range(scenes)]
    texts = [captions(world, objects, rng) for world in worlds]
    rows = torch.from_numpy(np.array([[vocabulary.rows(p) for p in prompts] for _, prompts in texts])).to(device)
    global_rows = torch.from_numpy(np.array([vocabulary.rows(prompt) for prompt, _ in texts])).to(device)
    context = model.context(rows, global_rows)[0].flatten(0, 1)
    none = model.encode(torch.from_numpy(vocabulary.rows(""))[None].to(device))
    generator = torch.Generator(device).manual_seed(seed)
    shape = (scenes * layers, 2 * len(mean), CANVAS // vae.ratio, CANVAS // vae.ratio)
    z = sample(model, context, none, shape, layers, steps, scale, alphas, generator)
    spread, shift = (t.to(device).view(1, -1, 1, 1) for t in (std, mean))
    both = [half * spread + shift for half in z.chunk(2, dim=1)]
    picture, mask = (decode(vae, half).unflatten(0, (scenes, layers)).transpose(0, 1) for half in both)
    coverage = mask.mean(2, keepdim=True)
    composed = compose(picture[0], list(picture[1:]), list(coverage[1:]))
    strips = [composed, picture[0]]
    for k in range(1, layers):
        strips += [picture[k], mask[k]]
    save_rows(strips, path)
    return [prompt for prompt, _ in texts]
