"""The animated preview adds one layer in each frame."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from layerdiff_core.composite import composite
from layerdiff_core.files.animation import SIDE, write_animation
from layerdiff_core.layers import Document, make_document
from tests.documents import alter


def smooth_document(side: int = 64, layers: int = 4) -> Document:
    """Layers that WebP compresses well: soft colours, each in its own quarter."""
    images = torch.linspace(0.1, 0.9, layers)[:, None, None, None].expand(layers, side, side, 3)
    coverage = torch.zeros(layers, side, side)
    coverage[0] = 1
    for number in range(1, layers):
        coverage[number, : side // 2, : side // (number + 1)] = 1
    return make_document(images.contiguous(), coverage, [str(number) for number in range(layers)])


def test_each_frame_adds_a_layer_and_the_last_stays(tmp_path: Path) -> None:
    doc = smooth_document()
    write_animation(doc, tmp_path / "a.webp", {"prompt": json.dumps({"1": "ä"}), "workflow": "{}"})
    with Image.open(tmp_path / "a.webp") as picture:
        frames, milliseconds = [], []
        for frame in ImageSequence.Iterator(picture):
            frames.append(frame.convert("RGBA"))
            milliseconds.append(frame.info["duration"])
        assert picture.info["loop"] == 0
        assert dict(picture.getexif()) == {0x0110: 'prompt:{"1": "\\u00e4"}', 0x010F: "workflow:{}"}
    assert len(frames) == 4
    assert milliseconds[0] == milliseconds[1] == milliseconds[2] < milliseconds[3] / 2
    for count, frame in enumerate(frames, 1):
        expected = composite(replace(doc, layers=doc.layers[:count]))[0][0].numpy()
        assert np.abs(np.asarray(frame)[..., :3] / 255 - expected).mean() < 2 / 255


def test_hidden_layers_are_passed_over(tmp_path: Path) -> None:
    doc = smooth_document()
    alter(doc, 1, visible=False)
    write_animation(doc, tmp_path / "a.webp", {})
    with Image.open(tmp_path / "a.webp") as picture:
        assert picture.n_frames == 3
        grey = np.asarray(picture.convert("RGB"))  # the first frame: the background alone
    assert np.abs(grey / 255 - 0.1).max() < 0.02


def test_transparency_is_kept_and_large_pictures_shrink(tmp_path: Path) -> None:
    doc = smooth_document(1200, 2)
    alter(doc, 0, visible=False)
    write_animation(doc, tmp_path / "a.webp", {})
    with Image.open(tmp_path / "a.webp") as picture:
        assert picture.size == (SIDE, SIDE)
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert alpha[100, 100] == 255 and alpha[900, 900] == 0


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    doc = smooth_document(8, 1)
    alter(doc, 0, visible=False)
    with pytest.raises(ValueError, match="All layers are hidden"):
        write_animation(doc, tmp_path / "a.webp", {})
