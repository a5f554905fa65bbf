"""Places without day and night: outer space, underwater, and rooms."""

from __future__ import annotations

import colorsys

import numpy as np

from .paint import Canvas, mix, soft


def space(c: Canvas) -> None:
    hue = c.rng.uniform(0.6, 0.95)
    c.image[:] = mix((0.05, 0.03, 0.16), (0.10, 0.05, 0.24), np.broadcast_to(c.y, (c.size, c.size)))
    drift = c.x * c.rng.uniform(-0.8, 0.8) + c.y
    band = np.exp(-((((drift - drift.mean()) + 0.18 * c.noise(3, 3)) / 0.28) ** 2))
    for shift, strength, cells in ((0.0, 0.75, 3), (-0.13, 0.6, 4), (0.1, 0.5, 5)):
        colour = np.array(colorsys.hsv_to_rgb((hue + shift) % 1, 0.72, 0.9), np.float32)
        fog = soft(0.5 + 0.8 * c.noise(cells, cells)) * band * strength
        c.image = 1 - (1 - c.image) * (1 - fog[..., None] * colour)
    c.stars(90, 1.0)
    for _ in range(7):
        x, y = c.rng.random(2)
        c.glow(x, y, 0.035, (0.7, 0.8, 1.0), 0.7)
        c.disc(x, y, 0.006, (1.0, 1.0, 1.0), blur=2)


def underwater(c: Canvas) -> None:
    top, low = c.shade((0.34, 0.84, 0.92), 0.03), c.shade((0.02, 0.22, 0.52), 0.03)
    c.image[:] = mix(top, low, np.broadcast_to(soft(c.y * 1.15), (c.size, c.size)))
    lamp = c.lamp
    for _ in range(6):
        tilt, wide = c.rng.normal(0, 0.35), c.rng.uniform(0.03, 0.07)
        ray = np.exp(-(((c.x - lamp - (c.y + 0.15) * tilt) / (wide * (0.5 + c.y))) ** 2)) * np.clip(0.85 - c.y, 0, 1)
        c.image += (0.24 * ray)[..., None] * np.array((0.75, 0.95, 1.0), np.float32)
    c.ridge(c.curve(0.70, 0.03, 1.3), np.array((0.16, 0.46, 0.62)), np.array((0.10, 0.34, 0.52)), 0.2)
    for x in (c.rng.uniform(0.0, 0.14), c.rng.uniform(0.86, 1.0), c.rng.uniform(0.16, 0.3)):
        _weed(
            c, x, c.rng.uniform(0.25, 0.42), c.shade(((0.16, 0.62, 0.42), (0.86, 0.36, 0.52))[c.rng.integers(2)], 0.04)
        )
    sand = c.shade((0.80, 0.76, 0.58), 0.03)
    c.ridge(c.curve(0.80, 0.022, 1.0), sand, sand * (0.55, 0.66, 0.82), 0.24, 1.6)
    for _ in range(5):
        c.ball(c.rng.random(), c.rng.uniform(0.83, 0.9), c.rng.uniform(0.012, 0.03), c.shade((0.42, 0.52, 0.62)), 0.7)
    for _ in range(14):
        x, y, r = c.rng.random(), c.rng.uniform(0.05, 0.7), c.rng.uniform(0.006, 0.016)
        c.disc(x, y, r, (0.78, 0.95, 1.0), 0.35)
        c.disc(x - r * 0.3, y - r * 0.35, r * 0.3, (1.0, 1.0, 1.0), 0.9, blur=1.5)


