"""Redraws layers with LayerDiffuse: a foreground for a background, a background for a foreground, or both."""

from typing import Any

import torch
from torch import Tensor

from ...layerdiff_core.composite import composite
from ...layerdiff_core.layerdiffuse import BACKGROUND, BLENDED, FG2BG, FOREGROUND, JOINT, Kind
from ...layerdiff_core.layers import Document
from ...layerdiff_core.placement import placed_pixels
from .codecs import codec_for
from .frame_codec import FrameCodec
from .frames import FrameSampling
from .redraw_sampling import Drawing, Sampling, on_latent, sampled


def frame_codec(model: FrameSampling, vae: Any) -> FrameCodec:
    """The codec of a LayerDiffuse MODEL's VAE. ValueError if the VAE is not from the same node."""
    codec = codec_for(vae)
    if not isinstance(codec, FrameCodec) or codec.kind != model.kind:
        raise ValueError("The VAE is not from the same Apply LayerDiffuse as the MODEL. Connect the VAE of that node, for "
                         "foregrounds through Load Transparent Decoder.")
    return codec


def draw_frames(model: Any, codec: FrameCodec, positive: Any, negative: Any, document: Document, chosen: list[int],
                inside: Tensor | None, how: Sampling) -> Drawing:
    """Samples the frames of the chosen layers.

    inside [K, H, W]: where each layer may change, None for everywhere. ValueError for what LayerDiffuse's file cannot do: it
    has no encoder for foregrounds, so that they can only be drawn from nothing.
    """
    kind, canvas = codec.kind, document.canvas
    check_chosen(kind, chosen, len(document.layers))
    drawn = [frame for frame in kind.drawn if frame != BACKGROUND or 0 in chosen]
    if FOREGROUND in drawn:
        codec.check_transparency()
        if how.denoise < 1 or inside is not None:
            what = "a mask is connected" if how.denoise >= 1 else f"denoise is {how.denoise}"
            raise ValueError(f"LayerDiffuse cannot continue from an existing foreground, but {what}. Set denoise to 1 and "
                             "disconnect the mask to draw a new one.")
    if codec.given is not None and codec.given.coverage.shape[1:] != canvas[::-1]:
        high, wide = codec.given.coverage.shape[1:]
        raise ValueError(f"The canvas of the layers has {canvas[0]} x {canvas[1]} pixels, but the given {kind.given} has "
                         f"{wide} x {high}. Give Apply LayerDiffuse an image of the same size, for example the composite of "
                         "these layers.")
    latent, free = codec.empty(*canvas, len(kind.drawn), 1), None
    samples = latent["samples"]
    if BACKGROUND in kind.frames and (BACKGROUND not in drawn or how.denoise < 1 or inside is not None):
        # All frames but foregrounds are ordinary images.
        for frame, picture in ((BACKGROUND, placed_pixels(document.layers[0], canvas)[0]), (BLENDED, composite(document)[0])):
            samples[kind.frames.index(frame)] = codec.vae.encode(codec.fill_up(picture))[0]
        free = torch.ones_like(samples[:, :1]) if inside is None else on_latent(codec, inside[[0] * len(samples)])
        free[kind.frames.index(BACKGROUND)] *= BACKGROUND in drawn
    latent = {**latent, "samples": sampled(model, samples, free, positive, negative, how)}
    found, rows = codec.decode(latent), [kind.layers.index(frame) for frame in drawn]
    return Drawing(latent, found.pictures[rows], found.masks[rows][..., 0], found.blended)


def check_chosen(kind: Kind, chosen: list[int], layers: int) -> None:
    """ValueError if a LayerDiffuse MODEL of this kind cannot redraw these layers. layers: all of them, an added one included."""
    model, said = f"This LayerDiffuse model ({kind.name})", " and ".join(f"layer {number}" for number in chosen)
    if kind.from_blended or not kind.drawn:
        raise ValueError(f"{model} works in two steps, through the whole image, so it cannot redraw single layers. Use KSampler "
                         "and Decode Layers instead, or draw a cut-out with transparent_attn.")
    if kind == JOINT:
        if layers != 2:
            raise ValueError(f"{model} generates a background and a foreground, but there are {layers} layers, an added one "
                             "included. To add another foreground, use layer_sd15_bg2fg.")
        if chosen == [0]:
            raise ValueError(f"{model} cannot keep the foreground while it redraws the background. Set redraw to 1 or 0-1, or "
                             "use layer_sd15_fg2bg.")
    elif kind == FG2BG:
        if chosen != [0]:
            raise ValueError(f"{model} generates a background, so it cannot redraw {said}. Set redraw to 0 and add_at to -1, or "
                             "use layer_sd15_bg2fg.")
    elif len(chosen) != 1 or chosen == [0]:
        raise ValueError(f"{model} generates one foreground, so it cannot redraw {said}. Redraw or add one layer at a time, "
                         "above the background. To add one on top, clear redraw and set add_at to 49.")
