"""Texts that choose layers."""

import pytest

from layerdiff_core.chosen import parse_layer_strengths

NAMES = ["sky", "fox", "red balloon", "fox"]


@pytest.mark.parametrize("text, wanted", [
    ("2", {2: 0.7}), ("3, 0", {3: 0.7, 0: 0.7}), ("0-2", {0: 0.7, 1: 0.7, 2: 0.7}), ("1=0.5, 2:4=1.0", {1: 0.5, 2: 1.0, 3: 1.0}),
    ("Sky = 0, red balloon", {0: 0.0, 2: 0.7}), ("1 - 2 = 10;0", {1: 10.0, 2: 10.0, 0: 0.7}), ("1=.5\n3", {1: 0.5, 3: 0.7}),
])
def test_layers_and_strengths(text: str, wanted: dict[int, float]) -> None:
    found = parse_layer_strengths(text, 4, NAMES, 0.7)
    assert found == wanted and list(found) == list(wanted), "the order of the text, in which hints come"


@pytest.mark.parametrize("text, words", [
    ("", "No layers are listed"), (" , ", "No layers are listed"), ("4", "There is no layer 4. The conditioning has 4 layers"),
    ("2:5", "no layer 4"), ("2:2", "empty range"), ("2-1", "empty range"), ("1, 0-2", "Layer 1 is listed twice"),
    ("fox", "layers 1 and 3 are all called 'fox'"), ("cat", "'cat' is not a layer. The layers are called sky, fox"),
    ("-1", "'-1' is not a layer"), ("1=", "strength from 0 to 10"), ("1=x", "strength from 0 to 10"), ("1=-1", "strength"),
    ("1=11", "strength"), ("1=nan", "strength"), ("=1", "'' is not a layer"), ("\u0661", "is not a layer"),
])
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_layer_strengths(text, 4, NAMES, 1.0)


def test_without_names() -> None:
    assert parse_layer_strengths("0", 1, [], 1.0) == {0: 1.0}
    with pytest.raises(ValueError, match="layers of this conditioning have no names. Enter numbers, for"):
        parse_layer_strengths("fox", 1, [], 1.0)
