"""A codec that turns LayerDiffuse's frames into layers, and the VAE that carries it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...layerdiff_core.edges import fill_colours
from ...layerdiff_core.latents import check_count, check_whole_scenes
from ...layerdiff_core.layerdiffuse import BACKGROUND, BLENDED, TRANSPARENT, Kind, on_grey
from ...layerdiff_core.transparent_decoder import LATENT_CHANNELS, RATIO
from . import codecs
from .codecs import INDEX_KEY, SIZE_KEY, Decoded, LayerCodec
from .conditioning import LAYERS_KEY
from .text2layer import STACKED_KEY
from .transparency import Transparency


class Given(NamedTuple):
    """A layer provided by the user: image [1, H, W, 3] and coverage [1, H, W], 0..1. blended: the whole scene, [1, H, W, 3], for
    files that start from it."""

    picture: Tensor
    coverage: Tensor
    blended: Tensor | None = None


def given_layer(image: Tensor, coverage: Tensor | None, name: str) -> Given:
    """A given layer from an IMAGE [1, H, W, 3 or 4] and a MASK [1, H, W] of coverage. ValueError if they are not one image."""
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        found = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"The {name} is {found}, but an image with 3 or 4 channels was expected.")
    if len(image) != 1:
        raise ValueError(f"The {name} is a batch of {len(image)} images, but one was expected. Choose one with Image From Batch.")
    image = image.float()
    if not torch.isfinite(image).all():
        raise ValueError(f"The {name} contains NaN values. Check the node that made it.")
    if coverage is None:
        coverage = image[..., 3] if image.shape[-1] == 4 else torch.ones_like(image[..., 0])
    if coverage.ndim != 3 or coverage.shape != image.shape[:3]:
        raise ValueError(f"The coverage has the shape {list(coverage.shape)}, but the {name} has {list(image.shape[:3])}. "
                         "Connect the mask of the same image.")
    return Given(image[..., :3].clamp(0, 1), coverage.float().clamp(0, 1))


def with_blended(given: Given, image: Tensor, name: str) -> Given:
    """Adds the blended image, an IMAGE [1, H, W, 3 or 4], to a given layer of this name. ValueError if it is not one image of the
    layer's size."""
    blended = given_layer(image, None, "blended image").picture
    if blended.shape != given.picture.shape:
        raise ValueError(f"The blended image has {blended.shape[2]} x {blended.shape[1]} pixels, but the {name} has "
                         f"{given.picture.shape[2]} x {given.picture.shape[1]}. Use the same size.")
    return given._replace(blended=blended)


def control_image(vae: Any, given: Given) -> Tensor:
    """The image [1, 3, H, W] of a given layer for LayerDiffuse: on grey, padded to a size that the VAE accepts."""
    return LayerCodec(vae).fill_up(on_grey(given.picture, given.coverage)).movedim(-1, 1)


class Frames(NamedTuple):
    """What a VAE knows about the MODEL whose latents it decodes."""

    kind: Kind
    given: Given | None


def twin(vae: Any) -> Any:
    """A VAE that shares everything with this one, and can be given attributes of its own. copy.copy would leave a note on
    ComfyUI's class."""
    marked = object.__new__(type(vae))
    vars(marked).update(vars(vae))
    return marked


def with_frames(vae: Any, kind: Kind, given: Given | None) -> Any:
    """A VAE that shares everything with this one, and knows the frames of a MODEL."""
    marked = twin(vae)
    marked.frames = Frames(kind, given)
    setattr(marked, codecs.CODEC_KEY, FrameCodec)
    return marked


def with_transparency(vae: Any, transparency: Transparency) -> Any:
    """A VAE that shares everything with this one, and decodes coverage with this transparent decoder."""
    marked = twin(vae)
    marked.transparency = transparency
    setattr(marked, codecs.CODEC_KEY, FrameCodec)
    return marked


def check_vae(vae: Any) -> None:
    """ValueError if a VAE is not an ordinary image VAE with four latent channels."""
    codec = codecs.codec_for(vae)
    if type(codec) not in (LayerCodec, FrameCodec) or vae.latent_channels != LATENT_CHANNELS or codec.ratio != RATIO:
        raise ValueError("LayerDiffuse needs the VAE of an SD 1.5 or SDXL checkpoint, with 4 latent channels and 1/8 of the "
                         f"size. This one has {vae.latent_channels} channels and 1/{codec.ratio}. Load the checkpoint's VAE.")


