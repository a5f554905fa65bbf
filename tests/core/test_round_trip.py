"""Layers exported to a file and imported again are the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from layerdiff_core.blend import MODES
from layerdiff_core.composite import composite
from layerdiff_core.files.ora import read_ora, write_ora
from layerdiff_core.files.png_folder import INDEX, read_png_folder, write_png_folder
from layerdiff_core.files.psd import read_psd, write_psd
from layerdiff_core.layers import Document, change_layer, make_document
from layerdiff_core.trim import bake, trim
from tests.documents import alter, mixed_document, same

Trip = Callable[..., Document]


def through_psd(doc: Document, folder: Path, **options: Any) -> Document:
    write_psd(doc, folder / "trip.psd", {"prompt": "{}"}, **options)
    return read_psd(folder / "trip.psd")


def through_ora(doc: Document, folder: Path, **options: Any) -> Document:
    write_ora(doc, folder / "trip.ora", {"prompt": "{}"}, **options)
    return read_ora(folder / "trip.ora")


def through_png(doc: Document, folder: Path, **options: Any) -> Document:
    write_png_folder(doc, folder / "trip", {"prompt": "{}"}, **options)
    return read_png_folder(folder / "trip" / INDEX)


@pytest.fixture(params=[through_psd, through_ora, through_png])
def trip(request: pytest.FixtureRequest) -> Trip:
    return request.param


@pytest.mark.parametrize("count", [1, 8, len(MODES), 50])
def test_everything_comes_back(trip: Trip, tmp_path: Path, count: int) -> None:
    doc = mixed_document(count)
    same(doc, trip(doc, tmp_path))


def test_the_second_trip_changes_nothing_either(trip: Trip, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    doc = trip(mixed_document(), tmp_path / "first")
    same(doc, trip(doc, tmp_path / "second"))


@pytest.mark.parametrize("linear", [False, True])
def test_the_composite_is_the_same(trip: Trip, tmp_path: Path, linear: bool) -> None:
    doc = mixed_document(12)
    for before, after in zip(composite(doc, linear), composite(trip(doc, tmp_path, linear=linear), linear)):
        torch.testing.assert_close(before, after, atol=1e-5, rtol=0)


def test_a_trimmed_document_comes_back_trimmed(trip: Trip, tmp_path: Path) -> None:
    doc = mixed_document()
    coverage = doc.layers[2].coverage
    coverage[:, :5] = 0
    coverage[:, :, -3:] = 0
    alter(doc, 2, coverage=coverage)
    alter(doc, 4, coverage=torch.zeros_like(doc.layers[4].coverage))
    back = trip(doc, tmp_path, trim=True)
    same(trim(doc), back)
    assert back.layers[4].image.shape == (1, 1, 1, 3)


def test_turned_scaled_and_flipped_layers_come_back_as_they_look(trip: Trip, tmp_path: Path) -> None:
    doc = change_layer(mixed_document(modes=("normal",)), 1, scale=1.3, degrees=30)
    alter(doc, 2, flip_h=True)
    alter(doc, 4, x=500, rotation=1.0)
    back = trip(doc, tmp_path)
    same(bake(doc), back)
    for before, after in zip(composite(doc), composite(back)):
        torch.testing.assert_close(before, after, atol=1.5 / 255, rtol=0)


def test_alpha_in_the_picture_and_a_small_mask_become_one_coverage(trip: Trip, tmp_path: Path) -> None:
    doc = mixed_document(2)
    image = torch.randint(0, 256, (1, 20, 24, 4)) / 255
    alter(doc, 1, pixels=image, mask=torch.full((1, 10, 12), 51 / 255), w=24, h=20)
    same(doc, trip(doc, tmp_path))


def test_what_no_file_can_hold_is_refused_before_a_file_is_there(trip: Trip, tmp_path: Path) -> None:
    doc = make_document(torch.rand(1, 4, 4, 3), torch.ones(1, 4, 4), ["cat"])
    alter(doc, 0, image=torch.full((1, 4, 4, 3), torch.nan))
    with pytest.raises(ValueError, match="'cat'.*not finite"):
        trip(doc, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["\0\1\x1b", "\ud800", "a\ufffe", " ", "\r\n"])
def test_a_name_of_any_signs_can_be_written_and_read(trip: Trip, tmp_path: Path, name: str) -> None:
    doc = make_document(torch.rand(1, 4, 4, 3), torch.ones(1, 4, 4), [name])
    assert len(trip(doc, tmp_path).layers[0].name) > 0
