"""Plain networks of the host's classes, made from a file's architecture, for training and for loading alike."""

from typing import Any

import comfy.ops
import torch
from comfy.clip_model import CLIPLayer, CLIPTextModel
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.model import Decoder, Encoder
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ...layerdiff_core.autoencoder import CompositionAutoencoder
from ...layerdiff_core.refine import PixelHead
from .unet import LayerCollaborativeUNet

PLAIN = comfy.ops.disable_weight_init


def unet(architecture: dict, dtype: torch.dtype = torch.float32, device: Any = None,
         operations: Any = PLAIN) -> LayerCollaborativeUNet:
    """The layer-collaborative UNet of an architecture; its weights are not initialised."""
    return LayerCollaborativeUNet(**unet_config(architecture), dtype=dtype, device=device, operations=operations)


def unet_config(architecture: dict) -> dict:
    """Arguments of the UNet: those of the file, twice the latent channels in and out, and whether it has position features."""
    channels = 2 * architecture["latent"]["channels"]
    return {**architecture["unet"], "in_channels": channels, "out_channels": channels,
            "position": architecture.get("position", False)}


class PatchAutoencoder(AutoencoderKL):
    """The host's VAE over patches of pixels, which makes the starter's fast on a CPU: the full resolution is where a
    small autoencoder spends its time.

    `decoder`, where there is one: the decoder's own "patch" and "ddconfig", for one that is stronger than the encoder, and
    "features" and "width" of the `PixelHead` after it. Without it the decoder mirrors the encoder.
    """

    def __init__(self, patch: int, channels: int, ddconfig: dict, decoder: dict | None = None):
        pixels = 3 * patch * patch
        super().__init__(embed_dim=channels, ddconfig={**ddconfig, "in_channels": pixels, "out_ch": pixels,
                                                       "z_channels": channels})
        self.patch = self.shuffle = patch
        self.refine: nn.Module = nn.Identity()
        if decoder:
            self.shuffle = decoder["patch"] // 2
            self.decoder = Decoder(**{**ddconfig, **decoder["ddconfig"], "in_channels": pixels, "z_channels": channels,
                                      "out_ch": decoder["features"] * self.shuffle**2})
            self.refine = PixelHead(decoder["features"], decoder["width"], PLAIN)

    @property
    def ratio(self) -> int:
        """How many pixels wide a latent's pixel is."""
        return self.patch * 2 ** (self.encoder.num_resolutions - 1)

    def moments(self, x: Tensor) -> Tensor:
        """Pixels [N, 3, H, W] in -1..1 -> mean and log variance [N, 2C, H / ratio, W / ratio]."""
        return self.quant_conv(self.encoder(pixel_unshuffle(x, self.patch)))

    def encode(self, x: Tensor) -> Tensor:
        return self.moments(x).chunk(2, dim=1)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.refine(pixel_shuffle(super().decode(z), self.shuffle))


def autoencoder(architecture: dict) -> PatchAutoencoder:
    """The starter's VAE network."""
    vae = architecture["vae"]
    return PatchAutoencoder(vae["patch"], architecture["latent"]["channels"], vae["ddconfig"], vae.get("decoder"))


def composition_autoencoder(architecture: dict, kind: type = CompositionAutoencoder) -> Any:
    """CaT2I-AE of a Text2Layer architecture, of the host's encoder and decoder; its weights are not initialised."""
    config = {**architecture["vae"]["ddconfig"], "z_channels": architecture["latent"]["channels"]}
    return kind(Encoder, Decoder, config, architecture["foregrounds"], architecture["vae"]["patch"], PLAIN)


class TrainableCLIPLayer(CLIPLayer):
    """The host's layer adds in place, which a backward pass through its norms cannot bear."""

    def forward(self, x: Tensor, mask: Any = None, optimized_attention: Any = None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask, optimized_attention)
        return x + self.mlp(self.layer_norm2(x))


def trainable_text_model(architecture: dict, vocabulary: int) -> CLIPTextModel:
    """The host's CLIP text model with embeddings for the starter's own rows only, freshly initialised."""
    config = architecture["text"]
    model = CLIPTextModel(config, torch.float32, None, PLAIN)
    del model.text_projection
    text = model.text_model
    text.embeddings.token_embedding = PLAIN.Embedding(vocabulary, config["hidden_size"])
    text.encoder.layers = nn.ModuleList(
        TrainableCLIPLayer(config["hidden_size"], config["num_attention_heads"], config["intermediate_size"],
                           config["hidden_act"], torch.float32, None, PLAIN)
        for _ in text.encoder.layers
    )
    initialise(model)
    nn.init.normal_(text.embeddings.token_embedding.weight, std=0.02)
    nn.init.normal_(text.embeddings.position_embedding.weight, std=0.01)
    return model


def initialise(model: nn.Module) -> None:
    """Fresh weights for a network of the host's classes, which come uninitialised: torch's own defaults."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _reset(module)
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _reset(module: Any) -> None:
    nn.init.kaiming_uniform_(module.weight, a=5**0.5)
    if module.bias is not None:
        bound = module.weight[0].numel() ** -0.5
        nn.init.uniform_(module.bias, -bound, bound)


def initialise_added_convolutions(model: LayerCollaborativeUNet) -> None:
    """Start the mask's and the position's convolutions like the picture's, for a UNet that is trained from scratch."""
    _reset(model.mask_in)
    if model.position is not None:
        _reset(model.position)
    _reset(model.out.get_submodule("mask"))
