"""Builds the networks that a file's architecture describes from ComfyUI's classes, for loading as well as for training."""

from collections.abc import Callable, Mapping
from typing import Any

import comfy.ops
import torch
from comfy.clip_model import CLIPLayer, CLIPTextModel
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.model import Decoder, Encoder
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ...layerdiff_core.autoencoder import COUNTER, CompositionAutoencoder
from ...layerdiff_core.checkpoint import check_tensors
from ...layerdiff_core.refine import PixelHead
from .unet import LayerCollaborativeUNet


class PLAIN(comfy.ops.disable_weight_init):
    """ComfyUI's layers without casting, whose weights exist as soon as the layer is built.

    With DynamicVRAM, ComfyUI's Linear and Embedding have no weights until a file is loaded, so there would be no shapes to
    check and nothing to train. ComfyUI builds a subclass with its own `_load_from_state_dict` at once.
    """

    class Linear(comfy.ops.disable_weight_init.Linear):
        def _load_from_state_dict(self, *args: Any) -> None:
            super()._load_from_state_dict(*args)

    class Embedding(comfy.ops.disable_weight_init.Embedding):
        def _load_from_state_dict(self, *args: Any) -> None:
            super()._load_from_state_dict(*args)


SPARE = 100
"""How many weights a network may have beyond twice those in its file before building it is aborted. Twice, because some parts
are built and then replaced."""


def reference(make: Callable[[], nn.Module], held: int) -> nn.Module:
    """A network on the meta device, where it takes no memory, no matter how large a file claims it is.

    make: builds it. held: the number of weights in the file. ValueError if the architecture needs far more, raised as soon as
    this is known rather than after a million blocks have been built.
    """
    count = 0

    def count_weights(module: nn.Module, name: str, weight: Tensor | None) -> None:
        nonlocal count
        count += weight is not None
        if count > 2 * held + SPARE:
            raise ValueError(f"The architecture needs far more than the {held} weights in the file. The file is damaged or was "
                             "made for another model. Use another file, or save it again.")

    watch = nn.modules.module.register_module_parameter_registration_hook(count_weights)
    try:
        with torch.device("meta"):
            return make()
    finally:
        watch.remove()


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    """Keys and shapes of the weights of a network that a file stores: all except the counters of batch norms."""
    return {key: value.shape for key, value in network.state_dict().items() if not key.endswith(COUNTER)}


def check_weights(what: str, make: Callable[[], nn.Module], weights: Mapping[str, Tensor]) -> nn.Module:
    """Compare a file's weights with a network before any memory is allocated. Returns the network on the meta device.

    what: the file and part, for the message. ValueError lists weights that are missing, unexpected or of another shape.
    """
    network = reference(make, len(weights))
    check_tensors(what, weights, shapes(network))
    return network


def build(what: str, make: Callable[[], nn.Module], weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Any:
    """A network with a file's weights, checked, on the CPU in the given dtype, in evaluation mode. ValueError as in
    `check_weights`."""
    network = check_weights(what, make, weights)
    counters = {key: torch.zeros((), dtype=torch.long) for key in network.state_dict() if key.endswith(COUNTER)}
    # Copied, so that the file is not kept open.
    network.load_state_dict({key: value.to(dtype, copy=True) for key, value in weights.items()} | counters, assign=True)
    return network.train(False).requires_grad_(False)


def unet(architecture: dict, dtype: torch.dtype = torch.float32, device: Any = None,
         operations: Any = PLAIN) -> LayerCollaborativeUNet:
    """The layer-collaborative UNet of an architecture; its weights are not initialised."""
    return LayerCollaborativeUNet(**unet_config(architecture), dtype=dtype, device=device, operations=operations)


def unet_config(architecture: dict) -> dict:
    """The UNet's arguments: those in the file, with twice the latent channels and whether it has position features."""
    channels = 2 * architecture["latent"]["channels"]
    return {**architecture["unet"], "in_channels": channels, "out_channels": channels,
            "position": architecture.get("position", False)}


class PatchAutoencoder(AutoencoderKL):
    """ComfyUI's VAE network over patches of pixels. Patches make the starter's VAE fast on a CPU, because a small autoencoder
    spends most of its time at full resolution.

    decoder: for a decoder stronger than the encoder, its own "patch" and "ddconfig", and the "features" and "width" of the
    `PixelHead` after it. Without it the decoder mirrors the encoder.
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
        """Image pixels per latent pixel, along each side."""
        return self.patch * 2 ** (self.encoder.num_resolutions - 1)

    def moments(self, x: Tensor) -> Tensor:
        """Pixels [N, 3, H, W] in -1..1 -> mean and log variance [N, 2C, H / ratio, W / ratio]."""
        return self.quant_conv(self.encoder(pixel_unshuffle(x, self.patch)))

    def encode(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < self.ratio:  # ComfyUI has already cropped the image to a multiple of the ratio
            raise ValueError(f"The image is smaller than {self.ratio} x {self.ratio} pixels, the minimum for this VAE. Scale it "
                             "up.")
        return self.moments(x).chunk(2, dim=1)[0]

    def decode(self, z: Tensor) -> Tensor:
        channels = self.post_quant_conv.in_channels
        if z.shape[1] != channels:
            hint = ("It holds the image and mask of each layer. Use Decode Layers." if z.shape[1] == 2 * channels else
                    "Connect a latent of the same model.")
            raise ValueError(f"This VAE decodes latents with {channels} channels, but got one with {z.shape[1]}. {hint}")
        return self.refine(pixel_shuffle(super().decode(z), self.shuffle))


def autoencoder(architecture: dict) -> PatchAutoencoder:
    """The starter's VAE network."""
    vae = architecture["vae"]
    return PatchAutoencoder(vae["patch"], architecture["latent"]["channels"], vae["ddconfig"], vae.get("decoder"))


def composition_autoencoder(architecture: dict, kind: type = CompositionAutoencoder) -> Any:
    """The CaT2I-AE of a Text2Layer architecture, with ComfyUI's encoder and decoder; its weights are not initialised."""
    config = {**architecture["vae"]["ddconfig"], "z_channels": architecture["latent"]["channels"]}
    return kind(Encoder, Decoder, config, architecture["foregrounds"], architecture["vae"]["patch"], PLAIN)


class TrainableCLIPLayer(CLIPLayer):
    """ComfyUI's layer without its in-place additions, which make a backward pass through its norms fail."""

    def forward(self, x: Tensor, mask: Any = None, optimized_attention: Any = None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask, optimized_attention)
        return x + self.mlp(self.layer_norm2(x))


def text_model(architecture: dict, vocabulary: int) -> CLIPTextModel:
    """ComfyUI's CLIP text model with embeddings only for the starter's own words; its weights are not initialised."""
    config = architecture["text"]
    model = CLIPTextModel(config, torch.float32, None, PLAIN)
    del model.text_projection
    model.text_model.embeddings.token_embedding = PLAIN.Embedding(vocabulary, config["hidden_size"])
    return model


def trainable_text_model(architecture: dict, vocabulary: int) -> CLIPTextModel:
    """The same model with initialised weights and layers that can be trained."""
    config, model = architecture["text"], text_model(architecture, vocabulary)
    text = model.text_model
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
    """Initialises a network of ComfyUI's classes, which come uninitialised, with PyTorch's default weights."""
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
    """Initialises the mask's and the position's convolutions like the image's, for a UNet that is trained from scratch."""
    _reset(model.mask_in)
    if model.position is not None:
        _reset(model.position)
    _reset(model.out.get_submodule("mask"))
