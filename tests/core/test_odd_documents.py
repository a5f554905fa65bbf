"""LAYERS documents that none of the pack's nodes would create: rejected with a clear message, whatever they contain."""

from typing import Any

import pytest
import torch

from layerdiff_core.layers import Document, Layer

PICTURE, MASK = torch.rand(1, 4, 4, 3), torch.rand(1, 4, 4)


def document(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "layers": [{"image": PICTURE, "mask": MASK, **changes}]}


@pytest.mark.parametrize("changes, words", [
    ({"image": PICTURE > 0.5}, r"a tensor \[1, 4, 4, 3\] of bool for an image.*floating-point"),
    ({"image": PICTURE.to(torch.complex64)}, "complex64 for an image"),
    ({"image": (PICTURE * 255).byte()}, "uint8 for an image"),
    ({"image": PICTURE.to("meta")}, "meta tensor for an image"),
    ({"image": PICTURE.to_sparse()}, "sparse or meta tensor for an image"),
    ({"image": torch.nested.nested_tensor([PICTURE[0] * torch.nan, PICTURE[0, :2]])}, "nested.* tensor for an image"),
    ({"image": [[[[0.0]]]]}, "list for an image"),
    ({"mask": MASK > 0.5}, "bool for a mask"),
    ({"mask": MASK.to(torch.complex64)}, "complex64 for a mask"),
    ({"mask": MASK.to("meta")}, "meta tensor for a mask"),
    ({"mask": torch.nested.nested_tensor([MASK[0], MASK[0, :2]])}, "nested.* tensor for a mask"),
    ({"visible": "false"}, "visible = 'false', expected true or false"),
    ({"visible": float("nan")}, "visible = nan"),
    ({"flip_h": "no"}, "flip_h = 'no'"),
    ({"flip_v": 2}, "flip_v = 2"),
    ({"opacity": [[float("nan")]]}, r"opacity = \[\[nan\]\]"),
    ({"opacity": 1j}, "opacity = 1j"),
    ({"x": torch.tensor(1.0)}, "x = tensor"),
    ({"blend_mode": ["normal"]}, r"Unknown blend mode \['normal'\]"),
    ({"name": 3}, "the name 3"),
])
def test_what_a_layer_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Document.from_socket(document(**changes))


@pytest.mark.parametrize("value, seen", [(True, True), (False, False), (1, True), (0, False), (None, True)])
def test_eyes_that_are_open_or_closed(value: Any, seen: bool) -> None:
    assert Document.from_socket(document(visible=value)).layers[0].visible is seen


def test_a_file_that_says_false_as_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="visible = 'false'"):
        Layer.of(PICTURE, MASK, visible="false")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_of_every_length_are_taken(dtype: torch.dtype) -> None:
    layer = Document.from_socket(document(image=PICTURE.to(dtype), mask=MASK.to(dtype))).layers[0]
    assert layer.coverage.dtype == dtype
