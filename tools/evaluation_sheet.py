"""The evaluation's contact sheet: each scene's composite with its layers next to it. What the judge found wrong is red."""

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from layerdiff_core.evaluation.judge import Drawn, Judge, Verdict, rights
from layerdiff_core.whole import whole

from .sheet import INK, PAPER, SOFT_INK, fit, on_checkerboard, shorten

COLUMNS = 4
BIG, SMALL, GAP, MARGIN, TEXT = 208, 102, 4, 16, 48
CELL = BIG + 2 * (GAP + SMALL)
WRONG, WRONG_WIDTH = (255, 92, 88), 3
LARGEST = 600_000


def write_sheet(path: Path, judge: Judge, scenes: list[tuple[Verdict, Drawn, int]]) -> None:
    """Save scenes as one JPEG. Each is given by its verdict, the batch it is in, and its index in the batch."""
    rows = -(-len(scenes) // COLUMNS)
    sheet = Image.new("RGB", (MARGIN + COLUMNS * (CELL + MARGIN), MARGIN + rows * (BIG + TEXT)), PAPER)
    for number, (verdict, drawn, index) in enumerate(scenes):
        corner = (MARGIN + number % COLUMNS * (CELL + MARGIN), MARGIN + number // COLUMNS * (BIG + TEXT))
        draw_scene(sheet, corner, judge, verdict, drawn, index)
    with whole(path) as part:
        part.write_bytes(as_jpeg(sheet))


def as_jpeg(sheet: Image.Image) -> bytes:
    """Encode the image in the best quality that keeps it small enough for a repository."""
    for quality in range(92, 40, -4):
        file = io.BytesIO()
        sheet.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()


def draw_scene(sheet: Image.Image, corner: tuple[int, int], judge: Judge, verdict: Verdict, drawn: Drawn,
               index: int) -> None:
    """Draw the composite, up to four layers in two columns, background first, then the global prompt and what the judge saw."""
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    sheet.paste(fit(picture(drawn.composites[index]), BIG), corner)
    scene = verdict.request.scene
    right = [verdict.place == scene.place, *rights(judge, verdict)]
    seen = [verdict.place, *verdict.things]
    for layer in range(drawn.layers):
        where = index * drawn.layers + layer
        tile = picture(drawn.pictures[where])
        if layer:
            tile.putalpha(picture(drawn.coverage[where].expand(3, -1, -1)).convert("L"))
            tile = on_checkerboard(fit(tile, SMALL))
        x = left + BIG + GAP + layer % 2 * (SMALL + GAP)
        y = top + layer // 2 * (SMALL + GAP)
        sheet.paste(fit(tile, SMALL), (x, y))
        if not right[layer]:
            draw.rectangle((x, y, x + SMALL - 1, y + SMALL - 1), outline=WRONG, width=WRONG_WIDTH)
    font = ImageFont.load_default(13)
    draw.text((left, top + BIG + 4), shorten(draw, verdict.request.global_prompt, font, CELL), INK, font)
    wanted = [scene.place, *(judge.objects[thing] for thing in verdict.request.objects)]
    wrong = [f"{thing} seen as {found or 'nothing'}" for thing, found, good in zip(wanted, seen, right) if not good]
    words = "; ".join(wrong) or "all layers as asked"
    draw.text((left, top + BIG + 21), shorten(draw, words, font, CELL), WRONG if wrong else SOFT_INK, font)


def picture(pixels: Tensor) -> Image.Image:
    """[3, H, W] in 0..1 as an RGB image."""
    return Image.fromarray((pixels.clamp(0, 1).movedim(0, -1) * 255).round().byte().cpu().numpy())
