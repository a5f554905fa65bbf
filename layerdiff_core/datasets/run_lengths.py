"""Masks as COCO's run lengths: alternating lengths of 0 and 1, column by column, plain or packed into text."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files.safe import MAX_PIXELS, SHOWN

FIRST, MORE, SIGN, BITS = 48, 0x20, 0x10, 5
MAX_RUNS = 2_000_000


def read_mask(mask: Any) -> Tensor:
    """A mask {"counts", "size": [height, width]} as [height, width], 0 or 1. counts: a list of lengths, text, or bytes.

    ValueError for a mask that is damaged, empty, or too large. Source: the format of the COCO annotations; in text, each length
    is the difference to the one before the last, in groups of five bits.
    """
    if not isinstance(mask, dict) or "counts" not in mask or "size" not in mask:
        raise ValueError("the mask is not {counts, size}")
    size = list(mask["size"] if mask["size"] is not None else [])
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size):
        raise ValueError(f"the mask has the size {str(size)[:SHOWN]}, expected [height, width]")
    height, width = map(int, size)
    if height * width > MAX_PIXELS:
        raise ValueError(f"the mask is {width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million")
    counts = mask["counts"]
    if isinstance(counts, (str, bytes)):
        counts = unpacked(counts.encode() if isinstance(counts, str) else counts)
    lengths = np.asarray([] if counts is None else counts)
    if lengths.ndim != 1 or not np.issubdtype(lengths.dtype, np.integer) or len(lengths) > MAX_RUNS:
        raise ValueError("the mask's run lengths are not a list of numbers")
    if (lengths < 0).any() or (lengths > height * width).any():
        raise ValueError(f"the mask has run lengths below 0 or above its {height * width} pixels")
    if int(lengths.sum()) != height * width:
        raise ValueError(f"the mask's run lengths add up to {int(lengths.sum())} pixels, and its size is {width} x {height}")
    values = np.repeat(np.arange(len(lengths)) % 2, lengths).astype(np.float32)
    if not values.any():
        raise ValueError("the mask is empty")
    return torch.from_numpy(values.reshape(width, height).T.copy())


def unpacked(text: bytes) -> list[int]:
    """The run lengths in COCO's text. ValueError for text that is none."""
    lengths: list[int] = []
    value = shift = 0
    for sign in text:
        part = sign - FIRST
        if not 0 <= part < 2 * MORE or shift > 60:
            raise ValueError("the mask's run lengths are not COCO's text")
        value |= (part & (MORE - 1)) << shift
        shift += BITS
        if not part & MORE:
            if part & SIGN:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the mask's run lengths are cut off")
    return lengths
