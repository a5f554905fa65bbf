"""OpenRaster files as pyora, a library that did not write them, reads and composes them, and as it writes them.

The image programs of Debian 12 cannot be asked: its GIMP lacks the plug-in and its ImageMagick the library for this format.
"""

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from layerdiff_core.blend import MODES
from layerdiff_core.composite import composite
from layerdiff_core.files.ora import NEAREST, read_ora, write_ora
from layerdiff_core.layers import layer_coverage, ordered
from tests.documents import mixed_document, same

FORMULAS_OF_ITS_OWN = {"soft-light"}


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
    assert project.dimensions == doc["canvas"]
    assert len(project.children) == len(MODES)
    for its, ours in zip(reversed(project.children), ordered(doc)):
        assert (its.name, its.opacity, its.visible) == (ours["name"], ours["opacity"], ours["visible"])
        assert its.offsets == (ours["x"], ours["y"])
        pixels = np.asarray(its.get_image_data(raw=True).convert("RGBA"))
        assert np.array_equal(pixels[..., :3], (255 * ours["image"][0].numpy()).round())
        assert np.array_equal(pixels[..., 3], (255 * layer_coverage(ours)[0].numpy()).round())


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
