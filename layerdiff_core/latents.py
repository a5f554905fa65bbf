"""Layered latents: their sizes, and the noise mask that says which layers may change."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .layers import MAX_LAYERS

MAX_LATENTS = 256
LONGEST_NUMBER = 20


def padded(size: int, multiple: int) -> int:
    """The size rounded up to a multiple. Sizes that a model does not support are padded and cropped, not rejected."""
    return -(-size // multiple) * multiple


def check_count(layers: int, scenes: int) -> None:
    """ValueError if a latent cannot have this number of layers or scenes."""
    if not 1 <= layers <= MAX_LAYERS:
        raise ValueError(f"{layers} layers were requested, but only 1 to {MAX_LAYERS} are possible. Connect the output layers "
                         "of Encode Layer Prompts.")
    if scenes < 1 or layers * scenes > MAX_LATENTS:
        raise ValueError(f"{scenes} scenes of {layers} layers were requested, but a latent holds at most {MAX_LATENTS} layers. "
                         "Request fewer scenes at once.")


def check_whole_scenes(count: int, layers: int, index: Sequence[int] | None = None) -> None:
    """ValueError unless `count` latents are whole scenes of `layers` layers each, in order, bottom layer first.

    index: the rows of the batch they were taken from, if known. Rows of a group that are all equal are not checked.
    """
    if not isinstance(layers, int) or layers < 1 or count % layers:
        raise ValueError(f"The latent holds {count} layers, which is not a whole number of scenes of {layers} layers. Connect "
                         "the number of layers that the latent was created with, and take only whole scenes from a batch.")
    for start in range(0, len(index or ()), layers):
        rows = list(index or ())[start : start + layers]
        first = rows[0] - rows[0] % layers
        if len(set(rows)) > 1 and rows != list(range(first, first + layers)):
            raise ValueError(f"The latent holds the items {', '.join(map(str, rows))} of a batch whose scenes have {layers} "
                             "layers each. Take only whole scenes from a batch: batch_index and length must be multiples of "
                             f"{layers}.")


def read_numbers(part: str) -> range | None:
    """Read a number such as "3" or a range such as "0-2"; None for another text."""
    first, dash, last = (number.strip() for number in part.partition("-"))
    last = last if dash else first
    if not all(number.isdecimal() and len(number) <= LONGEST_NUMBER for number in (first, last)) or int(first) > int(last):
        return None
    return range(int(first), int(last) + 1)


def parse_layer_numbers(text: str, layers: int) -> list[int]:
    """Parse layer numbers such as "1, 3" or "0-2". ValueError if one is not a number or not a layer of the latent."""
    chosen: set[int] = set()
    for part in filter(None, (part.strip() for part in text.replace(";", ",").split(","))):
        numbers = read_numbers(part)
        if numbers is None:
            raise ValueError(f"{part[:100]!r} is not a layer number. Enter numbers such as \"1, 3\" or \"0-2\"; 0 is the "
                             "background.")
        if numbers[-1] >= layers:
            raise ValueError(f"There is no layer {numbers[-1]}. The latent has {layers} layers per scene, numbered 0 to "
                             f"{layers - 1}.")
        chosen.update(numbers)
    if not chosen:
        raise ValueError("No layers are listed. Enter the numbers of the layers that may change, for example \"1\".")
    return sorted(chosen)


def free_mask(chosen: list[int], layers: int, count: int, height: int, width: int) -> Tensor:
    """A noise mask [count, 1, height, width], 1 for the chosen layers of every scene and 0 for all others."""
    check_whole_scenes(count, layers)
    mask = torch.zeros(count // layers, layers, 1, height, width)
    mask[:, chosen] = 1.0
    return mask.flatten(0, 1)
