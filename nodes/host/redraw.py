"""Redraws layers with ComfyUI's sampling while the others are held fixed, for LayerDiff and Text2Layer models."""

import hashlib
from typing import Any, NamedTuple

import comfy.sample
import comfy.utils
import latent_preview
import torch
import torch.nn.functional as F
from torch import Tensor

from ...layerdiff_core.decode import finish, warnings_of
from ...layerdiff_core.keep import BACKGROUND, FOREGROUNDS
from ...layerdiff_core.layers import Document
from ...layerdiff_core.placement import layer_pixels
from ...layerdiff_core.redraw import chosen_layers, region, with_drawings, with_new_layer
from .codecs import LayerCodec, StackCodec
from .guidance import keep_layers, latent_of, stacked, unstacked
from .model import LAYERS_KEY, layered


class Sampling(NamedTuple):
    """Sampling settings, named as in ComfyUI's KSampler."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float


class Redrawn(NamedTuple):
    """The scene with its redrawn layers, the LATENT of all layers, and warnings for the user."""

    document: Document
    latent: dict[str, Any]
    warnings: list[str]


NOTHING = "No layer is set to be redrawn, so all layers pass through unchanged. Click the brush of a layer in the panel, or " \
          "enter its number in redraw."


def redraw_layers(model: Any, vae: Any, positive: Any, negative: Any, document: Document, text: str, add_at: int,
                  names: list[str], mask: Tensor | None, feather: int, how: Sampling) -> Redrawn:
    """Redraw the layers that `text` lists, and add a new one at add_at (-1: none). All other layers remain the same objects.

    names: those of all layers, applied to the ones that are drawn. mask, feather: as in `redraw.region`. ValueError for layers
    that do not exist, prompts for another number of layers, and anything that the type of model cannot do.
    """
    codec = codec_of(model, vae)
    document.check_finite()
    new = []
    if add_at >= 0:
        check_new(codec, how.denoise)
        number = min(add_at, len(document.layers))
        document, new = with_new_layer(document, number, "".join(names[number : number + 1])), [number]
    names = [*names, *[""] * len(document.layers)][: len(document.layers)]
    chosen = sorted({*new, *chosen_layers(text, [(layer.name, name) for layer, name in zip(document.layers, names)])})
    inside = region(mask, document.canvas, len(document.layers), feather)
    pictures, coverage = layer_pixels(document)
    if not chosen:
        return Redrawn(document, codec.encode(pictures, coverage), [NOTHING])
    latent, drawn, cover = draw(model, codec, positive, negative, pictures, coverage, chosen, inside, how)
    result = with_drawings(document, chosen, drawn, cover, inside, names)
    coverage[chosen] = torch.cat([result.layers[number].coverage for number in chosen])
    return Redrawn(result, latent, warnings_of([layer.name for layer in result.layers], coverage))


def codec_of(model: Any, vae: Any) -> LayerCodec:
    """The codec of a layered MODEL's VAE. ValueError if the MODEL is not layered or the VAE belongs to another model."""
    if latent_of(model) is not None:
        return stacked(model, vae)
    layered(model)
    return unstacked(vae)


def draw(model: Any, codec: LayerCodec, positive: Any, negative: Any, pictures: Tensor, coverage: Tensor, chosen: list[int],
         inside: Tensor | None, how: Sampling) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Sample the chosen layers of a scene while all others are held fixed. Returns the LATENT of all layers, and the colours
    [N, H, W, 3] and coverage [N, H, W] of the chosen ones.

    pictures [K, H, W, 3] and coverage [K, H, W]: those of all layers. inside [K, H, W]: where they may change, None for
    everywhere. At denoise 1, nothing of a layer's old content remains in what is sampled.
    """
    latent = codec.encode(pictures, coverage)
    if isinstance(codec, StackCodec):
        model, free = hold_layers(model, codec, pictures, coverage, chosen), None
        if inside is not None:
            free = on_latent(codec, inside[chosen].amax(0, keepdim=True))
    else:
        check_prompts(positive, len(pictures))
        every = torch.ones_like(coverage) if inside is None else inside
        free = on_latent(codec, every)
        free[[n for n in range(len(pictures)) if n not in chosen]] = 0
    samples = latent["samples"]
    if how.denoise >= 1:
        blank = model.get_model_object("latent_format").process_out(torch.zeros_like(samples))
        samples = blank if free is None else torch.where(free.to(samples.device) > 0, blank, samples)
    drawn = comfy.sample.sample(
        model, layer_noise(samples, how.seed), how.steps, how.cfg, how.sampler_name, how.scheduler, positive, negative, samples,
        denoise=how.denoise, noise_mask=free, callback=latent_preview.prepare_callback(model, how.steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=how.seed)
    latent = {**latent, "samples": drawn}
    if isinstance(codec, StackCodec):
        found = codec.decode(latent)
        return latent, *finish(chosen, found.pictures[chosen], found.masks[chosen])
    # The layers that are held fixed need not be decoded.
    found = codec.decode({**latent, "samples": drawn[chosen], LAYERS_KEY: len(chosen)})
    return latent, *finish(chosen, found.pictures, found.masks)


def check_new(codec: LayerCodec, denoise: float) -> None:
    """ValueError if no layer can be added."""
    if isinstance(codec, StackCodec):
        raise ValueError("A Text2Layer model has a fixed number of layers and cannot add one. Set add_at to -1, or use a "
                         "LayerDiff model.")
    if denoise < 1:
        raise ValueError(f"denoise is {denoise}, but a new layer has nothing to start from. Set denoise to 1. To restyle other "
                         "layers as well, use a second Redraw Layers.")


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


def hold_layers(model: Any, codec: StackCodec, pictures: Tensor, coverage: Tensor, chosen: list[int]) -> Any:
    """A Text2Layer MODEL that holds the other layers fixed: all foregrounds, the background, or none."""
    codec.check_layers(len(pictures), "were connected")
    everything = list(range(len(pictures)))
    if chosen == everything:
        return model
    if chosen not in ([0], everything[1:]):
        raise ValueError(f"A Text2Layer model stores all layers of a scene in one latent, so it cannot redraw "
                         f"{' and '.join(f'layer {number}' for number in chosen)} alone. It can redraw the background (0), all "
                         f"foregrounds ({said_range(everything[1:])}) or everything ({said_range(everything)}). To redraw any "
                         "single layer, use a LayerDiff model.")
    keep = FOREGROUNDS if chosen == [0] else BACKGROUND
    return keep_layers(model, codec, codec.stack(pictures, coverage), keep, 0.0, 1.0)


def said_range(numbers: list[int]) -> str:
    return f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])


def check_prompts(positive: Any, layers: int) -> None:
    """ValueError if the number of prompts is not the number of layers."""
    for said in {options[LAYERS_KEY] for _, options in positive if LAYERS_KEY in options}:
        if said != layers:
            raise ValueError(f"The prompts are for {said} layers, but there are {layers} layers, an added one included. Write "
                             "one prompt per layer in Encode Layer Prompts, bottom layer first. Layers that are kept need their "
                             "prompt, too: the new ones are matched to them.")
