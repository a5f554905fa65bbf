"""An animated WebP that adds one layer at a time, bottom first: a preview for web pages and messages."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from ..layers import Document
from ..whole import whole
from .pixels import merged_rgba

SIDE = 1024
"""The longest side in pixels. It is only a preview, and WebP is limited to 16383."""

STEP_MS, LAST_MS = 700, 2500
QUALITY = 90
EXIF_MODEL = 0x0110
"""The EXIF tag in which ComfyUI stores the prompt in a WebP. Further texts use the tags below it."""


def write_animation(document: Document, path: Path, text: dict[str, str], linear: bool = False) -> None:
    """Write a looping animated WebP in which frame k shows the k lowest visible layers and the last frame stays longest.

    Frames have alpha and are scaled down to at most 1024 pixels. text: metadata, stored like that of ComfyUI's Save Animated
    WEBP node. linear: as in composite. ValueError if no layer is visible or values are not finite.
    """
    layers = [layer for layer in document.layers if layer.visible]
    still = replace(document, fixed_canvas=document.canvas)
    frames = []
    for count in range(1, len(layers) + 1):
        frame = Image.fromarray(merged_rgba(replace(still, layers=layers[:count]), linear))
        frame.thumbnail((SIDE, SIDE))
        frames.append(frame)
    if not frames:
        raise ValueError("All layers are hidden, so the animation would be empty. Make at least one layer visible.")
    exif = Image.Exif()
    for offset, (key, value) in enumerate(text.items()):
        exif[EXIF_MODEL - offset] = f"{key}:{value}"
    with whole(path) as part:
        frames[0].save(part, "WEBP", save_all=True, append_images=frames[1:], loop=0, quality=QUALITY, exif=exif,
                       duration=[STEP_MS] * (len(frames) - 1) + [LAST_MS])  # fmt: skip
