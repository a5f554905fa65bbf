"""Trains Text2Layer: CaT2I-AE on rendered scenes, then a UNet and a text encoder on its latents."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..autoencoder import CompositionAutoencoder, Layers, unstack
from ..data.objects import ObjectSet
from ..evaluation.evaluator import overlap
from . import diffusion, losses
from .layerdiff import PROMPTS_DROPPED, Batch, Scenes, plain_attention
from .render import Drawings, Renderer
from .starter import ARCHITECTURE as LAYERDIFF
from .starter import CANVAS
from .text import Vocabulary

KL_WEIGHT = 1e-4
START_LOGVAR = -5.0
# brings the random features' distance to the size of LPIPS, which is about a sixth of it
PERCEPTUAL_WEIGHT = 0.15


def architecture(foregrounds: int, channels: int | None = None) -> dict[str, Any]:
    """The Text2Layer starter for scenes of so many foregrounds; 8 latent channels a layer unless it is said how many."""
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
    """Endless batches of `count` training scenes of one number of foregrounds; held-out pairs never appear."""

    def __init__(self, objects: ObjectSet, bank_place: Tensor, bank_light: Tensor, vocabulary: Vocabulary,
                 foregrounds: int, count: int, seed: int = 0):
        super().__init__(objects, bank_place, bank_light, vocabulary, count, seed)
        self.foregrounds = foregrounds

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield self._batch(self.foregrounds + 1, self.total, rng)


def draw(renderer: Renderer, drawings: Drawings, batch: Batch) -> Layers:
    """A batch's scenes put together from drawings: layers in 0..1, foregrounds with colours bled outwards."""
    foregrounds = batch.foregrounds.to(renderer.device)
    index = torch.randint(drawings.shape[0], foregrounds.shape[:2], device=renderer.device)
    for axis, size in enumerate(drawings.shape[1:]):
        index = index * size + foregrounds[..., axis]
    return Layers(drawings.pictures[index].float() / 255, renderer.place_pictures(batch.place.to(renderer.device)),
                  drawings.coverages[index].float() / 255)


@torch.no_grad()
def initialise(model: CompositionAutoencoder) -> None:
    """Fresh weights under which the signal comes through unchanged in size. Ours.

    Residual branches start at zero, or their output drowns the colours, which the branches' norms cannot see; the
    latent's noise starts small, or it drowns the latent. Pictures start at middle grey; masks do not, since from there
    L1 first draws them to nothing.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.get_parameter("bias"))
    silent: list[Any] = [module for name, module in model.named_modules() if name.endswith((".conv2", ".proj_out"))]
    for module in silent + [head[3] for kind, head in model.heads.items() if kind != "mask"]:
        nn.init.zeros_(module.weight)
    model.quant_conv.bias.chunk(2)[1].fill_(START_LOGVAR)


def stacked(layers: Layers) -> Tensor:
    """Layers in 0..1 -> what the autoencoder takes, -1..1."""
    return (layers.stack() * 2 - 1).contiguous(memory_format=torch.channels_last)


class Step(NamedTuple):
    """What one step of the autoencoder gave: the loss, its parts, and the pictures, 0..1, for the discriminator."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    found: Layers
    image: Tensor
    real: Tensor
    fake: Tensor


