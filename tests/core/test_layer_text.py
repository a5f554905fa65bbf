"""Layers and strengths as text."""

import pytest

from layerdiff_core.layer_text import layer_strengths, listed_strengths, parse_layer_text


@pytest.mark.parametrize("text, wanted", [
    ("1", [0, 0.7, 0, 0]),
    ("1=0.5, 2:4=1.0", [0, 0.5, 1, 1]),
    (" 1 = .5 ;\n 3", [0, 0.5, 0, 0.7]),
    ("0:2", [0.7, 0.7, 0, 0]),
    ("-1=2", [0, 0, 0, 2]),
    ("-2=1", [0, 0, 1, 0]),
    ("-4", [0.7, 0, 0, 0]),
    ("1:-1", [0, 0.7, 0.7, 0]),
    ("1:", [0, 0.7, 0.7, 0.7]),
    (":=0.1", [0.1] * 4),
    ("0-2=0.3", [0.3, 0.3, 0.3, 0]),
    (":, 2=0", [0.7, 0.7, 0, 0.7]),
    ("3=-1e-1", [0, 0, 0, -0.1]),
    ("1,1=0.2", [0, 0.2, 0, 0]),
    ("Fox=0.4, 0", [0.7, 0, 0.4, 0]),
    ("red hat", [0, 0, 0, 0.7]),
])
def test_strengths(text: str, wanted: list[float]) -> None:
    assert layer_strengths(text, 0.7, 4, ["meadow", "tree", " fox", "red hat"]) == wanted


@pytest.mark.parametrize("text, words", [
    ("", "No layers are listed"), (" ,; ", "No layers are listed"), ("fox", "'fox' is not a layer.*called meadow, tree"),
    ("1=", "'' in '1=' is not a strength"), ("1=x", "'x' in '1=x'"), ("1=nan", "'nan'"), ("1=inf", "not a strength"),
    ("1=0.5=2", "not a layer"), ("=1", "not a layer"), ("1.5", "not a layer"), ("²", "not a layer"), ("1-", "not a layer"),
    ("3", "'3'.*3 layers per scene, numbered 0 to 2"), ("-4=1", "'-4=1'.*does not exist"), ("1:9", "does not exist"),
    ("2:2", "'2:2' is no layer"), ("2:1", "'2:1' is no layer"), ("2-0", "'2-0' is no layer"), ("5:", "'5:' is no layer"),
    ("99999999999999999999", "does not exist"), ("999999999999999999999", "not a layer"), ("0:9999999999999", "does not exist"),
    ("tree", "layers 1 and 2 are all called 'tree'"),
])
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        layer_strengths(text, 1.0, 3, ["meadow", "tree", "tree"])


def test_a_text_is_read_before_the_number_of_layers_is_known() -> None:
    first, second = parse_layer_text("1=0.5, 2:", 1.0)
    assert (first.text, first.strength, list(first.of(2))) == ("1=0.5", 0.5, [1])
    assert second.strength == 1 and list(second.of(4)) == [2, 3]
    with pytest.raises(ValueError, match="not a layer"):
        parse_layer_text("fox", 1.0)


NAMES = ["sky", "fox", "red balloon", "fox"]


@pytest.mark.parametrize("text, wanted", [
    ("2", {2: 0.7}), ("3, 0", {3: 0.7, 0: 0.7}), ("0-2", {0: 0.7, 1: 0.7, 2: 0.7}), ("1=0.5, 2:4=1.0", {1: 0.5, 2: 1.0, 3: 1.0}),
    ("Sky = 0, red balloon", {0: 0.0, 2: 0.7}), ("1 - 2 = 10;0", {1: 10.0, 2: 10.0, 0: 0.7}), ("1=.5\n3", {1: 0.5, 3: 0.7}),
])
def test_listed_strengths(text: str, wanted: dict[int, float]) -> None:
    found = listed_strengths(parse_layer_text(text, 0.7, NAMES), 4, 10)
    assert found == wanted and list(found) == list(wanted), "the order of the text, in which hints come"


@pytest.mark.parametrize("text, words", [
    ("", "No layers are listed"), (" , ", "No layers are listed"), ("4", "does not exist. There are 4 layers"),
    ("2:5", "does not exist"), ("2:2", "is no layer"), ("2-1", "is no layer"), ("1, 0-2", "Layer 1 is listed twice"),
    ("fox", "layers 1 and 3 are all called 'fox'"), ("cat", "'cat' is not a layer. .* The layers are called sky, fox"),
    ("-5", "does not exist"), ("1=", "is not a strength"), ("1=x", "is not a strength"), ("1=-1", "not from 0 to 10"),
    ("1=11", "not from 0 to 10"), ("1=nan", "strength"), ("=1", "is not a layer"), ("\u0661", "is not a layer"),
])
def test_what_is_refused_of_a_list(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        listed_strengths(parse_layer_text(text, 1.0, NAMES), 4, 10)


def test_a_list_without_names() -> None:
    assert listed_strengths(parse_layer_text("0", 1.0), 1, 10) == {0: 1.0}
    with pytest.raises(ValueError, match="'fox' is not a layer"):
        parse_layer_text("fox", 1.0)
