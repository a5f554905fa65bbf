"""Edits from the page's layer panel, applied to the layers."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from layerdiff_core.composite import composite
from layerdiff_core.edits import apply_edits, fingerprint, layer_bytes
from layerdiff_core.layers import Document, Layer, change_layer, make_document
from tests.documents import alter, fields


def document(count: int = 4) -> Document:
    random = torch.Generator().manual_seed(0)
    images, coverage = (torch.rand(count, 6, 9, *rest, generator=random) for rest in ((3,), ()))
    return make_document(images, coverage, list("abcdefgh")[:count])


def edited(doc: Document, **edits: Any) -> tuple[Document, bool]:
    return apply_edits(doc, json.dumps({"version": 1, **edits}))


def names(doc: Document) -> list[str]:
    return [layer.name for layer in doc.layers]


def seen(doc: Document) -> list[str]:
    return [layer.name for layer in doc.layers if layer.visible]


def plain(doc: Document) -> list[dict[str, Any]]:
    """The layers without their tensors."""
    return [fields(layer) for layer in doc.layers]


@pytest.mark.parametrize("text", ["", "  \n", '{"version": 1}', '{"version": 1, "order": [0, 1], "layers": {"2": {}}}'])
def test_no_edits_change_nothing(text: str) -> None:
    doc = document()
    changed, stale = apply_edits(doc, text)
    assert plain(changed) == plain(doc) and not stale
    assert all(torch.equal(one.image, other.image) for one, other in zip(changed.layers, doc.layers))


def test_a_layers_edits_are_those_of_change_layer() -> None:
    doc = document()
    alter(doc, 2, rotation=0.25, x=3)
    change = {"visible": False, "opacity": 0.25, "blend_mode": "screen", "right": 4, "down": -3, "scale": 0.5, "rotation": 30}
    expected = change_layer(doc, 2, opacity=0.25, blend_mode="screen", visible=False, right=4, down=-3, scale=0.5,
                            degrees=30.0)  # fmt: skip
    assert plain(edited(doc, layers={"2": change})[0]) == plain(expected)


def test_what_is_absent_stays_as_it_was() -> None:
    doc = document()
    alter(doc, 1, opacity=0.5, blend_mode="multiply", visible=False, rotation=1.0, x=7, w=30)
    before = plain(doc)
    changed = plain(edited(doc, layers={"1": {"right": 2, "locked": True}})[0])
    assert changed[1] == before[1] | {"x": 9}
    assert changed[:1] + changed[2:] == before[:1] + before[2:]


def test_the_order_counts_layers_as_they_were() -> None:
    doc = document()
    changed, _ = edited(doc, order=[3, 1, 0, 2], layers={"3": {"opacity": 0.5}})
    assert names(changed) == ["d", "b", "a", "c"]
    assert [layer.opacity for layer in changed.layers] == [0.5, 1, 1, 1]
    assert names(edited(doc, order=[2])[0]) == ["c", "a", "b", "d"]


def test_layers_out_of_order_in_the_document_and_batches_are_counted_as_they_are_stacked() -> None:
    batch = {"image": torch.rand(2, 3, 3, 3), "name": "batch", "z_index": 1}
    low = {"image": torch.rand(1, 3, 3, 3), "name": "low"}
    doc = Document.from_socket({"version": 1, "canvas": (3, 3), "layers": [batch, low]})
    changed, _ = edited(doc, order=[2, 0, 1], layers={"1": {"opacity": 0.5}})
    assert [(layer.name, layer.opacity) for layer in changed.layers] == [("batch", 1), ("low", 1), ("batch", 0.5)]


@pytest.mark.parametrize("solo", [2, 7])
def test_solo_of_older_edits_was_a_view_and_changes_nothing(solo: int) -> None:
    doc = document()
    changed, stale = edited(doc, solo=solo, layers={"2": {"visible": False}})
    assert seen(changed) == ["a", "b", "d"] and not stale


def test_a_layer_gets_a_name() -> None:
    assert names(edited(document(), layers={"1": {"name": "the bear"}})[0]) == ["a", "the bear", "c", "d"]


def test_a_deleted_layer_is_left_out_and_the_others_keep_their_numbers() -> None:
    doc = document()
    changed, _ = edited(doc, order=[3, 2, 1, 0], layers={"1": {"deleted": True, "opacity": 0.5}, "2": {"opacity": 0.25}})
    assert names(changed) == ["d", "c", "a"] and [layer.opacity for layer in changed.layers] == [1, 0.25, 1]
    assert names(doc) == ["a", "b", "c", "d"]


def test_a_copy_begins_as_its_layer_came_and_has_edits_of_its_own() -> None:
    doc = document()
    alter(doc, 1, x=3, opacity=0.5)
    changed, _ = edited(doc, copies={"51": 1, "50": 0}, order=[0, 51, 1], layers={
        "1": {"right": 9}, "51": {"right": 2, "name": "b copy"}})  # fmt: skip
    assert names(changed) == ["a", "b copy", "b", "c", "d", "a"]
    assert [layer.x for layer in changed.layers] == [0, 5, 12, 0, 0, 0]
    assert changed.layers[1].opacity == 0.5 and torch.equal(changed.layers[1].image, doc.layers[1].image)


def test_a_copy_outlives_its_layer() -> None:
    assert names(edited(document(2), copies={"50": 1}, layers={"1": {"deleted": True}})[0]) == ["a", "b"]


def test_some_layer_must_be_left_and_not_too_many() -> None:
    with pytest.raises(ValueError, match="leave 0 layers; there must be 1 to 50"):
        edited(document(2), layers={"0": {"deleted": True}, "1": {"deleted": True}})
    with pytest.raises(ValueError, match="leave 51 layers"):
        edited(document(2), copies={str(50 + number): 0 for number in range(49)})


def test_the_document_is_not_touched() -> None:
    doc = document()
    before = plain(doc)
    edited(doc, order=[1, 0], copies={"50": 1}, layers={"0": {"opacity": 0.1, "right": 5}, "2": {"deleted": True}})
    assert plain(doc) == before


def test_the_pixels_follow() -> None:
    doc = document(2)
    changed, _ = edited(doc, layers={"1": {"opacity": 0.5, "right": 2}})
    top = doc.layers[1]
    coverage = torch.zeros(1, 6, 9)
    coverage[..., 2:] = top.coverage[..., :-2] * 0.5
    shifted = torch.zeros(1, 6, 9, 3)
    shifted[:, :, 2:] = top.image[:, :, :-2]
    below, alpha = doc.layers[0].image, doc.layers[0].coverage
    image, result = composite(changed)
    assert torch.allclose(result, coverage + alpha * (1 - coverage), atol=1e-5)
    expected = shifted * coverage[..., None] + below * (alpha * (1 - coverage))[..., None]
    assert torch.allclose(image * result[..., None], expected, atol=1e-5)


def test_edits_made_for_other_layers_are_not_applied() -> None:
    doc = document()
    assert names(edited(doc, made_for=fingerprint(doc), order=[1, 0])[0]) == ["b", "a", "c", "d"]
    for edits in ({"order": [1, 0]}, {"order": [5, 1, 0, 9], "layers": {"2": {"opacity": 0.5}, "6": {"deleted": True}}}):
        changed, stale = edited(doc, made_for="0" * 16, **edits)
        assert stale is True and changed is doc


def test_another_document_may_say_for_which_layers_the_edits_were_made() -> None:
    shown, other = document(), document(3)
    text = json.dumps({"version": 1, "made_for": fingerprint(shown), "order": [1, 0]})
    changed, stale = apply_edits(other, text, shown)
    assert names(changed) == ["b", "a", "c"] and not stale
    assert apply_edits(shown, text, other) == (shown, True)


@pytest.mark.parametrize("edits", [{"order": [0, 4]}, {"copies": {"50": 4}}, {"layers": {"4": {}}}, {"layers": {"50": {}}},
                                   {"order": [50]}])  # fmt: skip
def test_a_layer_that_is_not_there_is_an_error_unless_the_edits_are_stale(edits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="refer to layer (4|50), but the layers are numbered 0 to 3"):
        edited(document(), **edits)
    assert edited(document(), made_for="stale", **edits)[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moved", "not valid JSON"),
        ("[" * 100000, "not valid JSON"),
        ("9" * 10000, "not valid JSON"),
        ("[1]", "an object"),
        ("{}", '"version": 1'),
        ('{"version": 2}', '"version": 1'),
        ('{"version": 1, "colour": 3}', "Unknown key 'colour' in the edits"),
        ('{"version": 1, "made_for": 3}', "made_for"),
        ('{"version": 1, "order": 3}', "order"),
        ('{"version": 1, "order": [1, 1]}', "order"),
        ('{"version": 1, "order": [-1]}', "order"),
        ('{"version": 1, "order": [true]}', "order"),
        ('{"version": 1, "order": [[1]]}', "order"),
        ('{"version": 1, "solo": null}', "solo"),
        ('{"version": 1, "solo": 1.5}', "solo"),
        ('{"version": 1, "layers": []}', "layers"),
        ('{"version": 1, "layers": {"top": {}}}', "keys"),
        ('{"version": 1, "layers": {"01": {}}}', "keys"),
        ('{"version": 1, "layers": {"-1": {}}}', "keys"),
        ('{"version": 1, "layers": {"": {}}}', "keys"),
        ('{"version": 1, "layers": {"\\u0661": {}}}', "keys"),
        ('{"version": 1, "layers": {"1": 3}}', "layer 1"),
        ('{"version": 1, "layers": {"1": {"colour": "x"}}}', "'colour' in layer 1"),
        ('{"version": 1, "layers": {"1": {"name": " "}}}', "a text that is not empty as name of layer 1"),
        ('{"version": 1, "layers": {"1": {"name": 3}}}', "a text that is not empty as name of layer 1"),
        ('{"version": 1, "layers": {"1": {"deleted": 1}}}', "true or false as deleted"),
        ('{"version": 1, "copies": [1]}', "an object as copies"),
        ('{"version": 1, "copies": {"3": 1}}', "numbers from 50 on as keys of copies"),
        ('{"version": 1, "copies": {"x": 1}}', "numbers from 50 on as keys of copies"),
        ('{"version": 1, "copies": {"50": 51}}', "a layer's number for copy 50"),
        ('{"version": 1, "copies": {"50": true}}', "a layer's number for copy 50"),
        ('{"version": 1, "layers": {"1": {"opacity": 1.5}}}', "from 0 to 1 as opacity of layer 1"),
        ('{"version": 1, "layers": {"1": {"opacity": "1"}}}', "opacity"),
        ('{"version": 1, "layers": {"1": {"opacity": NaN}}}', "opacity"),
        ('{"version": 1, "layers": {"1": {"right": 1.5}}}', "whole number from -1638400 to 1638400 as right"),
        ('{"version": 1, "layers": {"1": {"down": 1e3}}}', "whole number"),
        ('{"version": 1, "layers": {"1": {"scale": 0}}}', "scale"),
        ('{"version": 1, "layers": {"1": {"scale": 1' + "0" * 400 + '}}}', "scale"),
        ('{"version": 1, "layers": {"1": {"rotation": Infinity}}}', "rotation"),
        ('{"version": 1, "layers": {"1": {"rotation": true}}}', "rotation"),
        ('{"version": 1, "layers": {"1": {"visible": 1}}}', "visible"),
        ('{"version": 1, "layers": {"1": {"blend_mode": "dissolve"}}}', "Unknown blend mode 'dissolve'"),
        ('{"version": 1, "layers": {"1": {"blend_mode": ["normal"]}}}', "Unknown blend mode"),
    ],
)
def test_a_text_that_is_not_sound_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_edits(document(), text)


def test_the_fingerprint_is_of_canvas_names_order_and_pixels() -> None:
    doc = document()
    first = fingerprint(doc)
    assert len(first) == 16 and int(first, 16) >= 0 and fingerprint(document()) == first
    others = [document(3), replace(document(), fixed_canvas=(9, 7))]
    for change in ({"name": "x"}, {"image": doc.layers[1].image.flip(1)}, {"coverage": doc.layers[1].coverage.flip(1)}):
        others.append(document())
        alter(others[-1], 1, **change)
    others.append(replace(document(), layers=document().layers[::-1]))
    assert len({first, *map(fingerprint, others)}) == 1 + len(others)


def test_the_fingerprint_leaves_out_what_8_bits_and_the_panel_do_not_keep() -> None:
    doc = document()
    for index, layer in enumerate(doc.layers):
        alter(doc, index, image=(layer.image * 255).round() / 255)
    first = fingerprint(doc)
    alter(doc, 1, image=doc.layers[1].image + 1e-4, opacity=0.5, x=3, visible=False)
    assert fingerprint(doc) == first


def test_a_layers_bytes_are_its_own_pixels() -> None:
    layer = Layer(torch.tensor([[[[0.5, 2.0, -1.0, 0.5]]]]), torch.tensor([[[0.2]]]), "dot", 1, 1, rotation=math.pi)
    colours, coverage = layer_bytes(layer)
    assert colours.tolist() == [[[128, 255, 0]]] and coverage.tolist() == [[102]]
