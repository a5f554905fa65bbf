"""Training of CaT2I-AE: initial weights, the objective, metrics, and measurements on the finished autoencoder."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..autoencoder import CompositionAutoencoder, Layers, unstack
from ..evaluator import overlap
from . import losses

KL_WEIGHT = 1e-4
START_LOGVAR = -5.0
# Scales the distance of random features to that of LPIPS, which is about a sixth of it.
PERCEPTUAL_WEIGHT = 0.15
DECODER_NOISE = 0.3


@torch.no_grad()
def initialise(model: CompositionAutoencoder) -> None:
    """Initialise the weights so that the signal keeps its magnitude. Ours.

    Residual branches start at zero, because otherwise their output drowns out the colours, which the branches' norms remove.
    The latent's noise starts small, because otherwise it drowns out the latent. Images start at medium grey. Masks do not,
    because from there L1 would first push them to zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.get_parameter("bias"))
    silent: list[Any] = [module for name, module in model.named_modules() if name.endswith((".conv2", ".proj_out"))]
    for module in silent + [head[3] for kind, head in model.heads.items() if kind != "mask"]:
        nn.init.zeros_(module.weight)
    model.quant_conv.bias.chunk(2)[1].fill_(START_LOGVAR)


@torch.no_grad()
def start_from(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copy the weights whose name and shape match; all others are unchanged. Returns the names of those copied.

    tensors: with the model's own names, so that an SD autoencoder's ("encoder.conv_in.weight") fit CaT2I-AE. At SD's widths,
    all fit except the encoder's first convolution, which has more input channels here. Ours, to save training time: the paper
    trains from scratch.
    """
    own = model.state_dict()
    taken = [name for name, value in tensors.items() if name in own and own[name].shape == value.shape]
    for name in taken:
        own[name].copy_(tensors[name])
    return taken


def stacked(layers: Layers) -> Tensor:
    """Layers in 0..1 -> the autoencoder's input, -1..1."""
    return (layers.stack() * 2 - 1).contiguous(memory_format=torch.channels_last)


class Step(NamedTuple):
    """The results of one step of the autoencoder: the loss, its parts, and the images, 0..1, for the discriminator."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    found: Layers
    image: Tensor
    real: Tensor
    fake: Tensor


class AutoencoderObjective:
    """L = L_img(F, B, I) + L_mask + a light KL term (Text2Layer, section 4.1), each term as in `losses`.

    For comparisons: without composed, I is left out; without mask_terms, a mask is an image like F and B (a plain
    autoencoder's loss). latent_std: [1, C, 1, 1], to train only the decoder: latents get noise of up to DECODER_NOISE times
    their standard deviation, so that the decoder learns to tolerate the noise that a diffusion model leaves (ours).
    """

    def __init__(self, model: Any, discriminator: nn.Module, features: nn.Module, composed: bool = True,
                 mask_terms: bool = True, latent_std: Tensor | None = None):
        self.model, self.discriminator, self.features = model, discriminator, features
        self.composed, self.mask_terms, self.latent_std = composed, mask_terms, latent_std

    def generator(self, layers: Layers, adversarial: bool) -> Step:
        """The autoencoder's loss for layers in 0..1; the adversarial term starts late, as in SD's schedule."""
        mean, logvar = (t.float() for t in self.model.moments(stacked(layers)))
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        if self.latent_std is not None:
            share = DECODER_NOISE * torch.rand(len(z), 1, 1, 1, device=z.device)
            z = z + share * self.latent_std * torch.randn_like(z)
        found, image = unstack(self.model.decode(z).float() / 2 + 0.5)
        composed = layers.composite()
        fake, real = self._pictures(found, image), self._pictures(layers, composed)
        # The paper sums over F, B and I, hence the mean over all images times their number.
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
        """The images that L_img compares, [N, 3, H, W]."""
        pictures = [layers.foregrounds.flatten(0, 1), layers.background]
        if self.composed:
            pictures.append(image)
        if not self.mask_terms:
            pictures.append(layers.masks.flatten(0, 1).expand(-1, 3, -1, -1))
        return torch.cat(pictures)

    def critic(self, step: Step) -> Tensor:
        """The discriminator's loss on the same images."""
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
    """Fit the linear maps from normalised latents that the file stores: to the composed image's colours in -1..1, for ComfyUI's
    live preview, and to each foreground's mask in 0..1, for Self-Mask Guidance.

    mean, std: [C]. Returns rgb_factors [C][3], rgb_bias [3], mask_factors [C][N], mask_bias [N].
    """
    inputs, wanted = [], []
    for layers in batches:
        z = (encode(model, layers) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
        targets = torch.cat([layers.composite() * 2 - 1, layers.masks.flatten(1, 2)], dim=1)
        inputs.append(torch.cat([z, torch.ones_like(z[:, :1])], dim=1))
        wanted.append(functional.adaptive_avg_pool2d(targets, (z.shape[-2], z.shape[-1])))
    x, y = (torch.cat(parts).movedim(1, -1).flatten(0, 2).cpu().double() for parts in (inputs, wanted))
    solution = torch.linalg.lstsq(x, y, driver="gelsd").solution  # gelsd handles linearly dependent channels
    factors, bias = solution[:-1], solution[-1]
    return {"rgb_factors": factors[:, :3].tolist(), "rgb_bias": bias[:3].tolist(),
            "mask_factors": factors[:, 3:].tolist(), "mask_bias": bias[3:].tolist()}


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of the heads."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def settle_norms(model: CompositionAutoencoder, batches: list[Layers]) -> None:
    """Measure the batch norms' statistics again over `batches` and use them from now on, also in training.

    Ours: this way the last part of training computes the same as the exported model, and the averaged weights match the
    statistics.
    """
    for norm in norms(model):
        norm.reset_running_stats()
        norm.train().momentum = None
    for layers in batches:
        model.decode(model.encode(stacked(layers)))
    for norm in norms(model):
        norm.train(False)


@torch.no_grad()
def encode(model: CompositionAutoencoder, layers: Layers) -> Tensor:
    """The latent's mean of layers in 0..1, float32, not normalised."""
    return model.encode(stacked(layers)).float()


@torch.no_grad()
def decode(model: CompositionAutoencoder, z: Tensor) -> tuple[Layers, Tensor]:
    """Layers and composed image of a latent, 0..1."""
    return unstack((model.decode(z).float() / 2 + 0.5).clamp(0, 1))
