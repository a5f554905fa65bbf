"""The pack replaces nothing of the host's: each attribute of its modules and classes stays the very same object."""

from types import ModuleType
from typing import Any

import pytest


def replaced(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> list[str]:
    """What of the host is another object, gone, or new in `after`; in its tables (`[]`) new entries are welcome."""
    missing = object()
    return [f"{place}.{name}" for place, old in before.items()
            for name in (old.keys() if place.endswith("[]") else old.keys() | after[place].keys())
            if old.get(name, missing) is not after[place].get(name, missing)]


def test_loading_replaces_nothing(host_before: dict[str, Any], pack: ModuleType, take_snapshot: Any) -> None:
    assert replaced(host_before, take_snapshot()) == []


def test_a_replaced_function_would_be_found(host_before: dict[str, Any], take_snapshot: Any,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.model_patcher
    import comfy.samplers

    import nodes

    monkeypatch.setattr(comfy.samplers, "sampling_function", lambda *args: None)
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "clone", lambda self: self)
    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "KSampler", object)
    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "A new node", object)
    found = replaced(host_before, take_snapshot())
    assert "comfy.samplers.sampling_function" in found
    assert "comfy.model_patcher.ModelPatcher.clone" in found
    assert "nodes.NODE_CLASS_MAPPINGS[].KSampler" in found
    assert "nodes.NODE_CLASS_MAPPINGS[].A new node" not in found
