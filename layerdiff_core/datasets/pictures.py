"""Reads images of unknown origin: JPEG, PNG and WebP."""

from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files.safe import Limits, reading

FORMATS = ["JPEG", "PNG", "WEBP"]
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def read_picture(source: IO[bytes], what: str, limits: Limits) -> tuple[Tensor, Tensor]:
    """Read an image as colours [1,H,W,3], straight, 0..1, and coverage [1,H,W], 0..1, 1 = opaque.

    source: open for reading, at its beginning. Its size is counted against the limits before anything is unpacked. FileError if
    it is damaged, cut off, or of another format. what: its name, for the messages.
    """
    with reading(what), Image.open(source, formats=FORMATS) as picture:
        limits.layer(*picture.size)
        rgba = torch.from_numpy(np.array(picture.convert("RGBA"))).float() / 255
    return rgba[None, ..., :3].contiguous(), rgba[None, ..., 3].contiguous()
