"""Layer prompts as people write them."""

import pytest
import torch

from layerdiff_core.prompts import parse_layer_prompts, same_length


def test_names_and_prompts() -> None:
    text = "background: a green meadow\n\n  a fox \nsun : a sun: round, yellow\n: nameless"
    assert parse_layer_prompts(text) == [("background", "a green meadow"), ("layer 1", "a fox"),
                                         ("sun", "a sun: round, yellow"), ("layer 3", "nameless")]
    assert parse_layer_prompts("a meadow") == [("background", "a meadow")]
    assert len(parse_layer_prompts("a fox\r\n" * 50)) == 50


@pytest.mark.parametrize("line, name, prompt", [
    ("(red:1.4) fox", "background", "(red:1.4) fox"),
    ("a fox that is (running:1.2), left", "background", "a fox that is (running:1.2), left"),
    ("fox (left): a (red:1.4) fox", "fox (left)", "a (red:1.4) fox"),
    (r"a fox \(red: yes", r"a fox \(red", "yes"),
    ("embedding:foxes", "background", "embedding:foxes"),
    ("fox: embedding:foxes", "fox", "embedding:foxes"),
    ("embedding: a photo", "embedding", "a photo"),
])
def test_colons_of_comfyuis_prompts(line: str, name: str, prompt: str) -> None:
    assert parse_layer_prompts(line) == [(name, prompt)]


@pytest.mark.parametrize("text, words", [
    ("", "no layer prompts"), (" \n\t\n", "no layer prompts"), ("background: a meadow\nfox:", "'fox:' has no prompt"),
    (":", "':' has no prompt"), ("a fox\n" * 51, "51 layer prompts, but at most 50"),
])
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_layer_prompts(text)


def test_prompts_of_different_lengths_are_repeated() -> None:
    short, long = torch.rand(1, 77, 4), torch.rand(1, 154, 4)
    first, second = same_length([short, long])
    assert torch.equal(first, torch.cat([short, short], dim=1)) and torch.equal(second, long)
    assert [part.shape[1] for part in same_length([torch.rand(1, 4, 2), torch.rand(1, 6, 2)])] == [12, 12]


def test_prompts_of_different_encoders_or_none() -> None:
    with pytest.raises(ValueError, match="widths 4 and 8"):
        same_length([torch.rand(1, 77, 8), torch.rand(1, 77, 4)])
    with pytest.raises(ValueError, match="conditioning of a layer is empty"):
        same_length([torch.rand(1, 77, 4), torch.rand(1, 0, 4)])
