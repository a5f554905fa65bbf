"""Cuts an image into layers by masks: each pixel belongs to one layer, edges are soft, and colours are not mixed."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

from .convert import check_fit, check_images, resized, titles_of
from .decode import numbered
from .edges import EDGE_END, EDGE_START, EMPTY, bleed_colours, push_pull
from .layers import MAX_LAYERS, Document, Layer

LARGEST_BELOW, FIRST_BELOW, FIRST_ON_TOP = "largest at the bottom", "first at the bottom", "first on top"
ORDERS = (LARGEST_BELOW, FIRST_BELOW, FIRST_ON_TOP)
"""How the masks are ordered from back to front."""

CONTEXT = 32
"""The distance in pixels within which the colours around a layer are searched."""

ABUTTING = 2
"""In pixels. Masks that overlap by less than about this share an edge, on which one ends and the other begins."""


def layers_from_masks(picture: Tensor, masks: Tensor, background: Tensor | None, names: str, order: str, softness: float,
                      step: Callable[[], None] = lambda: None) -> Document:
    """A background and a layer for each mask, cut from an image.

    picture: [1,H,W,3], 0..1. masks: [K,h,w], 0..1, 1 = belongs to the layer. background: [1,H,W,3], 0..1, the picture without
    the objects, or None for the picture itself. names: one per line in the order of the masks. order: one of ORDERS. softness,
    step: as in `cut`. ValueError for inputs that do not fit together, and for values that are not finite.
    """
    inputs = {"image": picture} | ({} if background is None else {"background": background})
    for what, image in inputs.items():
        check_images(image)
        if len(image) != 1:
            raise ValueError(f"There are {len(image)} images at the input {what}. Connect a single one, for example from Get "
                             "Image from Batch.")
        if image.shape[-1] != 3:
            raise ValueError(f"The input {what} has an alpha channel. Remove it with Split Image with Alpha.")
        if image.shape != picture.shape:
            raise ValueError(f"The background is {image.shape[2]} x {image.shape[1]} pixels and the image {picture.shape[2]} x "
                             f"{picture.shape[1]}. Scale or crop the background to the size of the image.")
    check_fit(masks, picture)
    if len(masks) >= MAX_LAYERS:
        raise ValueError(f"There are {len(masks)} masks, but at most {MAX_LAYERS - 1} are possible, because the background is a "
                         "layer too. Combine some of them first.")
    titles = titles_of(names, len(masks))
    for what, values in {**inputs, "masks": masks}.items():
        if not math.isfinite(values.sum(dtype=torch.float32)):
            raise ValueError(f"The input {what} contains values that are not finite (NaN or infinity). Check the node that is "
                             "connected to it.")
    masks = resized(masks, picture)
    places = list(range(len(masks)))
    if order == LARGEST_BELOW:
        places.sort(key=lambda number: -float(masks[number].clamp(0, 1).mean()))
    elif order == FIRST_ON_TOP:
        places.reverse()
    ground, layers = cut(picture.float(), masks[places], softness, step)
    height, width = picture.shape[1:3]
    shown = numbered(["background", *(titles[number] for number in places)], len(masks) + 1)
    bottom = Layer(ground if background is None else background, None, shown[0], width, height)
    return Document([bottom, *(replace(layer, name=name) for layer, name in zip(layers, shown[1:]))], (width, height))


def cut(picture: Tensor, masks: Tensor, softness: float, step: Callable[[], None] = lambda: None) -> tuple[Tensor, list[Layer]]:
    """Cut an image into a background and a layer for each mask.

    picture: [1,H,W,3], 0..1. masks: [K,H,W], 0..1, 1 = belongs to the layer, bottom layer first. softness: width in pixels of
    the soft edge, 0 keeps the masks' own edges. step: called after each layer. Returns the background [1,H,W,3] and K layers,
    cropped to their content. Where masks overlap, the upper layer owns the pixel. The composite equals the image, except
    where an edge is softened that is not soft in the image.

    Source: ours. By the compositing equation each pixel is the sum of the layers' colours, weighted by how much of each is
    visible. These shares follow from the union of the masks from the top down, so that neighbours leave no gap. The colours of a
    layer's surroundings are extended under it and removed from it, and its inner colours are extended over its edge. The rest of
    the sum goes to the background, so that no layer's edge keeps a colour of the old background.
    """
    shares, coverage = _shares(masks.float().clamp(0, 1), softness)
    rest, layers = picture.clone(), []
    for share, covers in zip(shares.split(1), coverage.split(1)):
        left, top, right, bottom = _content(covers[0])
        around = (slice(None), slice(max(0, top - CONTEXT), bottom + CONTEXT), slice(max(0, left - CONTEXT), right + CONTEXT))
        part, own = picture[around], share[around]
        colours = _own_colours(part.movedim(-1, 1), own[:, None]).movedim(1, -1)
        rest[around] -= own[..., None] * colours
        layer = Layer(colours, 1 - covers[around], "", part.shape[2], part.shape[1], around[2].start, around[1].start)
        layers.append(layer.crop(left - layer.x, top - layer.y, right - left, bottom - top))
        step()
    seen = (1 - shares.sum(0, keepdim=True)).clamp(0, 1)[..., None]
    # Behind a layer and where there is none, the background is the image itself. Only under soft edges it is not.
    mixed = (seen >= EMPTY) & (seen < 1 - EMPTY)
    return torch.where(mixed, (rest / seen.clamp_min(EMPTY)).clamp(0, 1), picture), layers


def _content(coverage: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (the last two exclusive) of what [H,W] covers; one pixel if it covers nothing."""
    content = coverage >= EMPTY
    rows, columns = content.any(1).nonzero().flatten().tolist(), content.any(0).nonzero().flatten().tolist()
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else (0, 0, 1, 1)


