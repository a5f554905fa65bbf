"""Turns decoded images and masks into layers: coverage from masks, colours extended beyond edges, a document per scene."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .edges import bleed_colours, soft_threshold
from .layers import Document, make_document
from .placement import placed_pixels

CENTRE, SOFTNESS = 0.5, 0.4
"""The defaults for the step that turns grey values of a mask into coverage."""
EMPTY_SHARE = 0.002
"""Share of the image. A layer that covers less is a speck and counts as empty."""
HIDDEN_SHARE = 0.15
"""Share of a layer. If less of it is visible, it is not recognisable and counts as hidden."""


def finish_layers(pictures: Tensor, masks: Tensor, layers: int, centre: float, softness: float) -> tuple[Tensor, Tensor]:
    """Colours and coverage of all layers of all scenes, layers innermost and bottom first.

    pictures: [N, H, W, 3], 0..1. masks: as images [N, H, W, 1 or 3], 0..1. layers: number per scene. centre, softness: as in
    `edges.soft_threshold`. Returns colours [N, H, W, 3], extended beyond the edge of the mask, and coverage [N, H, W].
    """
    return finish([number % layers for number in range(len(masks))], pictures, masks, centre, softness)


def finish(numbers: Sequence[int], pictures: Tensor, masks: Tensor, centre: float = CENTRE,
           softness: float = SOFTNESS) -> tuple[Tensor, Tensor]:
    """The same for any layers, given their numbers within their scenes."""
    coverage = soft_threshold(masks, centre, softness)
    # The background is always fully opaque; its predicted mask is only noise.
    coverage[[row for row, number in enumerate(numbers) if number == 0]] = 1
    return bleed_colours(pictures.movedim(-1, 1), coverage[:, None]).movedim(1, -1), coverage


def scene_documents(pictures: Tensor, coverage: Tensor, layers: int, names: str) -> list[Document]:
    """A document for each scene from the results of `finish_layers`. names: one per line; layers without one get a number."""
    titles = numbered(named_lines(names)[:layers], layers)
    return [make_document(p, c, titles) for p, c in zip(pictures.split(layers), coverage.split(layers))]


def edited_pixels(pictures: Tensor, coverage: Tensor, layers: int, edited: Mapping[int, Document]) -> tuple[Tensor, Tensor]:
    """The results of `finish_layers` with the layers of edited scenes replaced.

    edited: document by scene number, from 0. Its layers, placed on its canvas, replace the scene's `layers` in its order,
    including hidden ones and without opacity. There may be more or fewer. Returns colours [N, H, W, 3] and coverage [N, H, W].
    """
    pairs = list(zip(pictures.split(layers), coverage.split(layers)))
    for scene, document in edited.items():
        placed = [placed_pixels(layer, document.canvas) for layer in document.layers]
        pairs[scene] = (torch.cat([p for p, _ in placed]).to(pictures), torch.cat([c for _, c in placed]).to(coverage))
    return torch.cat([p for p, _ in pairs]), torch.cat([c for _, c in pairs])


def unseen_layers(coverage: Tensor) -> tuple[list[int], list[int]]:
    """The numbers of a scene's layers that are empty, and of those that are hidden by others. The background is never counted.
    coverage: [K, H, W], bottom layer first. Ours: small models tend to put objects in front of each other."""
    empty, hidden = [], []
    through = torch.ones_like(coverage[0])
    for number in range(len(coverage) - 1, 0, -1):
        own = coverage[number]
        if own.mean() < EMPTY_SHARE:
            empty.append(number)
        elif (own * through).sum() < HIDDEN_SHARE * own.sum():
            hidden.append(number)
        through = through * (1 - own)
    return empty[::-1], hidden[::-1]


def warnings_of(names: Sequence[str], coverage: Tensor) -> list[str]:
    """Warnings about a scene's layers as they were drawn: names, and coverage [K, H, W], bottom first."""
    empty, hidden = unseen_layers(coverage)
    return [f"The layer \"{names[number]}\" is empty. Try another seed." for number in empty] + [
        f"The layer \"{names[number]}\" is hidden behind other layers. Move it in the layer panel, or try another seed."
        for number in hidden]


def named_lines(names: str) -> list[str]:
    """The names in a text, one per line."""
    return [line.strip() for line in names.splitlines() if line.strip()]


def numbered(titles: list[str], layers: int) -> list[str]:
    """The names of `layers` layers, bottom first. Layers without one, at the end of the list or "", are named by number."""
    titles = titles + [""] * (layers - len(titles))
    return [title or ("background" if number == 0 else f"layer {number}") for number, title in enumerate(titles)]
