"""Outdoor places made by people, each painted in the light of its canvas."""

from __future__ import annotations

import numpy as np

from .paint import Canvas, mix


def flowers(c: Canvas) -> None:
    c.sky(0.5)
    c.hills(0.02, (0.45, (0.40, 0.70, 0.58), 0.4), (0.49, (0.42, 0.74, 0.38), 0.15))
    c.ridge(c.curve(0.53, 0.004), c.lit((0.40, 0.72, 0.28)), c.lit((0.22, 0.50, 0.22)), 0.45)
    tones = ((0.95, 0.25, 0.36), (1.0, 0.80, 0.22), (0.98, 0.52, 0.74), (0.66, 0.42, 0.88), (1.0, 0.56, 0.24))
    order, depth = c.rng.permutation(5), 0.0
    for row in range(7):
        near = row / 6
        y, radius = 0.548 + 0.44 * near**1.3, 0.010 + 0.026 * near
        for i in range(int(1.15 / (radius * 2.1)) + 1):
            x = i * radius * 2.1 - 0.05 + (row % 2) * radius
            tone = c.shade(tones[order[row % 5]], 0.02)
            c.ball(
                x, y + c.rng.uniform(-0.2, 0.2) * radius, radius * c.rng.uniform(0.85, 1.05), c.lit(tone, depth), 0.85
            )


def city(c: Canvas) -> None:
    c.sky(0.78, 2)
    for depth, width, low, high in ((0.55, 0.085, 0.26, 0.50), (0.25, 0.11, 0.38, 0.62)):
        left = -c.rng.uniform(0, width)
        while left < 1:
            wide, top = width * c.rng.uniform(0.7, 1.3), c.rng.uniform(low, high)
            tone = c.shade(((0.46, 0.56, 0.76), (0.60, 0.55, 0.72), (0.42, 0.62, 0.72))[c.rng.integers(3)], 0.03)
            c.block(left, top, left + wide * 0.96, 0.80, c.lit(tone, depth))
            if depth < 0.5:
                _windows(c, left, top, wide * 0.96)
            left += wide
    c.ridge(c.curve(0.775, 0.0), c.lit((0.42, 0.66, 0.40)), c.lit((0.36, 0.60, 0.38)), 0.04)
    c.ridge(c.curve(0.82, 0.0), c.lit((0.80, 0.80, 0.84)), c.lit((0.66, 0.67, 0.74)), 0.18)
    for x in c.spread(7):
        c.ball(x, 0.775, 0.032, c.lit(c.shade((0.30, 0.62, 0.34), 0.03)), 0.9)


def road(c: Canvas) -> None:
    horizon = 0.52
    c.sky(horizon)
    c.hills(0.02, (0.46, (0.36, 0.66, 0.62), 0.45), (0.50, (0.38, 0.70, 0.44), 0.2))
    field = c.shade((0.86, 0.80, 0.36))
    c.ridge(c.curve(horizon + 0.01, 0.004), c.lit(field), c.lit(field * (0.70, 0.78, 0.6)), 0.48)
    near = np.clip((c.y - horizon) / (1 - horizon), 0, 1)
    bend = c.rng.uniform(-0.16, 0.16)
    middle = 0.5 + bend * (1 - near) ** 2
    half = 0.012 + 0.40 * near
    below = c.y > horizon + 0.012
    offset = np.abs(c.x - middle)
    c.lay(c.cover(half * 1.16 - offset, 2) * below, c.lit((0.52, 0.70, 0.30)) * np.ones_like(c.image))
    c.lay(
        c.cover(half - offset, 1.5) * below, mix(c.lit((0.50, 0.52, 0.58)), c.lit((0.36, 0.38, 0.45)), near + 0 * c.x)
    )
    c.lay(c.cover(half * 0.03 - np.abs(offset - half * 0.88), 1.5) * below, c.lit((0.96, 0.96, 0.94)))
    dashes = np.sin(2 * np.pi * 2.2 / (near + 0.22) + 1.0) > 0.0
    c.lay(c.cover(half * 0.035 - offset, 1.5) * below * dashes, c.lit((1.0, 0.86, 0.36)))


def terraces(c: Canvas) -> None:
    c.sky(0.46)
    c.hills(0.04, (0.36, (0.34, 0.62, 0.62), 0.55), (0.41, (0.34, 0.64, 0.46), 0.3))
    green, steps = c.shade((0.46, 0.76, 0.24)), 6
    phase, swing = c.rng.random() * 6, c.rng.uniform(0.035, 0.055)
    pool = mix(c.lit((0.60, 0.86, 0.92)), c.horizon, 0.5)
    for i in range(steps):
        near = i / (steps - 1)
        wave = np.sin(c.x[0] * (7.5 - 2.2 * near) + phase + 1.1 * i) + 0.4 * np.sin(c.x[0] * 13 + 2.3 * i)
        line = 0.46 + 0.46 * near**1.2 + swing * (0.45 + 0.4 * near) * wave
        reach, haze = 0.055 + 0.075 * near, 0.3 * (1 - near)
        c.ridge(line, mix(pool, c.lit((0.35, 0.66, 0.78)), 0.5), pool, reach * 0.45, 1.6)
        rim = line + reach * (0.42 + 0.10 * np.sin(c.x[0] * 9 + phase + i))
        c.ridge(rim, c.lit(np.clip(green * 1.3, 0, 1), haze), c.lit(green, haze), reach * 0.35)
        c.ridge(rim + reach * 0.22, c.lit(green * 0.95, haze), c.lit(green * (0.42, 0.62, 0.55), haze), reach * 0.9, 2)


def candy(c: Canvas) -> None:
    c.sky(0.6, 3)
    if c.light == "day":
        c.lay(np.full((c.size, c.size), 0.42), c.lit((1.0, 0.72, 0.86)))
    for base, tone, haze in (
        (0.52, (0.80, 0.70, 0.98), 0.25),
        (0.60, (0.62, 0.90, 0.86), 0.1),
        (0.69, (1.0, 0.64, 0.80), 0),
    ):
        line = c.curve(base, 0.035, 1.0)
        c.ridge(line, c.lit(np.clip(np.array(tone) * 1.06, 0, 1), haze), c.lit(np.array(tone) * 0.84), 0.34)
        icing = line + 0.022 + 0.012 * np.sin(c.x[0] * 45)
        c.lay(c.cover(np.minimum(c.y - line, icing - c.y), 1.6), c.lit((1.0, 0.97, 0.94)))
        for x in c.spread(2):
            y, r = float(np.interp(x, c.x[0], line)), c.rng.uniform(0.022, 0.036)
            c.block(x - 0.005, y - 0.10, x + 0.005, y + 0.01, c.lit((1, 0.97, 0.94)))
            c.ball(
                x, y - 0.11, r, c.lit(((0.98, 0.42, 0.52), (1.0, 0.82, 0.40), (0.50, 0.72, 0.98))[c.rng.integers(3)])
            )


def _windows(c: Canvas, left: float, top: float, width: float) -> None:
    columns, step = max(2, int(width / 0.03)), 0.036
    lit_part = {"day": 0.0, "sunset": 0.45, "night": 0.6}[c.light]
    for row in range(int((0.74 - top) / step)):
        for column in range(columns):
            x, y = left + width * (column + 0.5) / columns, top + 0.02 + row * step
            glowing = c.rng.random() < lit_part
            colour = np.array((1.0, 0.84, 0.46), np.float32) if glowing else c.lit((0.78, 0.90, 0.98), 0.1)
            c.block(x - width * 0.24 / columns, y, x + width * 0.24 / columns, y + step * 0.5, colour)
