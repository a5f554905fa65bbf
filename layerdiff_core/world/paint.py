"""The brushes for painting places: a canvas in a light, and soft shapes on it. All values are 0..1.

Light comes from the left on every canvas. Scenes lit from the right are mirrored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import zoom

# Colours from the top of the sky to the horizon.
SKIES = {
    "day": ((0.20, 0.54, 0.95), (0.48, 0.76, 0.99), (0.86, 0.95, 1.0)),
    "sunset": ((0.33, 0.25, 0.60), (0.93, 0.46, 0.54), (1.0, 0.82, 0.52)),
    "night": ((0.03, 0.05, 0.18), (0.09, 0.14, 0.36), (0.24, 0.30, 0.56)),
}
# How a light changes a colour: saturation, then a factor, then an offset.
LIGHTING = {
    "day": (1.0, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "sunset": (1.1, (0.84, 0.62, 0.56), (0.12, 0.04, 0.08)),
    "night": (1.15, (0.34, 0.37, 0.52), (0.02, 0.02, 0.13)),
}
SHADING = 0.10
"""How much brighter than the middle the lit side of a place is, and how much darker the other side."""
CLOUDS = {
    "day": ((1.0, 1.0, 1.0), (0.76, 0.87, 0.98)),
    "sunset": ((1.0, 0.80, 0.66), (0.80, 0.42, 0.56)),
    "night": ((0.30, 0.36, 0.60), (0.14, 0.19, 0.42)),
}


def mix(first: ArrayLike, second: ArrayLike, part: ArrayLike) -> np.ndarray:
    """first + part * (second - first), colours [..., 3] and part a number or [H, W]."""
    part = np.asarray(part, np.float32)
    part = part[..., None] if part.ndim else part
    first = np.asarray(first, np.float32)
    return first + part * (np.asarray(second, np.float32) - first)


def soft(value: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at 0 to 1 at 1."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


class Canvas:
    """A square image being painted: `image` [H, W, 3], `x` [1, W] and `y` [H, 1] in 0..1, y downwards."""

    def __init__(self, light: str, rng: np.random.Generator, size: int) -> None:
        steps = ((np.arange(size) + 0.5) / size).astype(np.float32)
        self.light, self.rng, self.size, self.pixel = light, rng, size, 1 / size
        self.x, self.y = steps[None, :], steps[:, None]
        self.image: np.ndarray = np.zeros((size, size, 3), np.float32)
        self.horizon = np.asarray(SKIES[light][2], np.float32)
        self.lamp = float(rng.uniform(0.12, 0.38))  # the horizontal position of sun, moon or lamp

    def lit(self, colour: ArrayLike, haze: float = 0.0) -> np.ndarray:
        """A colour in this light, faded by `haze`, 0..1."""
        saturation, factor, added = LIGHTING[self.light]
        colour = np.asarray(colour, np.float32)
        vivid = np.clip(mix(colour.mean(-1, keepdims=True), colour, saturation), 0, 1.1)
        return mix(vivid * factor + added, self.horizon, haze)

    def shade(self, colour: ArrayLike, spread: float = 0.05) -> np.ndarray:
        """A slightly varied colour, so that no two images have the same."""
        return np.clip(np.asarray(colour, np.float32) + self.rng.normal(0, spread, 3) * 0.6, 0, 1)

    def lay(self, mask: np.ndarray, colour: np.ndarray) -> None:
        """Paint a colour ([3] or [H, W, 3]) where the mask [H, W] is 1."""
        self.image += mask[..., None] * (colour - self.image)

    def glow(self, x: float, y: float, radius: float, colour: ArrayLike, strength: float = 1.0) -> None:
        """Add a soft round light (with blend mode screen)."""
        distance = ((self.x - x) ** 2 + (self.y - y) ** 2) / radius**2
        light = (strength * np.exp(-2 * distance))[..., None] * np.asarray(colour, np.float32)
        self.image = 1 - (1 - self.image) * (1 - np.clip(light, 0, 1))

    def cover(self, signed: np.ndarray, blur: float = 1.0) -> np.ndarray:
        """A mask from a signed distance (in canvas units, positive inside), with an edge `blur` pixels wide."""
        return np.clip(signed / (self.pixel * blur) + 0.5, 0, 1)

    def curve(self, base: float, swing: float, waves: float = 1.5) -> np.ndarray:
        """A rolling line [W] about height `base`."""
        line = np.zeros_like(self.x[0])
        for octave, weight in enumerate((1.0, 0.45, 0.2)):
            frequency = waves * (1.7**octave) * self.rng.uniform(0.8, 1.2)
            line += weight * np.sin(2 * np.pi * (frequency * self.x[0] + self.rng.random()))
        return (base + swing * line / 1.3).astype(np.float32)

    def noise(self, cells_x: int, cells_y: int) -> np.ndarray:
        """Smooth noise [H, W], about -1..1, with this number of cells along each axis."""
        coarse = self.rng.normal(0, 0.5, (cells_y + 1, cells_x + 1)).astype(np.float32)
        fine = zoom(coarse, (self.size / (cells_y + 1), self.size / (cells_x + 1)), order=3, mode="nearest")
        return np.clip(fine[: self.size, : self.size], -1, 1)

    def sky(self, horizon: float, clouds: int = 3, middle: float = 0.55) -> None:
        """Paint the sky of this light down to `horizon`: clouds, the sun at sunset, the moon and stars at night."""
        rng = self.rng
        top, centre, low = (self.shade(colour, 0.025) for colour in SKIES[self.light])
        stops = (0.0, middle * horizon, horizon)
        column = np.stack([np.interp(self.y[:, 0], stops, channel) for channel in zip(top, centre, low)], -1)
        self.image[:] = column[:, None, :]
        self.horizon = low.astype(np.float32)
        x = self.lamp
        if self.light == "day":
            self.glow(x, -0.05, 0.6, (1.0, 0.97, 0.85), 0.5)
        elif self.light == "sunset":
            y = horizon - rng.uniform(0.03, 0.12)
            self.glow(x, y, 0.55, (1.0, 0.72, 0.35), 0.6)
            self.glow(x, y, 0.2, (1.0, 0.85, 0.5), 0.6)
            self.disc(x, y, 0.06, (1.0, 0.95, 0.74))
        else:
            self.stars(int(rng.integers(40, 70)), horizon * 0.92)
            self.moon(x, rng.uniform(0.1, 0.35) * horizon + 0.04)
        for _ in range(clouds):
            # Clouds must not hide the sun or moon, by which the light is recognised.
            self.cloud((x + rng.uniform(0.26, 0.74)) % 1, rng.uniform(0.1, 0.62) * horizon, rng.uniform(0.09, 0.19))

    def stars(self, count: int, lowest: float, tint: ArrayLike = (1.0, 0.97, 0.88)) -> None:
        """Small soft points."""
        for _ in range(count):
            x, y, bright = self.rng.random(), self.rng.uniform(0, lowest), self.rng.uniform(0.35, 1.0)
            self.disc(x, y, self.rng.uniform(0.002, 0.0045), tint, bright, blur=1.6)

    def moon(self, x: float, y: float) -> None:
        """A pale full moon with its halo."""
        self.glow(x, y, 0.3, (0.45, 0.52, 0.8), 0.55)
        self.glow(x, y, 0.12, (0.9, 0.9, 0.85), 0.4)
        self.disc(x, y, 0.052, (0.98, 0.96, 0.86))
        for side, down, radius in ((-0.016, -0.01, 0.011), (0.017, 0.008, 0.014), (-0.006, 0.022, 0.008)):
            self.disc(x + side, y + down, radius, (0.90, 0.87, 0.76), 0.7, blur=2)

    def cloud(self, x: float, y: float, width: float) -> None:
        """A puffy cloud: a row of balls with a soft flat bottom, bright above."""
        rng = self.rng
        bright, dark = CLOUDS[self.light]
        rows, columns = self.box(x - width * 1.3, y - width * 0.8, x + width * 1.3, y + width * 0.5)
        px, py = self.x[:, columns], self.y[rows]
        field = np.full((py.shape[0], px.shape[1]), -1.0, np.float32)
        for part in (-0.82, -0.45, -0.1, 0.28, 0.62, 0.9):
            radius = width * (0.44 - 0.27 * abs(part)) * rng.uniform(0.8, 1.2)
            ball = radius - np.hypot(px - x - part * width, py - y + radius * 0.45)
            field = np.maximum(field, ball)
        bottom = y + width * 0.07 - py
        inside = np.minimum(field, bottom)
        mask = self.cover(inside + self.pixel, 2.5) * 0.94
        height = np.clip((y + width * 0.08 - py) / (width * 0.5), 0, 1)
        rim = np.clip(field / (width * 0.3), 0, 1)
        colour = mix(dark, bright, np.clip(height * 1.5 - rim * 0.15 + 0.1, 0, 1))
        self.image[rows, columns] += mask[..., None] * (colour - self.image[rows, columns])

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """The rows and columns of a part of the canvas, with a margin of three pixels."""

        def span(low: float, high: float) -> slice:
            return slice(max(0, int(low * self.size) - 3), max(0, min(self.size, int(high * self.size) + 4)))

        return span(top, bottom), span(left, right)

    def disc(
        self, x: float, y: float, radius: float, colour: ArrayLike, opacity: float = 1.0, blur: float = 1.0
    ) -> None:
        """A flat disc."""
        rows, columns = self.box(x - radius, y - radius, x + radius, y + radius)
        distance = np.hypot(self.x[:, columns] - x, self.y[rows] - y)
        mask = self.cover(radius - distance, blur)[..., None] * opacity
        self.image[rows, columns] += mask * (np.asarray(colour, np.float32) - self.image[rows, columns])

    def ball(self, x: float, y: float, radius: float, colour: np.ndarray, squash: float = 1.0) -> None:
        """A ball lit from the upper left. squash: height relative to width. colour: as it appears in this light."""
        rows, columns = self.box(x - radius, y - radius, x + radius, y + radius)
        px, py = (self.x[:, columns] - x) / radius, (self.y[rows] - y) / (radius * squash)
        mask = self.cover((1 - np.hypot(px, py)) * radius * min(1, squash), 1.2)
        bright = np.clip(0.62 - 0.45 * px * 0.7 - 0.55 * py, 0, 1.15)
        tone = np.clip(mix(colour * 0.62, np.clip(colour * 1.22 + 0.04, 0, 1), bright), 0, 1)
        self.image[rows, columns] += mask[..., None] * (tone - self.image[rows, columns])

    def fir(self, x: float, foot: float, height: float, colour: np.ndarray, snow: float = 0.0) -> None:
        """A fir tree of three rounded cones standing at `foot`. snow: the share of each cone that is white."""
        width = height * 0.34
        trunk = self.lit((0.42, 0.27, 0.20))
        self.block(x - height * 0.035, foot - height * 0.15, x + height * 0.035, foot, trunk)
        for low, high, wide in ((0.10, 0.55, 1.0), (0.32, 0.78, 0.78), (0.58, 1.0, 0.52)):
            top, bottom, half = foot - height * high, foot - height * low, width * wide
            rows, columns = self.box(x - half, top, x + half, bottom + half * 0.3)
            px, py = (self.x[:, columns] - x) / half, (self.y[rows] - top) / (bottom - top)
            reach = np.clip(py, 0, 1) ** 0.85
            hem = 1 - 0.10 * px**2
            signed = np.minimum((reach - np.abs(px)) * half * 0.85, (hem - py) * (bottom - top))
            mask = self.cover(np.where(py < 0, -1.0, signed), 1.2)
            tone = np.clip(mix(colour * 1.18, colour * 0.68, np.clip(0.5 + 0.5 * px, 0, 1)), 0, 1)
            tone = mix(tone, colour * 0.6, 0.5 * np.clip(py * 1.6 - 0.9, 0, 1))
            if snow:
                white = self.lit((0.97, 0.98, 1.0)) * (1 - 0.12 * np.clip(px, 0, 1))[..., None]
                tone = mix(tone, white, soft((snow + 0.06 * np.cos(px * 9) - py) * 9 + 0.5))
            self.image[rows, columns] += mask[..., None] * (tone - self.image[rows, columns])

    def tree(self, x: float, foot: float, height: float, colour: np.ndarray) -> None:
        """A leafy tree: a trunk and a crown of balls."""
        trunk = self.lit((0.48, 0.32, 0.23))
        self.block(x - height * 0.05, foot - height * 0.5, x + height * 0.05, foot, trunk)
        radius = height * 0.27
        for side, up, part in ((-0.72, 0.52, 0.85), (0.72, 0.54, 0.85), (0.0, 0.55, 0.95), (0.05, 0.76, 0.9)):
            self.ball(x + side * radius, foot - height * up, radius * part, colour * self.rng.uniform(0.94, 1.06))

    def block(self, left: float, top: float, right: float, bottom: float, colour: np.ndarray) -> None:
        """An upright rectangle, darker towards the right."""
        rows, columns = self.box(left, top, right, bottom)
        px, py = self.x[:, columns], self.y[rows]
        mask = self.cover(np.minimum(px - left, right - px)) * self.cover(np.minimum(py - top, bottom - py))
        tone = mix(colour * 1.08, colour * 0.82, np.clip((px - left) / (right - left), 0, 1) + 0 * py)
        self.image[rows, columns] += mask[..., None] * (np.clip(tone, 0, 1) - self.image[rows, columns])

    def ridge(
        self, line: np.ndarray, top: np.ndarray, bottom: np.ndarray, reach: float = 0.3, blur: float = 1.2
    ) -> None:
        """Fill everything below a line [W], shaded from `top` at the line to `bottom` at `reach` below it."""
        depth = self.y - line[None, :]
        self.lay(self.cover(depth, blur), mix(top, bottom, soft(depth / reach)))

    def hills(self, swing: float, *rows: tuple[float, ArrayLike, float]) -> None:
        """Rolling hills, farthest first. rows: height, colour and haze of each."""
        for base, tone, haze in rows:
            colour = self.shade(tone, 0.03)
            self.ridge(self.curve(base, swing, 1.1), self.lit(colour * 1.08, haze), self.lit(colour * 0.8, haze), 0.16)

    def spread(self, count: int) -> np.ndarray:
        """Roughly evenly spaced positions from left to right, in random order."""
        steps = (np.arange(count) + self.rng.uniform(0.2, 0.8, count)) / count
        return self.rng.permutation(steps * 1.1 - 0.05)

    def finish(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        shaded = self.image * (1 + SHADING * (1 - 2 * self.x))[..., None]
        return (np.clip(shaded, 0, 1) * 255 + 0.5).astype(np.uint8)
