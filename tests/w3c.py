"""Compositing exactly as in W3C Compositing and Blending Level 1, in double precision and without regard to speed.

The reference for the pack and for ComfyUI's own layer nodes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Colour = np.ndarray
NEAR = 1e-6


def hard_light(b: Colour, s: Colour) -> Colour:
    return np.where(s <= 0.5, b * 2 * s, b + (2 * s - 1) - b * (2 * s - 1))


def soft_light(b: Colour, s: Colour) -> Colour:
    d = np.where(b <= 0.25, ((16 * b - 12) * b + 4) * b, np.sqrt(b))
    return np.where(s <= 0.5, b - (1 - 2 * s) * b * (1 - b), b + (2 * s - 1) * (d - b))


@np.errstate(divide="ignore", invalid="ignore")
def color_dodge(b: Colour, s: Colour) -> Colour:
    return np.where(b == 0, 0, np.where(s >= 1, 1, np.minimum(1, b / (1 - s))))


@np.errstate(divide="ignore", invalid="ignore")
def color_burn(b: Colour, s: Colour) -> Colour:
    # White that was turned to light and back may lack a last digit.
    return np.where(b >= 1 - 1e-9, 1, np.where(s <= 0, 0, 1 - np.minimum(1, (1 - b) / s)))


def lum(c: Colour) -> Colour:
    return c @ [[0.3], [0.59], [0.11]]


def sat(c: Colour) -> Colour:
    return c.max(-1, keepdims=True) - c.min(-1, keepdims=True)


def set_lum(c: Colour, wanted: Colour) -> Colour:
    c = c + wanted - lum(c)
    middle, low, high = lum(c), c.min(-1, keepdims=True), c.max(-1, keepdims=True)
    c = np.where(low < 0, middle + (c - middle) * middle / np.where(low < 0, middle - low, 1), c)
    return np.where(high > 1, middle + (c - middle) * (1 - middle) / np.where(high > 1, high - middle, 1), c)


def set_sat(c: Colour, wanted: Colour) -> Colour:
    least, spread = c.min(-1, keepdims=True), sat(c)
    return np.where(spread > 0, (c - least) * wanted / np.where(spread > 0, spread, 1), 0)


W3C: dict[str, Callable[[Colour, Colour], Colour]] = {
    "normal": lambda b, s: s,
    "multiply": lambda b, s: b * s,
    "screen": lambda b, s: b + s - b * s,
    "overlay": lambda b, s: hard_light(s, b),
    "darken": np.minimum,
    "lighten": np.maximum,
    "color-dodge": color_dodge,
    "color-burn": color_burn,
    "hard-light": hard_light,
    "soft-light": soft_light,
    "difference": lambda b, s: abs(b - s),
    "exclusion": lambda b, s: b + s - 2 * b * s,
    "hue": lambda b, s: set_lum(set_sat(s, sat(b)), lum(b)),
    "saturation": lambda b, s: set_lum(set_sat(b, sat(s)), lum(b)),
    "color": lambda b, s: set_lum(s, lum(b)),
    "luminosity": lambda b, s: set_lum(b, lum(s)),
}
OTHERS: dict[str, Callable[[Colour, Colour], Colour]] = {
    "linear-dodge": lambda b, s: b + s,
    "linear-burn": lambda b, s: b + s - 1,
    "vivid-light": lambda b, s: np.where(s <= 0.5, color_burn(b, 2 * s), color_dodge(b, 2 * s - 1)),
    "linear-light": lambda b, s: b + 2 * s - 1,
    "pin-light": lambda b, s: np.where(s <= 0.5, np.minimum(b, 2 * s), np.maximum(b, 2 * s - 1)),
    "hard-mix": lambda b, s: 1.0 * (b + s >= 1),
    "subtract": lambda b, s: b - s,
    "divide": lambda b, s: b / np.maximum(s, 1e-6),
    "grain-extract": lambda b, s: b - s + 0.5,
    "grain-merge": lambda b, s: b + s - 0.5,
}
"""Modes that are not in the W3C text: ComfyUI's, with the formulas that image editors use for them."""