def table(c: Canvas) -> None:
    wall = c.shade((0.96, 0.88, 0.76), 0.08)
    edge = c.rng.uniform(0.50, 0.56)
    c.image[:] = mix(wall, wall * 0.84, np.broadcast_to(soft(c.y / edge), (c.size, c.size)))
    for _ in range(9):
        x, y, r = c.rng.random(), c.rng.uniform(0, edge), c.rng.uniform(0.03, 0.09)
        c.disc(x, y, r, np.clip(wall * 1.12 + 0.03, 0, 1), 0.35, blur=7)
    near = np.clip((c.y - edge) / (1 - edge), 0, 1)
    across = (c.x - 0.5) / (0.55 + 0.75 * near)
    plank = across * 7 + 20.3
    number, part = np.floor(plank).astype(int), plank % 1
    tones = c.rng.uniform(0.90, 1.07, 64)[number]
    wood = c.shade((0.78, 0.50, 0.28), 0.04)
    grain = 0.035 * np.sin(part * 21 + 2.2 * np.sin(near * 5 + number * 2.4) + number * 1.7)
    tone = wood * (tones + grain)[..., None] * (1.12 - 0.30 * near)[..., None]
    seam = np.exp(-((np.minimum(part, 1 - part) / 0.03) ** 2))
    tone = mix(tone, wood * 0.50, 0.55 * seam)
    c.lay(c.cover(c.y - edge + 0 * c.x), tone)
    c.lay(np.exp(-(((c.y - edge - 0.006) / 0.006) ** 2)) * np.ones_like(c.x) * 0.6, np.clip(wood * 1.35, 0, 1))


def studio(c: Canvas) -> None:
    hue = c.rng.random()
    wall = np.array(colorsys.hsv_to_rgb(hue, c.rng.uniform(0.22, 0.38), 0.97), np.float32)
    floor = np.array(colorsys.hsv_to_rgb((hue + c.rng.uniform(-0.06, 0.06)) % 1, 0.16, 1.0), np.float32)
    corner = c.rng.uniform(0.64, 0.72)
    c.image[:] = mix(wall * 0.95, wall, np.broadcast_to(soft(c.y / corner), (c.size, c.size)))
    c.lay(np.broadcast_to(soft((c.y - corner + 0.09) / 0.18), (c.size, c.size)), floor)
    c.glow(c.lamp, 0.36, 0.6, (1.0, 1.0, 1.0), 0.35)
    c.image *= 1 - 0.10 * soft((np.hypot(c.x - 0.5, c.y - 0.55) - 0.3) / 0.55)[..., None]


def room(c: Canvas) -> None:
    skirting = c.rng.uniform(0.66, 0.70)
    wall = c.shade(
        ((0.62, 0.78, 0.76), (0.94, 0.76, 0.64), (0.72, 0.72, 0.90), (0.92, 0.84, 0.62))[c.rng.integers(4)], 0.03
    )
    c.image[:] = mix(wall * 1.04, wall * 0.92, np.broadcast_to(c.y / skirting, (c.size, c.size)))
    x, half = c.rng.choice((0.26, 0.4)) + c.rng.uniform(-0.04, 0.04), c.rng.uniform(0.14, 0.17)
    _window(c, x, half)
    c.block(-0.1, skirting - 0.035, 1.1, skirting, np.array((0.97, 0.95, 0.92), np.float32))
    floor = c.shade((0.80, 0.60, 0.42), 0.03)
    near = np.clip((c.y - skirting) / (1 - skirting), 0, 1)
    c.lay(c.cover(c.y - skirting + 0 * c.x), mix(floor * 0.84, floor * 1.04, near + 0 * c.x))
    rug = c.shade(((0.86, 0.42, 0.42), (0.36, 0.56, 0.76), (0.92, 0.72, 0.40))[c.rng.integers(3)], 0.04)
    for scale, tone in ((1.0, rug), (0.84, np.clip(rug * 0.6 + 0.4, 0, 1)), (0.76, rug * 0.96)):
        distance = np.hypot((c.x - 0.5) / 0.44, (c.y - 0.86) / 0.11) / scale
        c.lay(c.cover((1 - distance) * 0.12, 1.5), tone)