def _own_colours(picture: Tensor, share: Tensor) -> Tensor:
    """The colours [1,3,H,W] of a layer that has this share [1,1,H,W] of the picture's pixels."""
    # Not bleed_colours, which would trust the mixed colours of a translucent layer.
    open_around = ((1 - share - EDGE_START) / (EDGE_END - EDGE_START)).clamp(0, 1)
    others = push_pull(picture, open_around) if open_around.any() else picture
    alone = torch.where(share >= EMPTY, (picture - (1 - share) * others) / share.clamp_min(EMPTY), picture).clamp(0, 1)
    return bleed_colours(alone, share)


def _shares(masks: Tensor, softness: float) -> tuple[Tensor, Tensor]:
    """How much of each layer is visible in the composite, and its coverage, both [K,H,W], 0..1.

    coverage: the share of what the layers above have left, so that stacking the layers gives the shares again.
    """
    shares, coverage = torch.zeros_like(masks), torch.zeros_like(masks)
    union, taken = torch.zeros_like(masks[:1]), torch.zeros_like(masks[:1])
    for number in range(len(masks) - 1, -1, -1):
        union = _union(union, masks[number : number + 1])
        both = _soften(union, softness)
        shares[number] = (both - taken).clamp_min(0)[0]
        coverage[number] = (shares[number] / (1 - taken[0]).clamp_min(EMPTY)).clamp(0, 1)
        taken = torch.maximum(both, taken)
    return shares, coverage


def _union(one: Tensor, other: Tensor) -> Tensor:
    """The union of two masks [1,H,W]. Soft edges of neighbours add up; edges of a mask within the other are the outer one's."""
    both = torch.minimum(one, other)
    within = F.max_pool2d(both, 2 * ABUTTING + 1, stride=1, padding=ABUTTING)
    apart = 1 - (4 * within - 2).clamp(0, 1)
    return (torch.maximum(one, other) + both * apart).clamp_max(1)


def _soften(mask: Tensor, softness: float) -> Tensor:
    """A mask [1,H,W] with its edge widened by blur, of about this width in pixels."""
    if softness <= 0:
        return mask
    sigma = softness / 2
    radius = min(max(1, round(3 * sigma)), min(mask.shape[1:]) - 1)
    if radius < 1:
        return mask
    return gaussian_blur2d(mask[None], 2 * radius + 1, (sigma, sigma), border_type="reflect")[0].clamp(0, 1)
