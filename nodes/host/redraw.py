"""Redraws layers with ComfyUI's sampling while the others are held fixed, for all families."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...layerdiff_core.decode import finish, warnings_of
from ...layerdiff_core.keep import BACKGROUND, FOREGROUNDS
from ...layerdiff_core.layers import MAX_LAYERS, Document
from ...layerdiff_core.placement import layer_pixels
from ...layerdiff_core.redraw import chosen_layers, region, with_drawings, with_new_layer
from .codecs import LayerCodec, StackCodec
from .frame_codec import FrameCodec
from .guidance import keep_layers, latent_of, stacked, unstacked
from .layerdiffuse import frames_of
from .model import LAYERS_KEY, layered
from .redraw_frames import draw_frames, frame_codec
from .redraw_sampling import Drawing, Sampling, on_latent, sampled


class Redrawn(NamedTuple):
    """The scene with its redrawn layers, the LATENT of all layers, or LayerDiffuse's of what it drew, and warnings for the user.

    blended: the whole scene as LayerDiffuse drew it, [1, H, W, 3], None for another model and if nothing was drawn.
    """

    document: Document
    latent: dict[str, Any]
    warnings: list[str]
    blended: Tensor | None = None


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
    # LayerDiffuse's prompts are for what it draws, not for all layers.
    single = isinstance(codec, FrameCodec) and len(names) == 1
    names = names * MAX_LAYERS if single else names
    new = []
    if add_at >= 0:
        check_new(codec, how.denoise)
        number = min(add_at, len(document.layers))
        document, new = with_new_layer(document, number, "".join(names[number : number + 1])), [number]
    names = [*names, *[""] * len(document.layers)][: len(document.layers)]
    called = [(layer.name, "" if single else name) for layer, name in zip(document.layers, names)]
    chosen = sorted({*new, *chosen_layers(text, called)})
    inside = region(mask, document.canvas, len(document.layers), feather)
    pictures, coverage = layer_pixels(document)
    if not chosen:
        return Redrawn(document, untouched(codec, pictures, coverage), [NOTHING])
    if isinstance(codec, FrameCodec):
        drawing = draw_frames(model, codec, positive, negative, document, chosen, inside, how)
    else:
        drawing = draw(model, codec, positive, negative, pictures, coverage, chosen, inside, how)
    result = with_drawings(document, chosen, drawing.pictures, drawing.coverage, inside, names)
    coverage[chosen] = torch.cat([result.layers[number].coverage for number in chosen])
    warnings = warnings_of([layer.name for layer in result.layers], coverage)
    return Redrawn(result, drawing.latent, warnings, drawing.blended)


def untouched(codec: LayerCodec, pictures: Tensor, coverage: Tensor) -> dict[str, Any]:
    """The LATENT of layers that are all kept, empty for LayerDiffuse, which cannot encode layers."""
    if isinstance(codec, FrameCodec):
        return codec.empty(coverage.shape[2], coverage.shape[1], len(codec.kind.drawn), 1)
    return codec.encode(pictures, coverage)


def codec_of(model: Any, vae: Any) -> LayerCodec:
    """The codec of a layered MODEL's VAE. ValueError if the MODEL is not layered or the VAE belongs to another model."""
    if latent_of(model) is not None:
        return stacked(model, vae)
    if (frames := frames_of(model)) is not None:
        return frame_codec(frames, vae)
    layered(model)
    return unstacked(vae)


def draw(model: Any, codec: LayerCodec, positive: Any, negative: Any, pictures: Tensor, coverage: Tensor, chosen: list[int],
         inside: Tensor | None, how: Sampling) -> Drawing:
    """Sample the chosen layers of a scene while all others are held fixed.

    pictures [K, H, W, 3] and coverage [K, H, W]: those of all layers. inside [K, H, W]: where they may change, None for
    everywhere.
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
    drawn = sampled(model, latent["samples"], free, positive, negative, how)
    latent = {**latent, "samples": drawn}
    if isinstance(codec, StackCodec):
        found = codec.decode(latent)
        return Drawing(latent, *finish(chosen, found.pictures[chosen], found.masks[chosen]))
    # The layers that are held fixed need not be decoded.
    found = codec.decode({**latent, "samples": drawn[chosen], LAYERS_KEY: len(chosen)})
    return Drawing(latent, *finish(chosen, found.pictures, found.masks))


def check_new(codec: LayerCodec, denoise: float) -> None:
    """ValueError if no layer can be added."""
    if isinstance(codec, StackCodec):
        raise ValueError("A Text2Layer model has a fixed number of layers and cannot add one. Set add_at to -1, or use a "
                         "LayerDiff model.")
    if denoise < 1:
        raise ValueError(f"denoise is {denoise}, but a new layer has nothing to start from. Set denoise to 1. To restyle other "
                         "layers as well, use a second Redraw Layers.")


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
