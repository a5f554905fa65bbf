"""Blend modes: how a layer's colour is combined with the colour below it, before alpha is applied."""

from collections.abc import Callable

import torch
from torch import Tensor

SMALL = 1e-6


def blend(mode: str, backdrop: Tensor, source: Tensor) -> Tensor:
    """Blend the colours of a layer with those below it.

    backdrop, source: [...,3] straight (not premultiplied) colours, 0..1, of the same shape. Returns that shape, 0..1.
    ValueError for an unknown mode. Source: W3C Compositing and Blending Level 1, section 10, for its 16 modes; the usual
    definitions for the other ten modes of ComfyUI's layer editor (linear-dodge to grain-merge).
    """
    check_mode(mode)
    return BLENDERS[mode](backdrop, source).clamp(0, 1)


def check_mode(mode: object) -> None:
    """ValueError unless mode is one of MODES."""
    if mode not in MODES:
        raise ValueError(f"Unknown blend mode {mode!r}. Choose one of: {', '.join(MODES)}.")


def _screen(b: Tensor, s: Tensor) -> Tensor:
    return b + s - b * s


def _hard_light(b: Tensor, s: Tensor) -> Tensor:
    return torch.where(s <= 0.5, 2 * b * s, _screen(b, 2 * s - 1))


def _color_dodge(b: Tensor, s: Tensor) -> Tensor:
    return (b / (1 - s).clamp_min(SMALL)).clamp_max(1)


def _color_burn(b: Tensor, s: Tensor) -> Tensor:
    # White that was converted to linear light and back is not exactly 1, and a black source would burn it.
    return torch.where(b >= 1 - SMALL, 1.0, 1 - ((1 - b) / s.clamp_min(SMALL)).clamp_max(1))


def _soft_light(b: Tensor, s: Tensor) -> Tensor:
    lightened = torch.where(b <= 0.25, ((16 * b - 12) * b + 4) * b, b.clamp_min(0).sqrt())
    return torch.where(s <= 0.5, b - (1 - 2 * s) * b * (1 - b), b + (2 * s - 1) * (lightened - b))


def _vivid_light(b: Tensor, s: Tensor) -> Tensor:
    return torch.where(s <= 0.5, _color_burn(b, 2 * s), _color_dodge(b, 2 * s - 1))


def _pin_light(b: Tensor, s: Tensor) -> Tensor:
    return torch.where(s <= 0.5, torch.minimum(b, 2 * s), torch.maximum(b, 2 * s - 1))


def _luminosity(c: Tensor) -> Tensor:
    return (0.3 * c[..., 0] + 0.59 * c[..., 1] + 0.11 * c[..., 2]).unsqueeze(-1)


def _saturation(c: Tensor) -> Tensor:
    return c.amax(-1, keepdim=True) - c.amin(-1, keepdim=True)


def _with_saturation(c: Tensor, saturation: Tensor) -> Tensor:
    return (c - c.amin(-1, keepdim=True)) * (saturation / _saturation(c).clamp_min(SMALL))


def _with_luminosity(c: Tensor, luminosity: Tensor) -> Tensor:
    c = c + (luminosity - _luminosity(c))
    low, high = c.amin(-1, keepdim=True), c.amax(-1, keepdim=True)
    away = c - luminosity
    shrunk = torch.where(low < 0, away * luminosity / (luminosity - low).clamp_min(SMALL), away)
    shrunk = torch.where(high > 1, away * (1 - luminosity) / (high - luminosity).clamp_min(SMALL), shrunk)
    return luminosity + shrunk


BLENDERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normal": lambda b, s: s,
    "multiply": lambda b, s: b * s,
    "screen": _screen,
    "overlay": lambda b, s: _hard_light(s, b),
    "darken": torch.minimum,
    "lighten": torch.maximum,
    "color-dodge": _color_dodge,
    "color-burn": _color_burn,
    "hard-light": _hard_light,
    "soft-light": _soft_light,
    "difference": lambda b, s: (b - s).abs(),
    "exclusion": lambda b, s: b + s - 2 * b * s,
    "hue": lambda b, s: _with_luminosity(_with_saturation(s, _saturation(b)), _luminosity(b)),
    "saturation": lambda b, s: _with_luminosity(_with_saturation(b, _saturation(s)), _luminosity(b)),
    "color": lambda b, s: _with_luminosity(s, _luminosity(b)),
    "luminosity": lambda b, s: _with_luminosity(b, _luminosity(s)),
    "linear-dodge": lambda b, s: b + s,
    "linear-burn": lambda b, s: b + s - 1,
    "vivid-light": _vivid_light,
    "linear-light": lambda b, s: b + 2 * s - 1,
    "pin-light": _pin_light,
    "hard-mix": lambda b, s: (b + s >= 1).to(b.dtype),
    "subtract": lambda b, s: b - s,
    "divide": lambda b, s: b / s.clamp_min(SMALL),
    "grain-extract": lambda b, s: b - s + 0.5,
    "grain-merge": lambda b, s: b + s - 0.5,
}

MODES = tuple(BLENDERS)
"""The names of all blend modes, the W3C's first."""