ON_LIGHT = {"normal", "multiply", "darken", "lighten", "luminosity", "linear-dodge", "subtract", "divide"}
"""When blending in linear light, these modes are computed in linear light as well, all others in sRGB."""


def to_light(c: Colour) -> Colour:
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def to_display(c: Colour) -> Colour:
    return np.where(c <= 0.0031308, c * 12.92, 1.055 * np.maximum(c, 0) ** (1 / 2.4) - 0.055)


def composite(layers: list[dict[str, Any]], linear: bool) -> tuple[Colour, Colour, np.ndarray]:
    """Stack layers that fill the canvas, bottom first, none hidden: colour [H,W,3], alpha [H,W,1], special [H,W,3].

    special: where a mode's formula left 0..1, so that it was clamped, or jumps, so that rounding decides.
    Section 5.1: co = cs + cb (1 - as), ao = as + ab (1 - as); section 10: Cs := (1 - ab) Cs + ab clamp(B(Cb, Cs)).
    """
    high, wide = layers[0]["image"].shape[1:3]
    premultiplied, alpha, special = np.zeros((high, wide, 3)), np.zeros((high, wide, 1)), np.zeros((high, wide, 3), bool)
    for layer in layers:
        source = layer["image"][0].double().numpy()
        mask = layer.get("mask")
        covered = np.ones((high, wide, 1)) if mask is None else 1 - mask[0].double().numpy()[..., None]
        covered = covered * layer.get("opacity", 1.0)
        mode = layer.get("blend_mode", "normal")
        backdrop = premultiplied / np.where(alpha > 0, alpha, 1)
        light = to_light(source) if linear else source
        formula = (W3C | OTHERS)[mode]
        aside = linear and mode not in ON_LIGHT
        beneath, above = (np.clip(to_display(backdrop), 0, 1), source) if aside else (backdrop, light)
        mixed = formula(beneath, above)
        near = [formula((beneath + b).clip(0, 1), (above + s).clip(0, 1)) for b in (-NEAR, NEAR) for s in (-NEAR, NEAR)]
        special |= (mixed < -NEAR) | (mixed > 1 + NEAR) | (np.ptp(near, axis=0) > 1e-3)
        mixed = np.clip(mixed, 0, 1)
        colour = (1 - alpha) * light + alpha * (to_light(mixed) if aside else mixed)
        premultiplied = covered * colour + premultiplied * (1 - covered)
        alpha = covered + alpha * (1 - covered)
    straight = premultiplied / np.where(alpha > 0, alpha, 1)
    return to_display(straight) if linear else straight, alpha, special


def scenes(mode: str, side: int = 48) -> dict[str, list[dict[str, Any]]]:
    """Stacks of layers of random bytes, each with layers in this mode, by name."""
    generator = torch.Generator().manual_seed(7)

    def some(*shape: int) -> torch.Tensor:
        # The ends of the range, where formulas have their special cases, come often.
        return torch.randint(-20, 276, shape, generator=generator).clamp(0, 255) / 255

    def layer(blend_mode: str = "normal", soft: bool = True, opacity: float = 1.0) -> dict[str, Any]:
        layer = {"type": "raster", "image": some(1, side, side, 3), "blend_mode": blend_mode, "opacity": opacity}
        return layer | {"mask": some(1, side, side)} if soft else layer

    return {
        "opaque on opaque": [layer(soft=False), layer(mode, soft=False)],
        "half-transparent on opaque": [layer(soft=False), layer(mode, opacity=0.85)],
        "several": [layer(soft=False), layer(mode, opacity=0.85), layer(opacity=0.5), layer(mode, opacity=0.7), layer()],
        "half-transparent on half-transparent": [layer(), layer(mode, opacity=0.85)],
    }
