"""Layered latents: their sizes, and which layers a sampling may change."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .layers import MAX_LAYERS

MAX_LATENTS = 256
LONGEST_NUMBER = 20


def padded(size: int, multiple: int) -> int:
    """The next whole multiple: sizes that a model cannot take are padded and cropped back, not refused."""
    return -(-size // multiple) * multiple


def check_count(layers: int, scenes: int) -> None:
    """ValueError for numbers of layers or scenes that no latent can have."""
    if not 1 <= layers <= MAX_LAYERS:
        raise ValueError(f"{layers} layers were asked for; 1 to {MAX_LAYERS} are possible. Connect the number from Encode "
                         "Layer Prompts.")
    if scenes < 1 or layers * scenes > MAX_LATENTS:
        raise ValueError(f"{scenes} scenes of {layers} layers were asked for, and at most {MAX_LATENTS} layers fit in one "
                         "latent. Ask for fewer scenes at once.")


def check_whole_scenes(count: int, layers: int, index: Sequence[int] | None = None) -> None:
    """ValueError unless `count` latents are whole scenes of `layers`, the layers of a scene together and bottom first.

    index: which rows of a batch they were taken from, where that is known; all alike says nothing.
    """
    if not isinstance(layers, int) or layers < 1 or count % layers:
        raise ValueError(f"The latent holds {count} layers, not a whole number of scenes of {layers} layers. Connect the number "
                         "of layers that the latent was made with, and take whole scenes out of a batch.")
    for start in range(0, len(index or ()), layers):
        rows = list(index or ())[start : start + layers]
        first = rows[0] - rows[0] % layers
        if len(set(rows)) > 1 and rows != list(range(first, first + layers)):
            raise ValueError(f"The latents {', '.join(map(str, rows))} of a batch are together here, and its scenes have "
                             f"{layers} layers each. Take whole scenes out of a batch: a batch_index and a length that "
                             f"{layers} divides.")


def parse_layer_numbers(text: str, layers: int) -> list[int]:
    """Read layer numbers such as "1, 3" or "0-2". ValueError for what is no number or no layer of the latent."""
    chosen: set[int] = set()
    for part in filter(None, (part.strip() for part in text.replace(";", ",").split(","))):
        first, dash, last = (number.strip() for number in part.partition("-"))
        last = last if dash else first
        if not all(number.isdecimal() and len(number) <= LONGEST_NUMBER for number in (first, last)) or int(first) > int(last):
            raise ValueError(f"{part!r} is no layer number. Write numbers such as \"1, 3\" or \"0-2\"; 0 is the background.")
        if int(last) >= layers:
            raise ValueError(f"There is no layer {last}: the latent has {layers} layers a scene, 0 to {layers - 1}.")
        chosen.update(range(int(first), int(last) + 1))
    if not chosen:
        raise ValueError("No layer is named. Write the numbers of the layers that may change, such as \"1\".")
    return sorted(chosen)


def free_mask(chosen: list[int], layers: int, count: int, height: int, width: int) -> Tensor:
    """A noise mask [count, 1, height, width], 1 for the chosen layers of every scene and 0 for those that stay."""
    check_whole_scenes(count, layers)
    mask = torch.zeros(count // layers, layers, 1, height, width)
    mask[:, chosen] = 1.0
    return mask.flatten(0, 1)
