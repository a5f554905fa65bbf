"""Converts batches of images and masks to layers and single layers back, and stacks two documents."""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from .decode import named_lines, numbered
from .layer_fields import describe, is_numbers
from .layers import MAX_LAYERS, Document, Layer
from .names import SHOWN
from .placement import placed_pixels

SAME_SHAPE = 0.03
"""Up to this relative difference, a mask and an image have the same aspect ratio. Sizes rounded to multiples of 16 do."""

NAMES_SHOWN = 10
"""The maximum number of layer names in a message."""


def images_to_layers(images: Tensor, coverage: Tensor | None, names: str, top_first: bool, skip_first: bool) -> Document:
    """A document of layers that fill the canvas, from a batch of images.

    images: [K,H,W,3 or 4], 0..1, straight colours with or without alpha. coverage: [N,h,w], 0..1, 1 = covered, or None.
    Coverage and alpha are multiplied. N is K, also K - 1 if the first image is left out, and a single image or a single mask is
    used for all layers. names: one per line in the order of the images; layers without one are numbered. top_first: the first
    image is the top layer. skip_first: leave out the first image and its mask. ValueError for inputs that do not fit together.
    """
    check_images(images)
    if coverage is not None:
        check_fit(coverage, images)
    if skip_first:
        if len(images) == 1:
            raise ValueError("There is only one image, and skip_first leaves it out. Turn off skip_first, or connect a batch.")
        coverage = coverage[1:] if coverage is not None and len(coverage) == len(images) else coverage
        images = images[1:]
    count = len(images) if coverage is None else max(len(images), len(coverage))
    if coverage is not None and {len(images), len(coverage)} - {1, count}:
        raise ValueError(f"There are {len(images)} images{' without the first' * skip_first}, but {len(coverage)} masks. Connect "
                         "one mask for each image, or one mask for all of them.")
    masks = [None] * count if coverage is None else [
        *(1 - resized(coverage, images).clamp(0, 1)).to(images).expand(count, -1, -1).split(1)]
    parts = list(zip(images.expand(count, -1, -1, -1).split(1), masks, titles_of(names, count)))[:: -1 if top_first else 1]
    height, width = images.shape[1:3]
    titles = numbered([title for *_, title in parts], count)
    document = Document([Layer(image, mask, title, width, height) for (image, mask, _), title in zip(parts, titles)],
                        (width, height))
    document.check_finite()
    return document


def layer_number(document: Document, number: int, name: str) -> int:
    """The number of a layer, from 0 at the bottom, by its name if there is one, else by its number.

    Names are not case-sensitive, and spaces around them are ignored. ValueError if there is no such layer, or more than one of
    that name.
    """
    names = [layer.name for layer in document.layers]
    shown = ", ".join(f"{k}: {_short(each)!r}" for k, each in enumerate(names[:NAMES_SHOWN]))
    shown += ", ..." if len(names) > NAMES_SHOWN else ""
    if not name.strip():
        if not 0 <= number < len(names):
            raise ValueError(f"There is no layer {number}. The layers are {shown}.")
        return number
    found = [k for k, each in enumerate(names) if each.strip().casefold() == name.strip().casefold()]
    if not found:
        raise ValueError(f"There is no layer named {_short(name)!r}. The layers are {shown}.")
    if len(found) > 1:
        raise ValueError(f"{len(found)} layers are named {_short(name)!r}. Leave the name empty and enter one of the numbers "
                         f"{', '.join(map(str, found[:NAMES_SHOWN]))}.")
    return found[0]


def get_layer(document: Document, index: int, as_placed: bool) -> tuple[Tensor, Tensor]:
    """The image [1,H,W,3] and coverage [1,H,W] of a layer, 0..1, without its opacity.

    as_placed: as large as the canvas, with the layer moved, scaled, rotated and flipped. Otherwise the layer's own pixels, also
    those beyond the canvas. ValueError for values that are not finite.
    """
    layer = document.layers[index]
    Document([layer], document.canvas).check_finite()
    return placed_pixels(layer, document.canvas) if as_placed else (layer.image, layer.coverage)


def merge_documents(below: Document, above: Document, x: int, y: int) -> Document:
    """The layers of two documents in one, the second document's on top, with the canvas of the first.

    x, y: where the upper left corner of the second canvas lies on the first. Layers that lie outside the canvas keep all their
    pixels. ValueError for more than 50 layers.
    """
    count = len(below.layers) + len(above.layers)
    if count > MAX_LAYERS:
        raise ValueError(f"There are {len(below.layers)} layers and {len(above.layers)} above them, {count} in all, but at most "
                         f"{MAX_LAYERS} are possible. Composite some of them first.")
    moved = [replace(layer, x=layer.x + x, y=layer.y + y) for layer in above.layers]
    return Document([*below.layers, *moved], below.canvas, {**above.extra, **below.extra})


def check_images(images: Tensor) -> None:
    """ValueError unless this is a batch of images [K,H,W,3 or 4]."""
    if not is_numbers(images, 4) or images.shape[-1] not in (3, 4) or 0 in images.shape:
        raise ValueError(f"The images are {describe(images)}, expected a tensor [images, height, width, 3 or 4] of "
                         "floating-point numbers. Connect an IMAGE output.")


def check_masks(masks: Tensor) -> None:
    """ValueError unless this is a batch of masks [N,h,w]."""
    if not is_numbers(masks, 3) or 0 in masks.shape:
        raise ValueError(f"The masks are {describe(masks)}, expected a tensor [masks, height, width] of floating-point numbers. "
                         "Connect a MASK output.")


def check_fit(masks: Tensor, images: Tensor) -> None:
    """ValueError unless these are masks [N,h,w] with the aspect ratio of images [K,H,W,C]."""
    check_masks(masks)
    (height, width), (tall, wide) = images.shape[1:3], masks.shape[1:]
    # Load Image gives a square mask of zeros for an image without transparency, whatever its size.
    if abs(wide * height / (tall * width) - 1) > SAME_SHAPE and masks.amin() != masks.amax():
        raise ValueError(f"The masks are {wide} x {tall} pixels and the images {width} x {height}, which is not the same aspect "
                         "ratio. Make the masks from the same images, or crop or pad them to the same shape.")


def resized(masks: Tensor, images: Tensor) -> Tensor:
    """Masks [N,h,w] scaled to the size of images [K,H,W,C]. Downscaling averages."""
    masks = masks.to(images.device)
    if masks.shape[1:] == images.shape[1:3]:
        return masks
    return F.interpolate(masks[:, None].float(), size=images.shape[1:3], mode="bilinear", antialias=True)[:, 0]


def titles_of(names: str, count: int) -> list[str]:
    """A name or "" for each of `count` layers, from a text with one name per line. ValueError for more names than layers."""
    titles = named_lines(names)
    if len(titles) > count:
        raise ValueError(f"There are {len(titles)} names, but only {count} layers. Enter at most one name per layer.")
    return titles + [""] * (count - len(titles))


def _short(name: str) -> str:
    return name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
