"""Writes a contact sheet of random training scenes: the composite, then each layer, with their captions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from layerdiff_core.world.backgrounds import render_background  # noqa: E402
from layerdiff_core.world.objects import load_objects  # noqa: E402
from layerdiff_core.world.render import compose, draw_foregrounds  # noqa: E402
from layerdiff_core.world.scenes import HOMES, LIGHTS, sample_scene  # noqa: E402
from layerdiff_core.world.words import captions  # noqa: E402

SIDE, TEXT, COLUMNS = 192, 64, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objects", type=Path, help="objects.safetensors, as built by tools.objects")
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--layers", type=int, default=0, help="1 to 4, 0 for any")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heldout", action="store_true")
    options = parser.parse_args()
    objects = load_objects(options.objects)
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    sheet = Image.new("RGB", (COLUMNS * SIDE, options.scenes * (SIDE + TEXT)), "white")
    for row in range(options.scenes):
        layers = options.layers or int(rng.integers(2, 5))
        scene = sample_scene(rng, objects, layers, options.heldout)
        words, prompts = captions(scene, objects, rng)
        ground = render_background(scene.place, LIGHTS[scene.light], rng, 256)
        ground = ground[:, ::-1].copy() if scene.side else ground  # painted with light from the left
        background = torch.from_numpy(ground).permute(2, 0, 1)[None].float() / 255
        things = scene.foregrounds
        picture, coverage = torch.zeros(0, 3, 256, 256), torch.zeros(0, 1, 256, 256)
        if things:
            index = torch.tensor([thing.object for thing in things])
            home = torch.tensor([HOMES.index(objects.homes[thing.object]) for thing in things])
            size, slot = (torch.tensor([getattr(thing, what) for thing in things]) for what in ("size", "slot"))
            style, light, side = (torch.full_like(index, value) for value in (scene.style, scene.light, scene.side))
            picture, coverage = draw_foregrounds(
                objects.images, index, style, light, size, slot, home, generator, background.shape[-1], side
            )
        image = compose(background, list(picture[:, None]), list(coverage[:, None]))
        masked = coverage * picture + (1 - coverage) * (0.75 + 0.25 * picture)
        for column, (tile, text) in enumerate(zip([*image, *background, *masked], [words, *prompts])):
            pixels = (tile.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
            where = (column * SIDE, row * (SIDE + TEXT))
            sheet.paste(Image.fromarray(pixels).resize((SIDE, SIDE)), where)
            lines = [text[i : i + 31] for i in range(0, len(text), 31)]
            ImageDraw.Draw(sheet).text((where[0] + 2, where[1] + SIDE + 2), "\n".join(lines), fill="black")
    sheet.save(options.out)


if __name__ == "__main__":
    main()