class FrameCodec(LayerCodec):
    """LayerDiffuse: one latent of an image per frame. Foregrounds get their coverage from the transparent decoder."""

    def __init__(self, vae: Any):
        super().__init__(vae)
        frames: Frames = getattr(vae, "frames", Frames(TRANSPARENT, None))
        self.kind, self.given = frames
        self.transparency: Transparency | None = getattr(vae, "transparency", None)

    def own_size(self, width: int, height: int) -> tuple[int, int]:
        own = (self.kind.side, self.kind.side) if self.given is None else self.given.coverage.shape[1:]
        return width or own[1], height or own[0]

    def empty(self, width: int, height: int, layers: int, scenes: int) -> dict[str, Any]:
        frames = layers if self.kind.free else len(self.kind.frames)
        drawn = self.kind.drawn or self.kind.frames
        if layers not in (len(drawn), frames):
            extra = " (the blended image is added automatically)" if frames > len(drawn) else ""
            raise ValueError(f"{layers} layers were requested, but this LayerDiffuse model generates {len(drawn)}: "
                             f"{', '.join(drawn)}{extra}. Set layers to {len(drawn)}.")
        check_count(frames, scenes)
        if self.given is not None and (height, width) != tuple(self.given.coverage.shape[1:]):
            own = self.given.coverage.shape
            raise ValueError(f"{width} x {height} pixels were requested, but the given {self.kind.given} has {own[2]} x "
                             f"{own[1]}. Leave width and height at 0, or scale the image.")
        return {"samples": torch.zeros(scenes * frames, LATENT_CHANNELS, *self.sides(height, width)),
                LAYERS_KEY: frames, SIZE_KEY: (height, width)}

    def encode(self, pictures: Tensor, coverage: Tensor) -> dict[str, Any]:
        raise ValueError("Layers cannot be encoded for LayerDiffuse, because it hides the transparency of a layer in its latent "
                         "and this pack has no encoder for that. To keep a layer, connect it to Apply LayerDiffuse, with "
                         "fg2bg or bg2fg.")

    def decode(self, latent: dict[str, Any], named: int = 0) -> Decoded:
        samples, frames = codecs.samples_of(latent), self.kind.frames
        if STACKED_KEY in latent:
            raise ValueError("This latent is from a Text2Layer model, but the VAE is for LayerDiffuse. Connect the VAE of the "
                             "model that was sampled.")
        codecs.check_samples(samples, LATENT_CHANNELS)
        said = codecs.said_layers(latent, LAYERS_KEY)
        if said not in (None, len(frames)) and not self.kind.free:
            raise ValueError(f"This latent holds scenes of {said} frames, but the VAE is for {self.kind.name} with "
                             f"{len(frames)}. Connect the VAE from the same Apply LayerDiffuse as the MODEL.")
        check_whole_scenes(len(samples), said or len(frames), latent.get(INDEX_KEY))
        size = codecs.said_size(latent)
        if self.given is not None:
            size = self.given.coverage.shape[1], self.given.coverage.shape[2]
        pictures = self.vae.decode(samples).float()[..., :3]
        if self.given is not None and self.cut_back(pictures, size).shape[1:3] != size:
            raise ValueError(f"The latent is for {pictures.shape[2]} x {pictures.shape[1]} pixels, but the {self.kind.given} "
                             f"has {self.given.coverage.shape[2]} x {self.given.coverage.shape[1]}. Decode the latent as it was "
                             "sampled, and scale the layers afterwards.")
        latents = dict(zip(frames, samples.unflatten(0, (-1, len(frames))).unbind(1)))
        drawn = dict(zip(frames, pictures.unflatten(0, (-1, len(frames))).unbind(1)))
        scenes = [self.layer(layer, drawn.get(layer), latents.get(layer), size) for layer in self.kind.layers]
        count = len(samples) // len(frames)
        colours, coverage = (torch.stack([part.expand(count, *part.shape[1:]) for part in parts], dim=1).flatten(0, 1)
                             for parts in zip(*scenes))
        blended = self.cut_back(drawn[BLENDED], size) if BLENDED in drawn else None
        if self.given is not None and self.given.blended is not None:
            blended = self.given.blended.expand(count, -1, -1, -1)
        return Decoded(colours, coverage, said if self.kind.free and said else len(self.kind.layers), finished=True,
                       blended=blended)

    def layer(self, name: str, pictures: Tensor | None, latents: Tensor | None,
              size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Colours [N, H, W, 3] and coverage [N, H, W, 1] of a layer in all scenes; N is 1 for a given one."""
        if pictures is None or latents is None:
            assert self.given is not None
            return self.given.picture, self.given.coverage[..., None]
        if name == BACKGROUND:
            pictures = self.cut_back(pictures, size)
            return pictures, torch.ones_like(pictures[..., :1])
        found = self.check_transparency().decode(pictures.movedim(-1, 1), latents)
        coverage, colours = found[:, :1], found[:, 1:]
        colours = fill_colours(colours, coverage)
        return tuple(self.cut_back(part.movedim(1, -1), size) for part in (colours, coverage))  # type: ignore[return-value]

    def check_transparency(self) -> Transparency:
        """The transparent decoder. ValueError if there is none."""
        if self.transparency is None:
            raise ValueError("The coverage of the foreground needs LayerDiffuse's transparent decoder. Add Load Transparent "
                             "Decoder between the VAE from Apply LayerDiffuse and this node.")
        return self.transparency

    def named(self, names: list[str]) -> list[str]:
        if self.kind.free:
            return names
        drawn = dict(zip(self.kind.drawn, names))
        return [drawn.get(layer, layer) for layer in self.kind.layers]