class AutoencoderObjective:
    """L = L_img(F, B, I) + L_mask + a light KL term (Text2Layer, section 4.1), each term as in `losses`.

    For comparisons: without composed, I is left out; without mask_terms a mask is a picture like F and B (a plain
    autoencoder's loss).
    """

    def __init__(self, model: Any, discriminator: nn.Module, features: nn.Module, composed: bool = True,
                 mask_terms: bool = True):
        self.model, self.discriminator, self.features = model, discriminator, features
        self.composed, self.mask_terms = composed, mask_terms

    def generator(self, layers: Layers, adversarial: bool) -> Step:
        """The autoencoder's loss for layers in 0..1; the adversarial term starts late, as in SD's schedule."""
        mean, logvar = (t.float() for t in self.model.moments(stacked(layers)))
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        found, image = unstack(self.model.decode(z).float() / 2 + 0.5)
        composed = layers.composite()
        fake, real = self._pictures(found, image), self._pictures(layers, composed)
        # the paper adds up F, B and I: the mean over all pictures, times their number
        pictures = len(fake) / len(image)
        perceptual = losses.perceptual_loss(self.features, fake, real)
        reconstruction = pictures * (losses.l1_loss(fake, real) + PERCEPTUAL_WEIGHT * perceptual)
        if self.mask_terms:
            by_masks = Layers(layers.foregrounds, layers.background, found.masks).composite()
            reconstruction = reconstruction + losses.mask_loss(found.masks.flatten(0, 1), layers.masks.flatten(0, 1),
                                                               by_masks, composed)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = reconstruction + KL_WEIGHT * kl
        if adversarial:
            self.discriminator.requires_grad_(False)
            term = losses.adversarial_loss(self.discriminator(fake))
            loss = loss + losses.adaptive_weight(reconstruction, term, self.model.last_layers()) * term
        return Step(loss, reconstruction, kl, found, image, real, fake.detach())

    def _pictures(self, layers: Layers, image: Tensor) -> Tensor:
        """What L_img compares, [N, 3, H, W]."""
        pictures = [layers.foregrounds.flatten(0, 1), layers.background]
        if self.composed:
            pictures.append(image)
        if not self.mask_terms:
            pictures.append(layers.masks.flatten(0, 1).expand(-1, 3, -1, -1))
        return torch.cat(pictures)

    def critic(self, step: Step) -> Tensor:
        """The discriminator's loss on the same pictures."""
        self.discriminator.requires_grad_(True)
        return losses.discriminator_loss(self.discriminator(step.real), self.discriminator(step.fake))


@torch.no_grad()
def reconstruction_figures(layers: Layers, found: Layers, image: Tensor) -> dict[str, float]:
    """PSNR of F, B and I (I from its head), IOU of the masks, mean difference of the formula's I from the head's."""
    def psnr(a: Tensor, b: Tensor) -> float:
        return -10 * (a.clamp(0, 1) - b).square().flatten(1).mean(1).log10().mean().item()

    clean = Layers(*(t.clamp(0, 1) for t in (found.foregrounds, found.background, found.masks)))
    return {
        "psnr_foreground": psnr(found.foregrounds, layers.foregrounds),
        "psnr_background": psnr(found.background, layers.background),
        "psnr_composed": psnr(image, layers.composite()),
        "mask_iou": overlap(found.masks.flatten(0, 1), layers.masks.flatten(0, 1)).mean().item(),
        "formula_head_difference": (clean.composite() - image.clamp(0, 1)).abs().mean().item(),
    }


