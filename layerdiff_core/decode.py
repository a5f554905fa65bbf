"""From what a VAE decoded to layers: masks become coverage, colours are carried under edges, scenes become documents."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .edges import bleed_colours, soft_threshold
from .layers import Document, Layer, make_document
from .placement import layer_pixels

CENTRE, SOFTNESS = 0.5, 0.4
"""Of the mask's step, in greys, unless the user says otherwise."""
EMPTY_SHARE = 0.002
"""Of the picture: what covers less is a speck."""
HIDDEN_SHARE = 0.15
"""Of a layer: where less of it is seen it is not recognised."""


def finish_layers(pictures: Tensor, masks: Tensor, layers: int, centre: float, softness: float) -> tuple[Tensor, Tensor]:
    """Colours and coverage of all layers of all scenes, layers innermost and bottom first.

    pictures [N, H, W, 3] and masks as pictures [N, H, W, 1 or 3], 0..1; layers of a scene; centre and softness as in
    `edges.soft_threshold`. Returns colours [N, H, W, 3], carried on beyond the mask's edge, and coverage [N, H, W].
    """
    return finish([number % layers for number in range(len(masks))], pictures, masks, centre, softness)


def finish(numbers: Sequence[int], pictures: Tensor, masks: Tensor, centre: float = CENTRE,
           softness: float = SOFTNESS) -> tuple[Tensor, Tensor]:
    """The same of any layers, with their numbers within their scenes."""
    coverage = soft_threshold(masks, centre, softness)
    # The background lies under everything: what its mask says is noise.
    coverage[[row for row, number in enumerate(numbers) if number == 0]] = 1
    return bleed_colours(pictures.movedim(-1, 1), coverage[:, None]).movedim(1, -1), coverage


def scene_documents(pictures: Tensor, coverage: Tensor, layers: int, names: str) -> list[Document]:
    """A document for each scene of what `finish_layers` gives. names: one a line; layers without one get a number."""
    titles = named_lines(names)[:layers]
    titles += ["background" if number == 0 else f"layer {number}" for number in range(len(titles), layers)]
    return [make_document(p, c, titles) for p, c in zip(pictures.split(layers), coverage.split(layers))]


def edited_pixels(pictures: Tensor, coverage: Tensor, layers: int, edited: Mapping[int, Document]) -> tuple[Tensor, Tensor]:
    """Colours and coverage as `finish_layers` gives them, of some scenes as their edits leave them.

    edited: by scene, from 0; its layers, on its canvas, take the place of the scene's `layers`, in its order, whatever their
    eyes and their opacity say: there may be more or fewer. Returns colours [N, H, W, 3] and coverage [N, H, W].
    """
    pairs = list(zip(pictures.split(layers), coverage.split(layers)))
    for scene, document in edited.items():
        placed = [_on_canvas(layer, document) for layer in document.layers]
        pairs[scene] = (torch.cat([p for p, _ in placed]).to(pictures), torch.cat([c for _, c in placed]).to(coverage))
    return torch.cat([p for p, _ in pairs]), torch.cat([c for _, c in pairs])


def _on_canvas(layer: Layer, document: Document) -> tuple[Tensor, Tensor]:
    if layer.is_upright and (layer.x, layer.y, layer.w, layer.h) == (0, 0, *document.canvas):
        # Where it was decoded; its colours are carried on already.
        return layer.image, layer.coverage
    return layer_pixels(Document([layer], document.canvas))


def unseen_layers(coverage: Tensor) -> tuple[list[int], list[int]]:
    """Which layers of a scene, coverage [K, H, W] with the bottom layer first, a user would miss: numbers of those that are
    empty, and of those that others hide. The background is neither. Ours: small models put objects in front of each other."""
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
    """What a user should know of a scene's layers as they were drawn: names, and coverage [K, H, W], bottom first."""
    empty, hidden = unseen_layers(coverage)
    return [f"The layer \"{names[number]}\" is empty. Try another seed." for number in empty] + [
        f"The layer \"{names[number]}\" is hidden behind other layers. Move it in the layer panel, or try another seed."
        for number in hidden]


def named_lines(names: str) -> list[str]:
    """The names in a text, one a line."""
    return [line.strip() for line in names.splitlines() if line.strip()]
