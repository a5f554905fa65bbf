"""What redrawing shares between the families: settings, noise, noise masks, and ComfyUI's sampling."""

import hashlib
from typing import Any, NamedTuple

import comfy.sample
import comfy.utils
import latent_preview
import torch
import torch.nn.functional as F
from torch import Tensor

from .codecs import LayerCodec


class Sampling(NamedTuple):
    """Sampling settings, named as in ComfyUI's KSampler."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float


class Drawing(NamedTuple):
    """What was drawn: the LATENT, and the colours [N, H, W, 3] and coverage [N, H, W] of the N chosen layers, 0..1.

    blended: the whole scene as LayerDiffuse drew it, [1, H, W, 3], None for another model.
    """

    latent: dict[str, Any]
    pictures: Tensor
    coverage: Tensor
    blended: Tensor | None = None


def sampled(model: Any, samples: Tensor, free: Tensor | None, positive: Any, negative: Any, how: Sampling) -> Tensor:
    """Samples what a noise mask frees, None for everything. At denoise 1, nothing of its old content remains in it."""
    if how.denoise >= 1:
        blank = model.get_model_object("latent_format").process_out(torch.zeros_like(samples))
        samples = blank if free is None else torch.where(free.to(samples.device) > 0, blank, samples)
    found: Tensor = comfy.sample.sample(
        model, layer_noise(samples, how.seed), how.steps, how.cfg, how.sampler_name, how.scheduler, positive, negative, samples,
        denoise=how.denoise, noise_mask=free, callback=latent_preview.prepare_callback(model, how.steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=how.seed)
    return found


def layer_noise(samples: Tensor, seed: int) -> Tensor:
    """Noise in the shape of `samples` for ComfyUI's sampling. A layer's noise depends only on the seed and the layer's number."""
    rows = []
    for number in range(len(samples)):
        own = int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:7], "big")
        rows.append(torch.randn(samples.shape[1:], generator=torch.Generator().manual_seed(own)))
    return torch.stack(rows).to(samples.dtype)


def on_latent(codec: LayerCodec, inside: Tensor) -> Tensor:
    """A noise mask [N, 1, h, w] that frees every part of the latent that affects a region [N, H, W] of the image."""
    filled = codec.fill_up(inside[..., None]).movedim(-1, 1)
    return (F.max_pool2d(filled, codec.ratio) > 0).float()
