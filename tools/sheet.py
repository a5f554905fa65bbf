"""The demo's contact sheet: the composite, each layer on a checkerboard and its mask, with the prompts."""

from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

TILE = 256
GAP = 16
CAPTION = 44
SQUARE = 16
PAPER, INK, SOFT_INK = (24, 25, 29), (236, 236, 240), (150, 152, 162)
LIGHT_SQUARE, DARK_SQUARE = (205, 205, 205), (160, 160, 160)


@dataclass(frozen=True)
class Layer:
    """A layer of the sheet: its name, prompt, RGBA image and mask (white = covered)."""

    name: str
    prompt: str
    picture: Image.Image
    mask: Image.Image


def draw_sheet(global_prompt: str, composite: Image.Image, layers: list[Layer]) -> Image.Image:
    """The contact sheet of one scene as an RGB image: a large composite and one column per layer."""
    big = 2 * TILE + GAP
    width = GAP + big + GAP + len(layers) * (TILE + GAP)
    sheet = Image.new("RGB", (width, GAP + big + CAPTION + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    sheet.paste(fit(composite.convert("RGB"), big), (GAP, GAP))
    caption(draw, (GAP, GAP + big), big, "composite", global_prompt)
    left = GAP + big + GAP
    for layer in layers:
        sheet.paste(on_checkerboard(fit(layer.picture, TILE)), (left, GAP))
        sheet.paste(fit(layer.mask.convert("RGB"), TILE), (left, GAP + TILE + GAP))
        caption(draw, (left, GAP + big), TILE, layer.name, layer.prompt)
        left += TILE + GAP
    return sheet


def fit(picture: Image.Image, side: int) -> Image.Image:
    """Scale `picture` to fit a square of `side` pixels, and centre it."""
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    square = Image.new(picture.mode, (side, side))
    square.paste(picture.resize((width, height), Image.Resampling.LANCZOS), ((side - width) // 2, (side - height) // 2))
    return square


def on_checkerboard(picture: Image.Image) -> Image.Image:
    """An RGBA image over a grey checkerboard."""
    board = Image.new("RGB", picture.size, LIGHT_SQUARE)
    draw = ImageDraw.Draw(board)
    for top in range(0, picture.height, SQUARE):
        for left in range((top // SQUARE % 2) * SQUARE, picture.width, 2 * SQUARE):
            draw.rectangle((left, top, left + SQUARE - 1, top + SQUARE - 1), DARK_SQUARE)
    board.paste(picture, mask=picture.getchannel("A"))
    return board


def caption(draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, name: str, prompt: str) -> None:
    """Draw a name and a prompt below it, each shortened to `width` pixels."""
    left, top = corner
    bold, plain = ImageFont.load_default(17), ImageFont.load_default(14)
    draw.text((left, top + 8), shorten(draw, name, bold, width), INK, bold)
    draw.text((left, top + 29), shorten(draw, prompt, plain, width), SOFT_INK, plain)


def shorten(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
            width: int) -> str:
    """Shorten `text` to at most `width` pixels."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"
