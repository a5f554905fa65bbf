"""Layers and strengths as text."""

import pytest

from layerdiff_core.layer_text import layer_strengths, parse_layer_text


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
    ("", "No layers are listed"), (" ,; ", "No layers are listed"), ("fox", "'fox' is not a layer.*called 'meadow', 'tree'"),
    ("1=", "'' in '1=' is not a strength"), ("1=x", "'x' in '1=x'"), ("1=nan", "'nan'"), ("1=inf", "not a strength"),
    ("1=0.5=2", "not a layer"), ("=1", "not a layer"), ("1.5", "not a layer"), ("²", "not a layer"), ("1-", "not a layer"),
    ("3", "'3'.*3 layers per scene, numbered 0 to 2"), ("-4=1", "'-4=1'.*does not exist"), ("1:9", "does not exist"),
    ("2:2", "'2:2' is no layer"), ("2:1", "'2:1' is no layer"), ("2-0", "'2-0' is no layer"), ("5:", "'5:' is no layer"),
    ("99999999999999999999", "does not exist"), ("999999999999999999999", "not a layer"), ("0:9999999999999", "does not exist"),
    ("tree", "2 layers with the name 'tree'"),
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
