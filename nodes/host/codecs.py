"""Codecs, one per model family, which convert layers to a LATENT and back. Nodes use a VAE's codec and never check the family."""

from typing import Any, NamedTuple

import comfy.utils
import torch
from torch import Tensor
from torch.nn.functional import pad

from ...layerdiff_core.autoencoder import Layers, unstack
from ...layerdiff_core.latents import check_count, check_whole_scenes, padded
from ...layerdiff_core.layers import MAX_LAYERS
from .conditioning import LAYERS_KEY
from .text2layer import STACKED_KEY, ComposedAutoencoder

SIZE_KEY = "size"
"""Key in a LATENT: the requested height and width in pixels, which the model may round up."""

INDEX_KEY = "batch_index"
"""ComfyUI's key in a LATENT: the rows of the batch that it was taken from."""

CODEC_KEY = "layer_codec"
"""Attribute of a VAE whose layers are kept in another way than LayerDiff's or Text2Layer's: its class of codec."""

TILE, OVERLAP = 64, 16


class Decoded(NamedTuple):
    """The layers of a LATENT, float32, scene by scene, bottom layer first: images [scenes * layers, H, W, 3] and masks as images
    [scenes * layers, H, W, 1 or 3], 0..1; and the number of layers per scene.

    finished: whether colours and masks are final, so that the masks are coverage as it is. blended: the whole scenes as the model
    itself drew them, [scenes, H, W, 3], None for a model that draws only layers.
    """

    pictures: Tensor
    masks: Tensor
    layers: int
    finished: bool = False
    blended: Tensor | None = None


class Trained(NamedTuple):
    """What a complete model was trained on: square images of `side` pixels with up to `layers` layers."""

    side: int
    layers: int


SD15_SIDE = 512
"""The image size SD 1.5 was trained at, used for VAEs loaded by ComfyUI, which do not say."""
FAR = 1.5
"""Factor on the trained size, in either direction, beyond which images fall apart. Measured with the starters."""


