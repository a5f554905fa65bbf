"""PSD files as GIMP and ImageMagick read them, and as they write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerdiff_core.blend import MODES
from layerdiff_core.composite import composite
from layerdiff_core.files.psd import read_psd, write_psd
from layerdiff_core.layers import Document
from tests.documents import alter, mixed_document
from tests.external.programs import gimp, magick, rgba

NORMAL = 28
"""GIMP's number for the mode normal as its files before 2.10 and PSD have it."""


def written(doc: Document, folder: Path, **options: Any) -> Path:
    write_psd(doc, folder / "x.psd", {"workflow": '{"nodes": ["<ü>"]}'}, **options)
    return folder / "x.psd"


def further_than_2(seen: np.ndarray, doc: Document, linear: bool = False) -> int:
    """How many values of an image differ by more than 2/255 from the pack's composite; colours only count where visible."""
    image, alpha = (255 * part[0].numpy() for part in composite(doc, linear))
    colours = np.abs(seen[..., :3] - image)[alpha >= 1]
    return int((colours > 2).sum() + (np.abs(seen[..., 3] - alpha) > 2).sum())


@pytest.mark.parametrize("trim", [False, True])
def test_gimp_sees_the_same_layers_and_composes_the_same(tmp_path: Path, trim: bool) -> None:
    doc = mixed_document(modes=("normal",))
    layers, seen = gimp(written(doc, tmp_path, trim=trim))
    assert len(layers) == 8
    for ours, its in zip(doc.layers, layers):
        assert its["name"].strip() == ours.name.strip()
        assert its["opacity"] == pytest.approx(100 * ours.opacity, abs=0.2)
        assert its["visible"] == ours.visible
        assert (its["mask"] != -1) == (ours.coverage.min() < 1)
        assert its["mode"] == NORMAL
        if not trim:
            assert [its[key] for key in ("x", "y", "width", "height")] == [getattr(ours, key) for key in "xywh"]
    assert seen.shape == (33, 40, 4)
    assert further_than_2(seen, doc) == 0


def test_gimp_knows_all_blend_modes(tmp_path: Path) -> None:
    doc = mixed_document(len(MODES))
    modes = [layer["mode"] for layer in gimp(written(doc, tmp_path))[0]]
    # Those that stand in for grain-extract and grain-merge are there twice.
    assert len(modes) == len(MODES) and len(set(modes)) >= len(MODES) - 4
    assert [number for number, mode in enumerate(modes) if mode == NORMAL] == [0]


def test_imagemagick_sees_the_same_layers(tmp_path: Path) -> None:
    doc = mixed_document(modes=("normal",))
    layers = doc.layers
    found = magick(written(doc, tmp_path), "-format", "%wx%h%X%Y %[compose]\n", "info:").splitlines()
    merged, *others = found
    assert merged == "40x33+0+0 Over"
    assert others == [f"{layer.w}x{layer.h}{layer.x:+}{layer.y:+} {'Over' if layer.visible else 'None'}"
                      for layer in layers]  # fmt: skip
    assert magick(f"{tmp_path}/x.psd[2]", "-format", "%l", "info:") == "Katze im Regen"
    said = magick(tmp_path / "x.psd", "-verbose", "info:")
    opacities = [int(line.split()[1]) for line in said.splitlines() if "psd:layer.opacity:" in line]
    assert opacities == [round(255 * layer.opacity) * 257 for layer in layers]
    assert '{"nodes": ["<ü>"]}' in said.replace("\\u00fc", "ü").replace("\\", "")  # the workflow, in its metadata


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("modes", [("normal",), MODES])
def test_imagemagick_shows_our_composite_as_the_merged_picture(
    tmp_path: Path, modes: tuple[str, ...], linear: bool
) -> None:
    doc = mixed_document(8, modes=modes)
    coverage = doc.layers[0].coverage
    coverage[:, :9] = 0.5  # semi-transparent pixels must not be mixed with white
    alter(doc, 0, coverage=coverage)
    magick(f"{written(doc, tmp_path, linear=linear)}[0]", tmp_path / "merged.png")
    assert further_than_2(rgba(tmp_path / "merged.png"), doc, linear) == 0


def test_imagemagick_composes_the_same_from_the_layers(tmp_path: Path) -> None:
    doc = mixed_document(modes=("normal",))
    magick(written(doc, tmp_path), "-delete", "0", "-background", "none", "-layers", "flatten", "-crop", "40x33+0+0",
           "+repage", tmp_path / "flat.png")  # fmt: skip
    assert further_than_2(rgba(tmp_path / "flat.png"), doc) == 0


def test_what_gimp_saves_again_comes_back(tmp_path: Path) -> None:
    doc = mixed_document(modes=("normal", "multiply", "screen", "difference"))
    gimp(written(doc, tmp_path))
    back = read_psd(tmp_path / "x.psd.saved.psd")
    assert back.canvas == doc.canvas
    for ours, its in zip(doc.layers, back.layers, strict=True):
        assert its.name.strip() == ours.name.strip()[: len(its.name.strip())]
        for field in ("x", "y", "w", "h", "visible", "blend_mode"):
            assert getattr(its, field) == getattr(ours, field), field
        assert its.opacity == pytest.approx(ours.opacity, abs=0.005)
        assert torch.equal((its.image * 255).round(), (ours.image * 255).round())
        assert torch.equal((its.coverage * 255).round(), (ours.coverage * 255).round())


@pytest.mark.parametrize("depth", ["8", "16"])
@pytest.mark.parametrize("packing", ["none", "rle", "zip"])
@pytest.mark.parametrize("colours", ["gradient:red-blue", "gradient:#f008-#00f2"])
def test_what_imagemagick_writes_is_read(tmp_path: Path, colours: str, packing: str, depth: str) -> None:
    magick("-size", "31x17", colours, "-depth", "8", tmp_path / "one.png")
    magick("-size", "20x9", "xc:#0f08", "-depth", "8", "-repage", "+5+3", tmp_path / "two.png")
    expected = [rgba(tmp_path / "one.png"), rgba(tmp_path / "two.png")]
    magick(tmp_path / "one.png", tmp_path / "one.png", tmp_path / "two.png", "-type", "TrueColorMatte", "-depth", depth,
           "-compress", packing, tmp_path / "x.psd")  # fmt: skip
    layers = read_psd(tmp_path / "x.psd").layers
    for layer, pixels in zip(layers[-2:], expected, strict=True):
        assert np.array_equal((layer.image[0] * 255).round().numpy(), pixels[..., :3])
        assert np.array_equal((layer.coverage[0] * 255).round().numpy(), pixels[..., 3])
    assert (layers[-1].x, layers[-1].y) == (5, 3)


@pytest.mark.parametrize("kind", ["TrueColor", "Grayscale"])
def test_a_flat_file_of_imagemagick_is_one_layer(tmp_path: Path, kind: str) -> None:
    magick("-size", "31x17", "gradient:#333-#ddd", "-depth", "8", tmp_path / "one.png")
    magick(tmp_path / "one.png", "-type", kind, tmp_path / "x.psd")
    layers = read_psd(tmp_path / "x.psd").layers
    assert np.array_equal((layers[0].image[0] * 255).round().numpy(), rgba(tmp_path / "one.png")[..., :3])
    assert len(layers) == 1 and layers[0].coverage.min() == 1


def test_a_cmyk_file_of_imagemagick_is_refused(tmp_path: Path) -> None:
    magick("-size", "8x8", "xc:red", "-colorspace", "CMYK", tmp_path / "x.psd")
    with pytest.raises(ValueError, match="CMYK"):
        read_psd(tmp_path / "x.psd")
