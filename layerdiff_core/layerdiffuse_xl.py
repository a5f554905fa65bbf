"""LayerDiffuse for SDXL (Zhang and Agrawala, arXiv 2402.17113): changes of the base model's weights.

The keys of the published files are `weight::type::index`: for each weight of the base model, the tensors of one change by their
index. The type is "lora" (0: up, 1: down, 2: alpha, if there is one) or "diff" (0: what is added).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from .checkpoint import SHOWN
from .layerdiffuse import BACKGROUND, BLENDED, FOREGROUND, Kind

TRANSPARENT = Kind("transparent", (FOREGROUND,), (FOREGROUND,), side=1024)
FG2BLE = Kind("fg2ble", (BLENDED,), (BLENDED,), FOREGROUND, side=1024)
BG2BLE = Kind("bg2ble", (BLENDED,), (BLENDED,), BACKGROUND, side=1024)
FGBLE2BG = Kind("fgble2bg", (BACKGROUND,), (BACKGROUND,), FOREGROUND, from_blended=True, side=1024)
BGBLE2FG = Kind("bgble2fg", (FOREGROUND,), (FOREGROUND,), BACKGROUND, from_blended=True, side=1024)

SEPARATOR = "::"
INPUT = "diffusion_model.input_blocks.0.0.weight"
"""The base model's first convolution. Files that take given images widen it, by the channels of these images' latents."""
INDICES = {"diff": ({0}, {0}), "lora": ({0, 1}, {0, 1, 2})}
"""For each type of change, the tensors that it must and that it may have."""


class Change(NamedTuple):
    """The change of one weight: its type, and its tensors by their index."""

    type: str
    tensors: dict[int, Tensor]


def changes(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Change]:
    """The changes in a file, by the weights of the base model that they are for. ValueError if a key is of another form.

    name: the file's, for the message.
    """
    found: dict[str, Change] = {}
    wrong = []
    for key, tensor in tensors.items():
        weight, *rest = key.split(SEPARATOR)
        if len(rest) != 2 or rest[0] not in INDICES or not rest[1].isdecimal() \
                or found.setdefault(weight, Change(rest[0], {})).type != rest[0]:
            wrong.append(key)
        else:
            found[weight].tensors[int(rest[1])] = tensor
    if wrong:
        raise ValueError(f"{name} is not a LayerDiffuse file for SDXL: {_some(wrong)} is not a LoRA or a difference of a weight. "
                         "Choose a file such as layer_xl_transparent_attn, or download it again.")
    return found


def check_changes(what: str, changed: Mapping[str, Change], weights: Mapping[str, torch.Size]) -> None:
    """Compares a file with a base model's weights. ValueError lists what does not fit.

    what: the file and the model, for the message. A wider first convolution is not refused.
    """
    found: dict[str, list[str]] = {"not in the MODEL": [], "incomplete": [], "wrong shape": [], "not a 16 or 32 bit float": []}
    for key, change in changed.items():
        needed, known = INDICES[change.type]
        if key not in weights:
            found["not in the MODEL"].append(key)
        elif not needed <= change.tensors.keys() <= known:
            found["incomplete"].append(key)
        elif not _fits(key, change, weights[key]):
            shapes = " and ".join(str(list(tensor.shape)) for _, tensor in sorted(change.tensors.items()))
            found["wrong shape"].append(f"{key} {shapes} for {list(weights[key])}")
        found["not a 16 or 32 bit float"] += [key for tensor in change.tensors.values()
                                             if not tensor.is_floating_point() or tensor.dtype == torch.float64]
    problems = [f"{label}: {_some(keys)}" for label, keys in found.items() if keys]
    if problems:
        raise ValueError(f"{what} does not fit. " + "; ".join(problems) + ". The file is damaged or was made for another model. "
                         "Load an SDXL checkpoint, or download the file again.")


def _fits(key: str, change: Change, shape: torch.Size) -> bool:
    first, second, alpha = (change.tensors.get(index) for index in range(3))
    assert first is not None
    if change.type == "diff":
        wide = key == INPUT and len(first.shape) == 4
        return first.shape == shape or wide and (first.shape[0], *first.shape[2:]) == (shape[0], *shape[2:]) \
            and first.shape[1] > shape[1]
    assert second is not None
    rank = len(second) if second.ndim > 1 else 0
    return first.shape == (shape[0], rank, *[1] * (len(shape) - 2)) and second.shape == (rank, *shape[1:]) \
        and (alpha is None or alpha.numel() == 1)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def split_input(changed: Mapping[str, Change], channels: int) -> tuple[dict[str, Change], Tensor | None]:
    """Separates what a file adds to the first convolution for given images. channels: those of the base model.

    Returns the changes that have the shapes of the base model's weights, and the weights for the given images' latents
    [out, channels of these, 3, 3]; None for a file that takes none.
    """
    change = changed.get(INPUT)
    if change is None or change.type != "diff" or change.tensors[0].shape[1] == channels:
        return dict(changed), None
    wide = change.tensors[0]
    return {**changed, INPUT: Change("diff", {0: wide[:, :channels]})}, wide[:, channels:]


def given_features(weight: Tensor, latents: Tensor) -> Tensor:
    """What given images add after the first convolution. The convolution of concatenated channels is the sum of two, so that the
    base model's own weight keeps its shape.

    weight: [out, C, 3, 3], latents: [1, C, h, w] -> [1, out, h, w].
    """
    return conv2d(latents, weight, padding=1)