class LayerCodec:
    """LayerDiff: one latent per layer, the image's channels followed by the mask's, both encoded by an ordinary image VAE."""

    def __init__(self, vae: Any):
        self.vae, self.ratio = vae, vae.spacial_compression_encode()
        self.trained: Trained | None = getattr(vae, "trained", None)

    def empty(self, width: int, height: int, layers: int, scenes: int) -> dict[str, Any]:
        """A LATENT of zeros for images of this size in pixels. ValueError for an impossible number of layers."""
        check_count(layers, scenes)
        return {"samples": torch.zeros(scenes * layers, 2 * self.vae.latent_channels, *self.sides(height, width)),
                LAYERS_KEY: layers, SIZE_KEY: (height, width)}

    def encode(self, pictures: Tensor, coverage: Tensor) -> dict[str, Any]:
        """Encodes one scene's layers, bottom first: pictures [K, H, W, 3] and coverage [K, H, W], 0..1. Returns a LATENT."""
        size = tuple(coverage.shape[1:])
        pictures, coverage = self.fill_up(pictures), self.fill_up(coverage[..., None])
        halves = [self.vae.encode(pictures), self.vae.encode(coverage.expand(-1, -1, -1, 3))]
        return {"samples": torch.cat(halves, dim=1), LAYERS_KEY: len(pictures), SIZE_KEY: size}

    def decode(self, latent: dict[str, Any], named: int = 0) -> Decoded:
        """Decodes the layers of a LATENT. named: the number of layer names, used if the LATENT has no number of layers.

        ValueError if the LATENT is from another model or family, has values that are not finite, or holds incomplete scenes.
        """
        samples = samples_of(latent)
        if STACKED_KEY in latent:
            raise ValueError("This latent is from a Text2Layer model, but the VAE is not. Connect the VAE of the model that was "
                             "sampled.")
        check_samples(samples, 2 * self.vae.latent_channels)
        layers = said_layers(latent, LAYERS_KEY) or named or len(samples)
        check_whole_scenes(len(samples), layers, latent.get(INDEX_KEY))
        pictures, masks = (self.vae.decode(half).float()[..., :3] for half in samples.chunk(2, dim=1))
        size = said_size(latent)
        return Decoded(self.cut_back(pictures, size), self.cut_back(masks, size), layers)

    def named(self, names: list[str]) -> list[str]:
        """The names of a scene's layers, bottom first, from those that the user gave, bottom first."""
        return names

    def own_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels, with 0 replaced by the size the model was trained at."""
        own = self.trained.side if self.trained else SD15_SIDE
        return width or own, height or own

    def beyond_training(self, width: int, height: int, layers: int) -> list[str]:
        """Warnings for images of this size with this number of layers."""
        if self.trained is None:
            return []
        side, most = self.trained
        found = []
        if max(width, height) > FAR * side or min(width, height) * FAR < side:
            found.append(f"This model was trained at {side} x {side} pixels. At {width} x {height} objects come out distorted. "
                         f"Generate at {side} x {side} (width and height 0) and upscale the layers afterwards.")
        if layers > most:
            found.append(f"This model was trained with up to {most} layers. With {layers}, objects may cover each other or be "
                         "missing.")
        return found

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the latent of an image of this size."""
        return padded(height, self.ratio) // self.ratio, padded(width, self.ratio) // self.ratio

    def fill_up(self, pictures: Tensor) -> Tensor:
        """Pads pictures [N, H, W, C] equally on all sides, by repeating their edges, to a size that the VAE accepts."""
        missing = [padded(side, self.ratio) - side for side in pictures.shape[1:3]]
        if not any(missing):
            return pictures
        (top, left), (high, wide) = (side // 2 for side in missing), missing
        return pad(pictures.movedim(-1, 1), (left, wide - left, top, high - top), mode="replicate").movedim(1, -1)

    def cut_back(self, pictures: Tensor, size: tuple[int, int] | None) -> Tensor:
        """Crop the padding that the VAE required from pictures [N, H, W, C].

        size: the requested height and width. It is used only while the latent still has the size that belongs to it, also when
        rotated by 90 degrees. A LATENT keeps this key when it is scaled or cropped, and then the whole image counts.
        """
        whole = pictures.shape[1:3]
        for height, width in [] if size is None else [size, size[::-1]]:
            if (padded(height, self.ratio), padded(width, self.ratio)) == tuple(whole):
                top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
                return pictures[:, top : top + height, left : left + width]
        return pictures


class StackCodec(LayerCodec):
    """Text2Layer: one latent holds all layers of a scene. Their number is fixed by the model."""

    def __init__(self, vae: Any):
        super().__init__(vae)
        self.foregrounds: int = vae.first_stage_model.foregrounds

    def empty(self, width: int, height: int, layers: int, scenes: int) -> dict[str, Any]:
        check_count(layers, scenes)
        self.check_layers(layers, "were requested")
        return {"samples": torch.zeros(scenes, self.vae.latent_channels, *self.sides(height, width)),
                STACKED_KEY: layers, SIZE_KEY: (height, width)}

    def encode(self, pictures: Tensor, coverage: Tensor) -> dict[str, Any]:
        self.check_layers(len(pictures), "were connected")
        samples = self.vae.encode(self.stack(pictures, coverage).stack().movedim(1, -1))
        return {"samples": samples, STACKED_KEY: len(pictures), SIZE_KEY: tuple(coverage.shape[1:])}

    def decode(self, latent: dict[str, Any], named: int = 0) -> Decoded:
        if LAYERS_KEY in latent:
            raise ValueError("This latent is from a LayerDiff model, but the VAE is from a Text2Layer model. Connect the VAE of "
                             "the model that was sampled.")
        samples = samples_of(latent)
        check_samples(samples, self.vae.latent_channels)
        if (said := said_layers(latent, STACKED_KEY)) not in (None, self.foregrounds + 1):
            raise ValueError(f"This latent holds {said} layers, but the VAE is from a Text2Layer model with "
                             f"{self.foregrounds + 1}. Connect the VAE of the model that was sampled.")
        layers, composed = unstack(self.heads(samples))
        pictures = torch.cat([layers.background[:, None], layers.foregrounds], dim=1)
        masks = torch.cat([torch.ones_like(layers.masks[:, :1]), layers.masks], dim=1)
        size = said_size(latent)
        pictures, masks = (self.cut_back(part.flatten(0, 1).movedim(1, -1), size) for part in (pictures, masks))
        return Decoded(pictures, masks, self.foregrounds + 1, blended=self.cut_back(composed.movedim(1, -1), size))

    def heads(self, samples: Tensor) -> Tensor:
        """The outputs of all heads, [scenes, 3 + 4N + 3, H, W] in 0..1: F1..FN, B, m1..mN, the composed image."""
        found = self.vae.decode(samples, vae_options={"all_layers": True}).movedim(-1, 1).float()
        channels = 3 + 4 * self.foregrounds + 3
        if found.shape[1] == channels:
            return found

        # If ComfyUI runs out of memory it decodes in tiles, but only three channels. Here all channels are decoded in tiles.
        def decode(z: Tensor) -> Tensor:
            return self.vae.first_stage_model.decode(z.to(self.vae.device, self.vae.vae_dtype), all_layers=True).float()

        tiled = comfy.utils.tiled_scale(samples, decode, TILE, TILE, OVERLAP, self.vae.upscale_ratio, channels,
                                        self.vae.output_device)
        return self.vae.process_output(tiled)

    def stack(self, pictures: Tensor, coverage: Tensor) -> Layers:
        """One scene's layers, bottom first, padded and stacked as the autoencoder takes them: pictures [K, H, W, 3] and coverage
        [K, H, W]."""
        pictures, masks = (self.fill_up(part).movedim(-1, 1) for part in (pictures, coverage[..., None]))
        return Layers(pictures[None, 1:], pictures[:1], masks[None, 1:])

    def check_layers(self, layers: int, what: str) -> None:
        """ValueError if this is not the model's number of layers. what: a verb for the message."""
        wanted = self.foregrounds + 1
        if layers != wanted:
            raise ValueError(f"{layers} layers {what}, but this Text2Layer model always has {wanted}: the background and "
                             f"{wanted - 1} in front of it. Use {wanted} layers, or a LayerDiff model.")


def codec_for(vae: Any) -> LayerCodec:
    """The codec for a VAE. ValueError if the VAE cannot encode layers."""
    network = getattr(vae, "first_stage_model", None)
    if network is None:
        raise ValueError("The VAE is empty because the checkpoint does not contain one. Load one with Load VAE.")
    if getattr(vae, "latent_dim", 2) != 2:
        raise ValueError("This VAE is for video or audio. Connect the VAE of the layered model or of its SD 1.5 checkpoint.")
    kind = StackCodec if isinstance(network, ComposedAutoencoder) else getattr(vae, CODEC_KEY, LayerCodec)
    return kind(vae)


def layers_in(latent: dict[str, Any]) -> int:
    """The number of layers per scene of a LayerDiff LATENT. If it is not recorded, the whole batch is one scene.

    ValueError for a Text2Layer LATENT, whose layers cannot be separated, and for one split by Rebatch Latents.
    """
    if STACKED_KEY in latent:
        raise ValueError("This latent is from a Text2Layer model, which stores all layers of a scene in one latent, so single "
                         "layers cannot be freed. Use Keep Layers on the MODEL instead, or a LayerDiff model.")
    count = len(samples_of(latent))
    if LAYERS_KEY not in latent and INDEX_KEY in latent:
        raise ValueError("The number of layers per scene is missing from this latent because Rebatch Latents removes it. Move "
                         "this node before Rebatch Latents.")
    layers = said_layers(latent, LAYERS_KEY) or count
    check_whole_scenes(count, layers, latent.get(INDEX_KEY))
    return layers


def samples_of(latent: dict[str, Any]) -> Tensor:
    """The tensor of a LATENT. ValueError if it is not a batch of image latents."""
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if not isinstance(samples, Tensor) or not samples.is_floating_point() or samples.is_nested or samples.is_meta \
            or samples.ndim == 0:
        kind = f"a tensor of {samples.dtype}" if isinstance(samples, Tensor) else type(samples).__name__
        raise ValueError(f"The LATENT holds {kind}, but a batch of image latents was expected. Connect the output of a sampler "
                         "with a layered model.")
    if 0 in samples.shape:
        raise ValueError(f"The latent is empty. Its shape is {list(samples.shape)}. Check the node that scaled or cropped it.")
    return samples


def said_layers(latent: dict[str, Any], key: str) -> int | None:
    """The number of layers per scene recorded in a LATENT under a family's key; None if there is none."""
    layers = latent.get(key)
    if layers is not None and (type(layers) is not int or not 1 <= layers <= MAX_LAYERS):
        raise ValueError(f"The LATENT has {str(layers)[:60]!r} as the number of layers per scene, but a whole number from 1 to "
                         f"{MAX_LAYERS} was expected. Create it with Empty Layered Latent or Encode Layers.")
    return layers


def said_size(latent: dict[str, Any]) -> tuple[int, int] | None:
    """The requested height and width recorded in a LATENT; None if they are missing or invalid."""
    size = latent.get(SIZE_KEY)
    if isinstance(size, (tuple, list)) and len(size) == 2 and all(type(side) is int and side > 0 for side in size):
        return size[0], size[1]
    return None


def check_samples(samples: Tensor, channels: int) -> None:
    """ValueError if the tensor of a LATENT is not layered, is for another model, or has values that are not finite."""
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise ValueError(f"This latent has the shape {list(samples.shape)}, but a layered latent for this VAE has {channels} "
                         "channels. Connect the output of a sampler with a layered model.")
    if not torch.isfinite(samples).all():
        raise ValueError("The latent contains NaN values, so sampling failed. Lower the guidance scale. If it happens again, "
                         "start ComfyUI with --force-fp32.")
