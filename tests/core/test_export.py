"""Files and previews of layers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from layerdiff_core.composite import composite
from layerdiff_core.edges import bleed_colours
from layerdiff_core.export import (
    DARK_SQUARE,
    LIGHT_SQUARE,
    SHEET_GREY,
    checkerboard,
    contact_sheet,
    file_part,
    layer_previews,
    on_canvas,
    save_layers,
    to_rgba,
)
from layerdiff_core.layers import make_document
from tests.documents import alter

RED = np.array([1.0, 0.0, 0.0])


def disc(size: int = 96, ramp: float = 9.0) -> torch.Tensor:
    """Coverage [1,size,size] of a disc with a soft edge."""
    y, x = torch.meshgrid(torch.arange(size) - size / 2, torch.arange(size) - size / 2, indexing="ij")
    return ((size / 3 - (y**2 + x**2).sqrt()) / ramp + 0.5).clamp(0, 1)[None]


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255), (0, 255, 0)])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_red_disc_has_no_halo(tmp_path, ground, mixed):
    alpha = disc()
    red = torch.tensor([1.0, 0.0, 0.0])
    if mixed:  # as a model draws it: what lies behind shows in the edge; the decoder bleeds the colours
        picture = red * alpha[..., None] + torch.tensor([0.0, 0.5, 1.0]) * (1 - alpha[..., None])
        picture = bleed_colours(picture.movedim(-1, 1), alpha[:, None]).movedim(1, -1)
    else:  # as an editor keeps it: red where anything is seen, something else where not
        picture = torch.where(alpha[..., None] > 0, red, torch.tensor([0.0, 1.0, 1.0]))
    doc = make_document(picture, alpha, ["disc"])
    file = save_layers(doc, tmp_path, "x", {})[0]
    laid = Image.alpha_composite(Image.new("RGBA", (96, 96), (*ground, 255)), Image.open(tmp_path / file))
    m = alpha[0, ..., None].numpy()
    exact = 255 * RED * m + np.array(ground) * (1 - m)
    assert np.abs(np.array(laid)[..., :3] - exact).max() <= 3


def test_an_editor_that_scales_the_file_sees_no_foreign_colour(tmp_path):
    alpha = (disc() > 0.5).float()
    picture = torch.where(alpha[..., None] > 0, torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 1.0]))
    rgba = Image.fromarray(to_rgba(picture, alpha))
    # Each channel by itself: the plain way, which mixes in whatever colour stands where alpha is 0.
    scaled = np.array(Image.merge("RGBA", [c.resize((211, 211), Image.Resampling.BICUBIC) for c in rgba.split()]))
    assert np.abs(scaled[..., :3] - 255 * RED)[scaled[..., 3] > 0].max() <= 3


def test_visible_pixels_keep_their_colour_and_bytes_are_rounded():
    torch.manual_seed(0)
    picture, alpha = torch.rand(1, 40, 40, 3), (torch.rand(1, 40, 40) - 0.2).clamp(0, 1)
    rgba = to_rgba(picture, alpha)
    assert rgba.shape == (40, 40, 4) and rgba.dtype == np.uint8
    assert np.array_equal(rgba[..., 3], (alpha[0] * 255).round().numpy())
    seen = rgba[..., 3] > 0
    assert np.array_equal(rgba[..., :3][seen], (picture[0] * 255).round().numpy()[seen])


def test_saved_files(tmp_path):
    torch.manual_seed(0)
    images, coverage = torch.rand(3, 20, 30, 3), torch.rand(3, 20, 30)
    coverage[0] = 1
    doc = make_document(images, coverage, ["back ground", "Katze/..\\ü", "猫"])
    alter(doc, 1, x=4, y=-3, opacity=0.5)
    text = {"prompt": json.dumps({"1": "ä"}), "workflow": "{}"}
    files = save_layers(doc, tmp_path, "pic_00001", text)
    assert files == [
        "pic_00001_00_back-ground.png",
        "pic_00001_01_Katze----ü.png",
        "pic_00001_02_猫.png",
        "pic_00001_composite.png",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    pictures = [Image.open(tmp_path / file) for file in files]
    assert all(picture.size == (30, 20) and picture.mode == "RGBA" for picture in pictures)
    assert all(picture.text == text for picture in pictures)
    stacked = pictures[0]
    for picture in pictures[1:3]:
        stacked = Image.alpha_composite(stacked, picture)
    exact = (composite(doc)[0][0] * 255).numpy()
    assert np.abs(np.array(pictures[3])[..., :3] - exact).max() <= 0.501
    assert np.abs(np.array(stacked)[..., :3] - exact).max() <= 3


def test_saving_in_linear_light_changes_the_composite_only(tmp_path):
    doc = make_document(torch.stack([torch.zeros(4, 4, 3), torch.ones(4, 4, 3)]),
                        torch.stack([torch.ones(4, 4), torch.full((4, 4), 0.5)]), ["a", "b"])  # fmt: skip
    display = [np.array(Image.open(tmp_path / file)) for file in save_layers(doc, tmp_path, "d", {})]
    linear = [np.array(Image.open(tmp_path / file)) for file in save_layers(doc, tmp_path, "l", {}, linear=True)]
    assert np.array_equal(display[0], linear[0]) and np.array_equal(display[1], linear[1])
    assert (display[2][0, 0, 0], linear[2][0, 0, 0]) == (128, 188)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\0b", "C:\\x", "x" * 500, ".", "con.png", "a\nb", "%date%"])
def test_a_name_cannot_leave_the_folder_or_break_the_file_name(tmp_path, name):
    doc = make_document(torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2), [name])
    files = save_layers(doc, tmp_path, "x", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert set(file_part(name)) <= set("abcdefghijklmnopqrstuvwxyzC-") and len(file_part(name)) <= 40


def test_on_canvas_pads_and_applies_opacity():
    doc = make_document(torch.rand(1, 6, 6, 3), torch.ones(1, 6, 6), ["a"])
    alter(doc, 0, x=4, y=-2, opacity=0.25)
    image, coverage = on_canvas(doc.layers[0], (6, 6))
    assert image.shape == (1, 6, 6, 3)
    assert torch.equal(image[0, :4, 4:], doc.layers[0].image[0, 2:, :2])
    expected = torch.zeros(1, 6, 6)
    expected[:, :4, 4:] = 0.25
    assert torch.equal(coverage, expected)
    alter(doc, 0, x=6)
    assert on_canvas(doc.layers[0], (6, 6))[1].sum() == 0


def test_checkerboard_shows_through():
    board = checkerboard(torch.ones(2, 16, 16, 3), torch.stack([torch.zeros(16, 16), torch.ones(16, 16)]))
    assert set(board[0].unique().tolist()) == {torch.tensor(LIGHT_SQUARE).item(), torch.tensor(DARK_SQUARE).item()}
    assert board[0, 0, 0, 0] == board[0, 4, 4, 0] != board[0, 0, 4, 0]
    assert board[1].eq(1).all()


def test_previews_show_each_layer_and_the_composite():
    doc = make_document(torch.rand(3, 16, 16, 3), torch.ones(3, 16, 16), list("abc"))
    alter(doc, 2, visible=False)
    previews = layer_previews(doc)
    assert previews.shape == (4, 16, 16, 3)
    for k, shown in enumerate([0, 1, 2, 1]):  # the hidden layer is shown, but is not in the composite
        assert torch.allclose(previews[k], doc.layers[shown].image[0], atol=1e-6)


def test_contact_sheet():
    pictures = torch.rand(5, 4, 6, 3)
    sheet = contact_sheet(pictures, gap=2)
    assert sheet.shape == (1, 2 * 6 + 2, 3 * 8 + 2, 3)
    assert torch.equal(sheet[0, 2:6, 2:8], pictures[0])
    assert torch.equal(sheet[0, 8:12, 10:16], pictures[4])
    assert torch.allclose(sheet[0, 8:12, 18:24], torch.tensor(SHEET_GREY))
    assert contact_sheet(pictures, columns=5, gap=0).shape == (1, 4, 30, 3)
