"""An autoencoder's metrics: exact for known errors, and sharpness falls where PSNR hardly does."""

import pytest
import torch
import torch.nn.functional as F

from layerdiff_core.evaluation.reconstruction import energy, psnr, reconstruction_figures
from layerdiff_core.world.backgrounds import PLACES
from layerdiff_core.world.renderer import Renderer
from tests.world import discs


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    pairs = torch.tensor([(p, light) for p, place in enumerate(PLACES.values()) for light in range(len(place.lights))])
    objects = discs(40, 64)
    objects.images = objects.images[:, :1].clone()
    objects.images[..., :3] = objects.images[..., :3] // 2 + torch.randint(0, 100, objects.images[..., :3].shape).byte()
    bank = {"pictures": torch.full((len(pairs), 64, 64, 3), 128).byte(), "place": pairs[:, 0], "light": pairs[:, 1]}
    return Renderer(objects, bank, 64, torch.device("cpu"), 1)


def test_a_perfect_autoencoder(renderer: Renderer) -> None:
    found = reconstruction_figures(lambda pictures: pictures, renderer, 8)
    assert found["psnr_inside"] == found["psnr_composites"] == 120
    assert found["gradient_energy"] == found["mask_iou"] == 1


def test_a_known_error_has_its_decibels(renderer: Renderer) -> None:
    found = reconstruction_figures(lambda pictures: (pictures - 0.1).abs(), renderer, 8)
    assert found["psnr_places"] == pytest.approx(20, abs=1e-3)


def test_blur_shows_in_the_gradients(renderer: Renderer) -> None:
    found = reconstruction_figures(lambda pictures: F.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False), renderer, 8)
    assert found["gradient_energy"] < 0.5


def test_only_what_is_inside_counts() -> None:
    picture, where = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    where[..., :2] = 1
    drawn = picture.clone()
    drawn[..., 2:] = 1
    assert psnr(drawn, picture, where) == pytest.approx([120]) and energy(drawn, where) == [0]
    drawn[..., 1] = 0.5
    assert psnr(drawn, picture, where) == pytest.approx([9.0309], abs=1e-3)
    assert energy(drawn, where) == [3 * 4 * 0.25]