@torch.no_grad()
def latent_maps(model: CompositionAutoencoder, batches: list[Layers], mean: Tensor, std: Tensor) -> dict[str, Any]:
    """The linear maps from normalised latents that fit best, as the file keeps them: to the composed image's colours in
    -1..1, for the host's live preview, and to each foreground's mask in 0..1, for Self-Mask Guidance.

    mean and std [C]. Returns rgb_factors [C][3], rgb_bias [3], mask_factors [C][N], mask_bias [N].
    """
    inputs, wanted = [], []
    for layers in batches:
        z = (encode(model, layers) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
        targets = torch.cat([layers.composite() * 2 - 1, layers.masks.flatten(1, 2)], dim=1)
        inputs.append(torch.cat([z, torch.ones_like(z[:, :1])], dim=1))
        wanted.append(functional.adaptive_avg_pool2d(targets, (z.shape[-2], z.shape[-1])))
    x, y = (torch.cat(parts).movedim(1, -1).flatten(0, 2).cpu().double() for parts in (inputs, wanted))
    solution = torch.linalg.lstsq(x, y, driver="gelsd").solution  # the one that bears channels that depend on each other
    factors, bias = solution[:-1], solution[-1]
    return {"rgb_factors": factors[:, :3].tolist(), "rgb_bias": bias[:3].tolist(),
            "mask_factors": factors[:, 3:].tolist(), "mask_bias": bias[3:].tolist()}


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of the heads."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def settle_norms(model: CompositionAutoencoder, batches: list[Layers]) -> None:
    """Measure the batch norms' statistics anew over `batches` and use them from now on, in training too.

    Ours: the last part of training sees what the user's model computes, and the averaged weights fit the statistics.
    """
    for norm in norms(model):
        norm.reset_running_stats()
        norm.train().momentum = None
    for layers in batches:
        model.decode(model.encode(stacked(layers)))
    for norm in norms(model):
        norm.eval()


@torch.no_grad()
def encode(model: CompositionAutoencoder, layers: Layers) -> Tensor:
    """The latent's mean of layers in 0..1, float32, not normalised."""
    return model.encode(stacked(layers)).float()


@torch.no_grad()
def decode(model: CompositionAutoencoder, z: Tensor) -> tuple[Layers, Tensor]:
    """Layers and composed image of a latent, 0..1."""
    return unstack((model.decode(z).float() / 2 + 0.5).clamp(0, 1))


class ScenePool:
    """Latents of whole scenes with their prompts, drawn and encoded while training goes on.

    A latent holds all layers of a scene, so scenes cannot be put together from parts, as LayerDiff's can.
    """

    def __init__(self, renderer: Renderer, drawings: Drawings, autoencoder: CompositionAutoencoder, size: int,
                 channels: int, rows: int):
        device, side = renderer.device, renderer.canvas // 8
        self.renderer, self.drawings, self.autoencoder = renderer, drawings, autoencoder
        self.latents = torch.empty(size, channels, side, side, dtype=torch.bfloat16, device=device)
        self.rows = torch.empty(size, rows, dtype=torch.int16, device=device)
        self.cursor = self.filled = 0

    def add(self, batch: Batch) -> None:
        """Draw and encode a batch of scenes; the oldest scenes make room once the pool is full."""
        index = torch.arange(self.cursor, self.cursor + len(batch.place), device=self.latents.device)
        index %= len(self.latents)
        self.latents[index] = encode(self.autoencoder, draw(self.renderer, self.drawings, batch)).to(torch.bfloat16)
        self.rows[index] = batch.global_rows.to(self.rows.device, torch.int16)
        self.cursor += len(batch.place)
        self.filled = min(self.cursor, len(self.latents))

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Random scenes: latents [count, C, h, w], not normalised, and prompts' rows [count, LENGTH]."""
        index = torch.randint(self.filled, (count,), device=self.latents.device)
        return self.latents[index].float(), self.rows[index].long()


class Text2Layer(nn.Module):
    """CaT2I-AE-SD's trained parts: the host's UNet as it is, and its CLIP text model."""

    def __init__(self, unet: nn.Module, text: Any):
        super().__init__()
        self.unet = unet
        self.text: Any = text

    def encode(self, rows: Tensor) -> Tensor:
        """Rows [N, LENGTH] -> tokens [N, LENGTH, dim], as the host's CLIP gives them."""
        return self.text.text_model(rows, dtype=torch.float32)[0]

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, layers: int = 1) -> Tensor:
        """The UNet; `layers` is there so that LayerDiff's sampler serves, and is always 1."""
        return self.unet(x, timestep, context, transformer_options={"optimized_attention_override": plain_attention})


def text2layer_loss(model: Text2Layer, x0: Tensor, rows: Tensor, empty: Tensor, alphas: Tensor,
                    prediction: str) -> Tensor:
    """The ordinary denoising loss on normalised latents [B, C, h, w]; rows [B, LENGTH]; one prompt in ten is dropped."""
    dropped = torch.rand(len(rows), 1, device=rows.device) < PROMPTS_DROPPED
    context = model.encode(torch.where(dropped, empty[None], rows))
    timestep = torch.randint(diffusion.TIMESTEPS, (len(x0),), device=x0.device)
    alpha_bar, noise = alphas[timestep], torch.randn_like(x0)
    predicted = model(diffusion.add_noise(x0, noise, alpha_bar), timestep.float(), context)
    return diffusion.loss(predicted, diffusion.target(x0, noise, alpha_bar, prediction), alpha_bar, prediction).mean()


def sheet_rows(layers: Layers, image: Tensor) -> list[Tensor]:
    """Rows for a sheet: each F, B, each m, the composite by the formula, the I head's."""
    masks = [mask.expand(-1, 3, -1, -1) for mask in layers.masks.unbind(1)]
    return [*layers.foregrounds.unbind(1), layers.background, *masks, layers.composite(), image]
