"""The file format: files can be read back, and errors name what is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from layerdiff_core.checkpoint import Header, check_tensors, read_header, read_tensors, write

HEADER = Header("layerdiff", "complete", {"unet": {"width": 8}}, 4, "none", "CC0-1.0", "a test")
TENSORS = {"unet.a.weight": torch.ones(2, 3), "text.token_ids": torch.arange(3), "enhancer.gate": torch.zeros(2).half()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "deep" / "model.safetensors", HEADER, TENSORS)
    return tmp_path / "deep" / "model.safetensors"


def test_what_is_written_is_read(path: Path) -> None:
    header = read_header(path, "layerdiff", "complete")
    assert header == HEADER
    parts = read_tensors(path, header)
    assert {f"{part}.{key}" for part, tensors in parts.items() for key in tensors} == set(TENSORS)
    assert torch.equal(parts["unet"]["a.weight"], TENSORS["unet.a.weight"])
    assert parts["enhancer"]["gate"].dtype == torch.float16 and parts["vae"] == {}


def test_tensors_that_are_views_are_written(tmp_path: Path) -> None:
    write(tmp_path / "view.safetensors", HEADER, {"unet.a": torch.rand(4, 3).T})
    assert read_tensors(tmp_path / "view.safetensors", HEADER)["unet"]["a"].shape == (3, 4)


def facts(**changes: Any) -> dict[str, str]:
    known = {"format": "layered-diffusion", "version": "1", "family": "layerdiff", "kind": "complete",
             "architecture": json.dumps({}), "layers": "4", "base": "", "licence": "", "provenance": ""}
    return {key: value for key, value in {**known, **changes}.items() if value is not None}


@pytest.mark.parametrize("changes, words", [
    ({"format": None}, "not a layered model"),
    ({"format": "pt"}, "not a layered model"),
    ({"version": "2"}, "format version 2, but this pack reads version 1"),
    ({"version": None}, "format version None"),
    ({"architecture": None}, "incomplete or damaged.*architecture"),
    ({"architecture": "{"}, "incomplete or damaged"),
    ({"architecture": "[" * 100_000 + "]" * 100_000}, "incomplete or damaged.*recursion"),
    ({"architecture": '{"latent": ' * 100_000 + "1" + "}" * 100_000}, "incomplete or damaged.*recursion"),
    ({"architecture": '{"latent": {"std": [1.0, [NaN]]}}'}, "incomplete or damaged.*invalid number NaN"),
    ({"architecture": '{"unet": {"width": -Infinity}}'}, "incomplete or damaged.*invalid number -Infinity"),
    ({"architecture": "[1]"}, "of family 'layerdiff' and kind 'complete'"),
    ({"layers": "many"}, "incomplete or damaged.*many"),
    ({"family": "omni"}, "family 'omni'"),
    ({"kind": "half"}, "kind 'half'"),
    ({"family": "text2layer", "kind": "adapter"}, "family 'text2layer' and kind 'adapter'. Expected one of"),
    ({"family": "text2layer"}, "text2layer model, but a layerdiff model was expected"),
    ({"kind": "adapter"}, "kind 'adapter', but 'complete' was expected.*Apply LayerDiff Adapter"),
])
def test_wrong_metadata(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    save_file({"unet.a": torch.zeros(1)}, tmp_path / "model.safetensors", metadata=facts(**changes))
    with pytest.raises(ValueError, match=f"model.safetensors.*{words}"):
        read_header(tmp_path / "model.safetensors", "layerdiff", "complete")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", b"\xff" * 64, b"\x10\0\0\0\0\0\0\0{not json here}"])
def test_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="model.safetensors cannot be read as a safetensors file"):
        read_header(tmp_path / "model.safetensors")


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_truncated(path: Path, part: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="cannot be read"):
        read_header(path)


def test_a_part_that_does_not_belong(path: Path) -> None:
    with pytest.raises(ValueError, match="holds 'text.token_ids', which does not belong.*'adapter'"):
        read_tensors(path, replace(HEADER, kind="adapter"))


def test_a_text2layer_file_has_no_enhancer(path: Path) -> None:
    with pytest.raises(ValueError, match="'enhancer.gate', which does not belong in a text2layer file"):
        read_tensors(path, replace(HEADER, family="text2layer"))


def test_every_problem_with_tensors_is_named() -> None:
    wanted = {"a": torch.Size([2]), "b": torch.Size([3]), "c": torch.Size([4]), "d": torch.Size([1])}
    given = {"b": torch.zeros(5), "c": torch.zeros(4, dtype=torch.int64), "d": torch.zeros(1).double(), "e": torch.zeros(1)}
    with pytest.raises(ValueError) as caught:
        check_tensors("model.safetensors, UNet", given, wanted)
    text = str(caught.value)
    for words in ("model.safetensors, UNet", "missing: a", "unexpected: e", "b [5] instead of [3]",
                  "c (torch.int64)", "d (torch.float64)"):
        assert words in text
    check_tensors("fine", {"a": torch.zeros(2).half()}, {"a": torch.Size([2])})


def test_long_lists_are_shortened() -> None:
    with pytest.raises(ValueError, match="k4 and 15 more"):
        check_tensors("model", {}, {f"k{number}": torch.Size([1]) for number in (0, 1, 2, 3, 4, *range(50, 65))})
