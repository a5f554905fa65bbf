"""Natural outdoor places, each painted in the light of its canvas, from the sky down to the foreground."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .paint import Canvas, mix, soft


def meadow(c: Canvas) -> None:
    c.sky(0.6)
    green = c.shade((0.45, 0.78, 0.26))
    c.hills(0.03, (0.52, (0.38, 0.70, 0.55), 0.45), (0.58, (0.42, 0.76, 0.38), 0.2))
    for _ in range(c.rng.integers(2, 5)):
        x, r = c.rng.random(), c.rng.uniform(0.03, 0.05)
        c.ball(x, 0.625, r, c.lit((0.26, 0.60, 0.28), 0.1), 0.8)
        c.ball(x + r, 0.635, r * 0.7, c.lit((0.30, 0.66, 0.30), 0.1), 0.8)
    line = c.curve(0.64, 0.02, 0.8)
    c.ridge(line, c.lit(green * 1.12), c.lit(green * (0.55, 0.72, 0.6)), 0.42)
    c.image *= (1 + 0.05 * c.noise(5, 9) * (c.y > line))[..., None]


def beach(c: Canvas) -> None:
    horizon = c.rng.uniform(0.42, 0.47)
    c.sky(horizon)
    far = _water(c, (0.16, 0.60, 0.86), 0.3)
    c.ridge(c.curve(horizon, 0.0), far, _water(c, (0.36, 0.86, 0.88)), 0.24)
    _glitter(c, horizon, 0.64)
    shore = c.curve(0.66, 0.018, 0.9)
    for offset, strength in ((-0.045, 0.4), (-0.02, 0.6), (0.0, 1.0)):
        line = shore + offset + 0.006 * np.sin(c.x[0] * 40 + c.rng.random() * 6)
        foam = c.cover(0.011 - np.abs(c.y - line), 2.5) * strength
        c.lay(foam * (c.y > horizon), c.lit((0.96, 1.0, 1.0)))
    sand = c.shade((0.98, 0.86, 0.62), 0.025)
    c.ridge(shore + 0.008, c.lit(sand * 0.86), c.lit(sand), 0.06, 2)
    c.image *= (1 + 0.035 * c.noise(4, 10) * (c.y > shore + 0.02))[..., None]
    _fade(c, 0.75, 0.12)


def sea(c: Canvas) -> None:
    horizon = c.rng.uniform(0.40, 0.46)
    c.sky(horizon, 4)
    deep, light = c.shade((0.05, 0.33, 0.68)), c.shade((0.22, 0.66, 0.90))
    c.ridge(c.curve(horizon, 0.0), _water(c, light, 0.35), _water(c, deep), 0.5)
    rows = 8
    for i in range(rows):
        near = (i + 1) / rows
        base = horizon + (1 - horizon) * near**1.5
        phase, crest = c.rng.random() * 7, 0.004 + 0.016 * near
        line = base + crest * np.abs(np.sin(c.x[0] * (26 - 17 * near) + phase)) - 0.03 * near
        tone = mix(light, deep, near * 0.75)
        haze = 0.45 * (1 - near)
        c.ridge(
            line, _water(c, np.clip(tone * 1.18 + 0.05, 0, 1), haze), _water(c, tone, haze), 0.012 + 0.05 * near, 1.6
        )
    _glitter(c, horizon, 1.0)


def hills(c: Canvas) -> None:
    c.sky(0.58, 1)
    far, near = np.array((0.62, 0.72, 0.88)), c.shade((0.16, 0.34, 0.46))
    for i in range(6):
        part = i / 5
        line = c.curve(0.42 + 0.40 * part, 0.05 - 0.015 * part, 0.9 + 0.4 * (1 - part))
        tone = mix(far, near, part)
        c.ridge(
            line, c.lit(tone, 0.45 * (1 - part)), c.lit(mix(tone, (0.85, 0.9, 0.97), 0.35), 0.55 * (1 - part)), 0.16
        )


def mountains(c: Canvas) -> None:
    c.sky(0.62, 2)
    _peaks(c, 4, 0.36, 0.14, (0.54, 0.60, 0.74), 0.45)
    _peaks(c, 3, 0.40, 0.22, (0.46, 0.52, 0.68), 0.1)
    snow = c.shade((0.93, 0.96, 1.0), 0.02)
    c.ridge(c.curve(0.66, 0.025, 0.8), c.lit(snow, 0.1), c.lit(snow * (0.78, 0.87, 0.98)), 0.14)
    c.ridge(c.curve(0.76, 0.03, 0.7), c.lit(snow), c.lit(snow * (0.80, 0.88, 0.98)), 0.26)


def desert(c: Canvas) -> None:
    c.sky(0.6, 1)
    sand = c.shade((0.98, 0.76, 0.42))
    c.ridge(c.curve(0.53, 0.03, 1.2), c.lit(sand, 0.35), c.lit(sand * 0.92, 0.3), 0.1)
    for base in (0.57, 0.67, 0.80):
        line = c.curve(base, 0.05, 0.55)
        c.ridge(line, c.lit(np.clip(sand * 1.05, 0, 1)), c.lit(sand * (0.84, 0.74, 0.66)), 0.26)
        # The shaded side of the dune hangs from the falling half of its crest.
        lee = np.clip(np.gradient(line) * c.size * 1.3, 0, 1) * 0.10 + 0.002
        shadow = c.cover(np.minimum(c.y - line, line + lee - c.y), 6)
        c.lay(shadow * 0.55, c.lit(sand * (0.74, 0.56, 0.50)))


def forest(c: Canvas) -> None:
    c.sky(0.7, 1)
    for depth, foot, count, height in ((0.6, 0.60, 13, 0.26), (0.35, 0.66, 11, 0.34), (0.1, 0.73, 8, 0.44)):
        tone = c.shade((0.13, 0.50, 0.36), 0.03)
        line = c.curve(foot - 0.02, 0.008)
        c.ridge(line, c.lit(tone * 0.9, depth), c.lit(tone * 0.9, depth), 0.1)
        for x in c.spread(count):
            c.fir(x, foot + c.rng.uniform(0, 0.02), height * c.rng.uniform(0.8, 1.15), c.lit(tone, depth))
    grass = c.shade((0.36, 0.62, 0.30))
    c.ridge(c.curve(0.735, 0.012), c.lit(grass), c.lit(grass * (0.5, 0.68, 0.62)), 0.26)


def autumn(c: Canvas) -> None:
    c.sky(0.68, 1)
    leaves = ((0.93, 0.44, 0.14), (0.96, 0.65, 0.16), (0.82, 0.27, 0.17), (0.90, 0.54, 0.20))
    for depth, foot, count, height in ((0.45, 0.61, 10, 0.24), (0.22, 0.66, 8, 0.32), (0.0, 0.73, 5, 0.44)):
        c.ridge(c.curve(foot - 0.03, 0.006), c.lit((0.74, 0.50, 0.24), depth), c.lit((0.74, 0.5, 0.24), depth), 0.1)
        for x in c.spread(count):
            tone = c.shade(leaves[c.rng.integers(4)], 0.03)
            c.tree(x, foot + c.rng.uniform(0, 0.015), height * c.rng.uniform(0.85, 1.15), c.lit(tone, depth))
    ground = c.shade((0.88, 0.62, 0.28))
    c.ridge(c.curve(0.735, 0.012), c.lit(ground), c.lit(ground * (0.74, 0.56, 0.5)), 0.28)
    for _ in range(26):
        y = c.rng.uniform(0.77, 1.0)
        c.ball(c.rng.random(), y, 0.006 + 0.012 * (y - 0.74) / 0.26, c.lit(leaves[c.rng.integers(4)]), 0.5)


def lake(c: Canvas) -> None:
    shore = 0.55
    c.sky(shore, 2)
    _peaks(c, 4, 0.30, 0.16, (0.46, 0.52, 0.68), 0.3)
    c.hills(0.02, (0.47, (0.24, 0.54, 0.46), 0.25))
    for x in c.spread(9):
        c.fir(x, shore, c.rng.uniform(0.07, 0.13), c.lit((0.13, 0.44, 0.36), 0.1))
    rows = np.clip((2 * shore - c.y[:, 0]) * c.size, 0, shore * c.size - 1).astype(int)
    water = _water(c, (0.16, 0.55, 0.74))
    mirrored = mix(c.image[rows], water, np.broadcast_to(0.35 + 0.5 * soft((c.y - shore) / 0.45), c.image.shape[:2]))
    ripple = 1 + 0.05 * np.sin(c.y * 230 / (0.6 + c.y)) * np.clip(c.noise(4, 24), -1, 1)
    c.lay(c.cover(c.y - shore + 0 * c.x), mirrored * ripple[..., None])
    bank = c.curve(0.90, 0.025, 0.6)
    c.ridge(bank, c.lit((0.48, 0.74, 0.32)), c.lit((0.28, 0.52, 0.26)), 0.12)


def canyon(c: Canvas) -> None:
    c.sky(0.62, 1)
    rock = c.shade((0.88, 0.43, 0.26), 0.04)
    for depth, foot, count in ((0.45, 0.60, 3), (0.1, 0.69, 3)):
        for x in c.spread(count):
            _mesa(c, x, foot, c.rng.uniform(0.11, 0.19) * (1.1 - depth), c.rng.uniform(0.16, 0.34), rock, depth)
        c.ridge(c.curve(foot - 0.012, 0.008), c.lit(rock * (1.1, 1.35, 1.4), depth), c.lit(rock * (1, 1.1, 1.1)), 0.14)
    c.ridge(c.curve(0.77, 0.02, 0.7), c.lit(rock * (1.12, 1.5, 1.6)), c.lit(rock * (0.82, 0.82, 0.86)), 0.3)


def winter(c: Canvas) -> None:
    c.sky(0.6, 2)
    if c.light == "day":
        c.lay(np.full((c.size, c.size), 0.25), c.lit((0.86, 0.92, 1.0)))
    c.ridge(c.curve(0.52, 0.03, 0.8), c.lit((0.86, 0.92, 1.0), 0.4), c.lit((0.78, 0.86, 0.97), 0.3), 0.2)
    for foot, count, height, haze in ((0.60, 9, 0.17, 0.35), (0.68, 5, 0.30, 0.08)):
        c.ridge(c.curve(foot - 0.03, 0.015, 0.8), c.lit((0.94, 0.97, 1.0), haze * 0.6), c.lit((0.82, 0.89, 0.98)), 0.2)
        for x in c.spread(count):
            c.fir(x, foot, height * c.rng.uniform(0.8, 1.2), c.lit((0.18, 0.46, 0.46), haze), 0.45)
    c.ridge(c.curve(0.71, 0.02, 0.7), c.lit((0.97, 0.98, 1.0)), c.lit((0.80, 0.88, 0.98)), 0.32)
    for _ in range(70):
        c.disc(c.rng.random(), c.rng.random(), c.rng.uniform(0.004, 0.011), c.lit((1, 1, 1)) * 0.6 + 0.4, 0.85, blur=2)


def _mesa(c: Canvas, x: float, foot: float, half: float, height: float, rock: np.ndarray, haze: float) -> None:
    """A flat-topped rock: an upright cap on a slope of rubble, banded, dark on the right."""
    down = np.clip((c.y - foot + height) / height, 0, 1)
    wall = half * (0.70 + 0.06 * down + 0.55 * np.clip(down - 0.52, 0, 1) ** 1.3 * 2)
    across = (c.x - x) / wall
    corners = 0.02 * np.clip(np.abs(across) - 0.8, 0, 1) / 0.2
    inside = np.minimum(wall - np.abs(c.x - x), c.y - foot + height - corners)
    bands = soft(1.3 * np.sin((c.y + 0.010 * np.abs(across)) * 88 + x * 9) + 0.5)
    tone = mix(rock, np.clip(rock * (1.10, 1.30, 1.36), 0, 1), bands * 0.75)
    tone = mix(tone, rock * (0.66, 0.58, 0.62), 0.75 * soft((across - 0.15) * 2.5))
    tone = mix(tone, rock * (1.1, 1.25, 1.25), soft((down - 0.55) * 2.2) * 0.8)
    c.lay(c.cover(inside, 1.5), c.lit(np.clip(tone, 0, 1), haze))


def _peaks(c: Canvas, count: int, base: float, swing: float, rock: ArrayLike, haze: float) -> None:
    """A chain of mountains, farthest first, each with a lit left side and a snow cap."""
    for x in c.spread(count):
        _peak(c, x, base - swing * c.rng.uniform(0.25, 1.0), c.rng.uniform(0.75, 1.05), c.shade(rock, 0.02), haze)


def _peak(c: Canvas, x: float, top: float, slope: float, rock: np.ndarray, haze: float) -> None:
    phase = c.rng.random() * 6
    down = c.y - top
    rough = 0.012 * np.sin(c.y * 55 + phase) + 0.008 * np.sin(c.y * 120 + phase * 2)
    side = c.x - x
    inside = down * slope + rough * np.clip(down * 12, 0, 1) * np.sign(side) - np.abs(side)
    crest = 0.10 * down + 0.03 * np.sin(c.y * 38 + phase) * np.clip(down * 8, 0, 1)
    dark = c.cover(side - crest, 2.5)
    fog = soft(down / 0.42) * 0.55
    body = mix(mix(c.lit(np.clip(rock * 1.12, 0, 1), haze), c.lit(rock * 0.74, haze), dark), c.horizon, fog)
    c.lay(c.cover(inside, 1.3), body)
    hem = 0.125 + 0.032 * np.sin(side * 62 + phase) + 0.016 * np.sin(side * 117 + phase)
    snow = mix(c.lit((0.99, 1.0, 1.0), haze * 0.6), c.lit((0.74, 0.83, 0.97), haze * 0.8), dark)
    c.lay(c.cover(np.minimum(inside, (hem - down) * 0.7), 1.5), snow)


def _water(c: Canvas, colour: ArrayLike, haze: float = 0.0) -> np.ndarray:
    """The colour of water in this light. At sunset it takes on the red of the sky, where plain blue would turn grey."""
    if c.light != "sunset":
        return c.lit(colour, haze)
    return mix(mix(c.lit(colour), (0.86, 0.36, 0.50), 0.5), (1.0, 0.66, 0.46), haze)


def _glitter(c: Canvas, horizon: float, end: float) -> None:
    """The reflection of the low sun or the moon on water, as short soft strokes."""
    if c.light == "day":
        return
    colour = (1.0, 0.84, 0.56) if c.light == "sunset" else (0.72, 0.78, 0.95)
    for i in range(16):
        near = ((i + c.rng.random()) / 16) ** 1.4
        y, half = horizon + 0.008 + (end - horizon - 0.03) * near, 0.03 + 0.05 * near * c.rng.uniform(0.4, 1.2)
        x = c.lamp + c.rng.normal(0, 0.015 + 0.03 * near)
        mask = np.exp(-(((c.x - x) / half) ** 4) - ((c.y - y) / (0.003 + 0.006 * near)) ** 2)
        c.lay(0.7 * mask * (c.y < end), np.asarray(colour, np.float32))


def _fade(c: Canvas, start: float, strength: float) -> None:
    """Darken the foreground a little, so that objects stand out."""
    c.image *= 1 - strength * soft((c.y - start) / (1 - start))[..., None]