def stage(c: Canvas) -> None:
    red, lamp = c.shade((0.72, 0.08, 0.14), 0.03), c.rng.uniform(0.38, 0.5)
    floor = 0.72
    c.image[:] = mix((0.26, 0.06, 0.14), (0.40, 0.10, 0.18), np.broadcast_to(c.y, (c.size, c.size)))
    c.lay(
        c.cover(c.y - floor + 0 * c.x),
        mix((0.48, 0.27, 0.16), (0.72, 0.44, 0.26), soft((c.y - floor) / 0.28) + 0 * c.x),
    )
    beam = soft((0.10 + 0.26 * c.y - np.abs(c.x - lamp - 0.04 * (c.y - 0.5))) / 0.10) * np.clip(0.40 - 0.2 * c.y, 0, 1)
    c.image = 1 - (1 - c.image) * (1 - (beam * (c.y < 0.95))[..., None] * np.array((1.0, 0.86, 0.58), np.float32))
    pool = np.hypot((c.x - lamp) / 0.36, (c.y - 0.87) / 0.10)
    c.image += (0.26 * soft((1.1 - pool) * 2.5))[..., None] * np.array((1.0, 0.85, 0.55), np.float32)
    for side in (0, 1):
        x = c.x if side == 0 else 1 - c.x
        hem = 0.20 + 0.07 * soft((0.62 - c.y) / 0.5) - 0.05 * np.exp(-(((c.y - 0.55) / 0.06) ** 2))
        fold = 0.5 + 0.5 * np.sin(x / np.maximum(hem, 0.05) * 21 + 0.6)
        c.lay(c.cover(np.minimum(hem - x, 0.80 - c.y), 1.5), mix(red * 0.55, np.clip(red * 1.3, 0, 1), fold))
    swag = 0.10 + 0.035 * np.abs(np.sin(c.x * np.pi * 4))
    fold = 0.5 + 0.5 * np.sin(c.x * 75)
    c.lay(c.cover(swag - c.y, 1.5), mix(red * 0.6, np.clip(red * 1.25, 0, 1), fold * (0.4 + 4 * c.y)))
    c.lay(c.cover(0.007 - np.abs(c.y - swag), 1.5), np.array((0.95, 0.74, 0.30), np.float32))


def _weed(c: Canvas, x: float, height: float, colour: np.ndarray) -> None:
    phase = c.rng.random() * 6
    for offset in (-0.03, 0.0, 0.03):
        tall = height * c.rng.uniform(0.7, 1.0)
        up = np.clip((0.86 - c.y) / tall, 0, 1)
        middle = x + offset + 0.018 * np.sin(up * 7 + phase) * up
        half = 0.015 * np.sqrt(np.clip(1 - up, 0, 1)) * (up > 0)
        side = np.clip(0.5 + (c.x - middle) / 0.03, 0, 1)
        c.lay(c.cover(half - np.abs(c.x - middle), 1.3) * (up < 1), mix(colour * 1.15, colour * 0.65, side))


def _window(c: Canvas, x: float, half: float) -> None:
    top, bottom = 0.12, 0.46
    frame = np.array((0.98, 0.96, 0.93), np.float32)
    c.block(x - half - 0.02, top - 0.02, x + half + 0.02, bottom + 0.02, frame)
    rows, columns = c.box(x - half, top, x + half, bottom)
    inside = c.cover(np.minimum(half - np.abs(c.x - x), np.minimum(c.y - top, bottom - c.y)))
    view = mix((0.52, 0.78, 0.98), (0.88, 0.96, 1.0), soft((c.y - top) / (bottom - top)) + 0 * c.x)
    c.lay(inside, view)
    hill = c.curve(bottom - 0.08, 0.015)
    c.lay(inside * c.cover(c.y - hill), np.array((0.52, 0.78, 0.44), np.float32))
    c.block(x - 0.008, top, x + 0.008, bottom, frame)
    c.block(x - half, (top + bottom) / 2 - 0.008, x + half, (top + bottom) / 2 + 0.008, frame)
    c.block(x - half - 0.04, bottom + 0.015, x + half + 0.04, bottom + 0.04, frame * 0.96)
