"""Numbers of layers, sizes, and masks over layers."""

import pytest
import torch

from layerdiff_core.latents import check_count, free_mask, padded, parse_layer_numbers


@pytest.mark.parametrize("size, multiple, wanted", [(128, 64, 128), (129, 64, 192), (1, 64, 64), (512, 64, 512)])
def test_padded(size: int, multiple: int, wanted: int) -> None:
    assert padded(size, multiple) == wanted


@pytest.mark.parametrize("text, wanted", [
    ("1", [1]), ("1, 3", [1, 3]), ("0-2", [0, 1, 2]), ("2;0", [0, 2]), ("1,1-2, ", [1, 2]), ("1 - 3", [1, 2, 3]),
])
def test_layer_numbers(text: str, wanted: list[int]) -> None:
    assert parse_layer_numbers(text, 4) == wanted


@pytest.mark.parametrize("text, words", [
    ("", "No layers are listed"), (" , ", "No layers are listed"), ("x", "'x' is not a layer number"),
    ("-1", "not a layer number"),
    ("1-", "not a layer number"), ("1.5", "not a layer number"), ("4", "no layer 4.*0 to 3"), ("2-9", "no layer 9"),
    ("3-1", "3-1"), ("²", "not a layer number"), ("0-9999999999", "no layer 9999999999"),
])
def test_layer_numbers_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_layer_numbers(text, 4)


def test_free_mask() -> None:
    mask = free_mask([1], 3, 6, 2, 4)
    assert mask.shape == (6, 1, 2, 4)
    assert mask.amax((1, 2, 3)).tolist() == mask.amin((1, 2, 3)).tolist() == [0, 1, 0, 0, 1, 0]
    with pytest.raises(ValueError, match="6 layers, which is not a whole number of scenes of 4"):
        free_mask([1], 4, 6, 2, 4)


@pytest.mark.parametrize("layers, scenes, words", [
    (0, 1, "0 layers were requested, but only 1 to 50"), (51, 1, "51 layers"), (-3, 1, "-3 layers"), (3, 0, "0 scenes"),
    (50, 64, "64 scenes of 50 layers"), (4, 65, "65 scenes of 4"),
])
def test_counts_that_no_latent_has(layers: int, scenes: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_count(layers, scenes)


def test_counts_that_a_latent_has() -> None:
    for layers, scenes in ((1, 1), (50, 5), (4, 64), (1, 256)):
        check_count(layers, scenes)
    assert torch.equal(free_mask([0], 1, 2, 1, 1), torch.ones(2, 1, 1, 1))
