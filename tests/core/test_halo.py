"""No halo: a soft red disc, saved to files and composited on other colours by Pillow, matches the calculated result."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerdiff_core.edges import bleed_colours
from layerdiff_core.export import save_layers
from layerdiff_core.files.ora import read_ora, write_ora
from layerdiff_core.files.png_folder import write_png_folder
from layerdiff_core.files.psd import read_psd, write_psd
from layerdiff_core.layers import Document, make_document

SIDE = 96
RED = np.array([1.0, 0.0, 0.0])
GROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255), "green": (0, 255, 0)}
WORST = 3 / 255


def soft_disc() -> torch.Tensor:
    """Coverage [SIDE,SIDE] of a disc whose edge fades over ten pixels."""
    line = torch.arange(float(SIDE)) - SIDE / 2 + 0.5
    return ((30 - (line[:, None] ** 2 + line**2).sqrt()) / 10 + 0.5).clamp(0, 1)


def document() -> Document:
    """The disc as from a model: drawn on cyan, which is mixed into its edge, then with colours extended as in Decode Layers."""
    coverage = soft_disc()
    cyan = torch.tensor([0.0, 1.0, 1.0])
    drawn = torch.lerp(cyan.expand(SIDE, SIDE, 3), torch.tensor([1.0, 0.0, 0.0]).expand(SIDE, SIDE, 3), coverage[..., None])
    clean = bleed_colours(drawn.movedim(-1, 0)[None], coverage[None, None]).movedim(1, -1)
    return make_document(clean, coverage[None], ["disc"])


def laid_on(picture: Image.Image, ground: tuple[int, int, int], left: int = 0, top: int = 0) -> np.ndarray:
    """The image composited on the ground by Pillow, [SIDE,SIDE,3], 0..1."""
    canvas = Image.new("RGBA", (SIDE, SIDE), (*ground, 255))
    canvas.alpha_composite(picture.convert("RGBA"), (left, top))
    return np.asarray(canvas)[..., :3] / 255


def furthest(laid: np.ndarray, ground: tuple[int, int, int]) -> float:
    """The largest difference from red, mixed with the ground by the disc's exact coverage."""
    coverage = soft_disc().numpy()[..., None]
    return float(np.abs(laid - (coverage * RED + (1 - coverage) * np.array(ground) / 255)).max())


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
def test_png(tmp_path: Path, ground: tuple[int, int, int]) -> None:
    files = save_layers(document(), tmp_path, "halo", {})
    for file in files:
        assert furthest(laid_on(Image.open(tmp_path / file), ground), ground) <= WORST


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@pytest.mark.parametrize("trim", [False, True])
def test_folder_of_png(tmp_path: Path, ground: tuple[int, int, int], trim: bool) -> None:
    write_png_folder(document(), tmp_path / "halo", {}, trim=trim)
    (file,) = [path for path in (tmp_path / "halo").glob("*.png") if "composite" not in path.name]
    picture = Image.open(file)
    corner = (SIDE - picture.width) // 2
    assert furthest(laid_on(picture, ground, corner, corner), ground) <= WORST


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("kind", ["psd", "ora"])
def test_layered_files(tmp_path: Path, kind: str, trim: bool, ground: tuple[int, int, int]) -> None:
    path = tmp_path / f"halo.{kind}"
    write, read = {"psd": (write_psd, read_psd), "ora": (write_ora, read_ora)}[kind]
    write(document(), path, {}, trim=trim)
    (layer,) = read(path).layers
    bytes_ = torch.cat([layer.image[0], layer.coverage[0][..., None]], -1).mul(255).round().byte().numpy()
    assert furthest(laid_on(Image.fromarray(bytes_), ground, layer.x, layer.y), ground) <= WORST


def test_without_the_care_there_would_be_one() -> None:
    coverage = soft_disc()
    drawn = torch.stack([coverage, 1 - coverage, 1 - coverage, coverage], -1).mul(255).round().byte().numpy()
    assert furthest(laid_on(Image.fromarray(drawn), GROUNDS["black"]), GROUNDS["black"]) > 20 * WORST
