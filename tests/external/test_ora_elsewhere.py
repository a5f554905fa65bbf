"""OpenRaster files in Krita and the library pyora: how they read and composite the pack's files, and reading theirs.

GIMP and ImageMagick of Debian 12 cannot be used: one lacks the plug-in and the other the library for this format.
"""

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from layerdiff_core.blend import MODES
from layerdiff_core.composite import composite
from layerdiff_core.files.ora import NEAREST, read_ora, write_ora
from tests.documents import mixed_document, same
from tests.external.programs import krita, rgba

FORMULAS_OF_ITS_OWN = {"soft-light"}


def test_krita_composes_the_same(tmp_path: Path) -> None:
    doc = mixed_document(modes=("normal",))
    write_ora(doc, tmp_path / "a.ora", {})
    krita(tmp_path / "a.ora", tmp_path / "a.png")
    image, alpha = (255 * part[0].numpy() for part in composite(doc))
    seen = rgba(tmp_path / "a.png")
    assert seen.shape == (33, 40, 4)
    assert np.abs(seen[..., 3] - alpha).max() <= 2
    assert np.abs(seen[..., :3] - image)[alpha >= 1].max() <= 2


def test_krita_sees_the_same_layers(tmp_path: Path) -> None:
    doc = mixed_document(16, modes=tuple(mode for mode in MODES if mode not in NEAREST))
    write_ora(doc, tmp_path / "a.ora", {})
    krita(tmp_path / "a.ora", tmp_path / "b.ora")
    theirs = read_ora(tmp_path / "b.ora").layers
    assert len(theirs) == 16
    for its, ours in zip(theirs, doc.layers):
        for key in ("name", "x", "y", "w", "h", "visible", "blend_mode"):
            assert getattr(its, key) == getattr(ours, key), key
        assert its.opacity == pytest.approx(ours.opacity, abs=1 / 255)
        coverage = ours.coverage
        assert np.abs(its.coverage - coverage).max() <= 1 / 255
        assert np.abs(its.image - ours.image)[coverage > 0].max() <= 1 / 255


@pytest.fixture
def pyora() -> ModuleType:
    if os.environ.get("CI"):
        import pyora

        return pyora
    return pytest.importorskip("pyora", reason="pyora is not here to read the file: pip install pyora")


def test_it_sees_the_same_layers(pyora: ModuleType, tmp_path: Path) -> None:
    doc = mixed_document(len(MODES))
    write_ora(doc, tmp_path / "a.ora", {})
    project = pyora.Project.load(str(tmp_path / "a.ora"))
    assert project.dimensions == doc.canvas
    assert len(project.children) == len(MODES)
    for its, ours in zip(reversed(project.children), doc.layers):
        assert (its.name, its.opacity, its.visible) == (ours.name, ours.opacity, ours.visible)
        assert its.offsets == (ours.x, ours.y)
        pixels = np.asarray(its.get_image_data(raw=True).convert("RGBA"))
        assert np.array_equal(pixels[..., :3], (255 * ours.image[0].numpy()).round())
        assert np.array_equal(pixels[..., 3], (255 * ours.coverage[0].numpy()).round())


@pytest.mark.parametrize("mode", sorted(set(MODES) - set(NEAREST) - FORMULAS_OF_ITS_OWN))
def test_it_composes_the_same(pyora: ModuleType, tmp_path: Path, mode: str) -> None:
    doc = mixed_document(modes=(mode,))
    write_ora(doc, tmp_path / "a.ora", {})
    project = pyora.Project.load(str(tmp_path / "a.ora"))
    picture = np.asarray(project.get_image_data(use_original=False).convert("RGB"))
    # Its hue, saturation, colour and luminosity round in between.
    step = 3 if mode in ("hue", "saturation", "color", "luminosity") else 1
    assert np.abs(picture - 255 * composite(doc)[0][0].numpy()).max() <= step


def test_what_it_writes_comes_back(pyora: ModuleType, tmp_path: Path) -> None:
    doc = mixed_document(16, modes=tuple(mode for mode in MODES if mode not in NEAREST))
    write_ora(doc, tmp_path / "a.ora", {})
    pyora.Project.load(str(tmp_path / "a.ora")).save(str(tmp_path / "b.ora"))
    same(doc, read_ora(tmp_path / "b.ora"))
