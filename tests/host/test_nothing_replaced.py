"""The pack replaces nothing in ComfyUI: each attribute of its modules and classes stays the same object."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from safetensors.torch import save_file

import nodes as host
from tests import loras, models
from tests.memory_modes import TURNED


def replaced(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> list[str]:
    """What of ComfyUI is another object, gone, or new in `after`, but for what a memory mode turns on; in its tables (`[]`)
    new entries are welcome."""
    missing = object()
    found = []
    for place, old in before.items():
        if place in TURNED:
            continue
        for name in old.keys() if place.endswith("[]") else old.keys() | after[place].keys():
            was, now = old.get(name, missing), after[place].get(name, missing)
            # Importing a module makes it an attribute of its package, ComfyUI keeps what it read in a node's schema in names
            # such as SCHEMA and _API_NODE, and torch.compile puts __import_... into the modules that it reads: none of it
            # replaces anything.
            noted = was is missing and (isinstance(now, ModuleType) or name.lstrip("_").isupper())
            compiled = name.startswith("__") and not name.endswith("__")
            if was is not now and not noted and not compiled and f"{place}.{name}" not in TURNED:
                found.append(f"{place}.{name}")
    return found


def test_loading_replaces_nothing(host_before: dict[str, Any], pack: ModuleType, take_snapshot: Any) -> None:
    assert replaced(host_before, take_snapshot()) == []


@torch.inference_mode()
def test_sampling_replaces_nothing(host_before: dict[str, Any], pack: ModuleType, starter: SimpleNamespace,
                                   memory: str, take_snapshot: Any, tmp_path: Path) -> None:
    base = models.sd15(32, 96, mode=memory)
    name = pack.nodes.train.LayerDiffCreateAdapter.execute(base, f"replaces nothing {memory}", 0).args[0]
    pack.nodes.load.LayerDiffApplyAdapter.execute(base, name)
    positive, negative, layers, names = pack.nodes.prompts.LayerDiffEncodePrompts.execute(
        starter.clip, starter.enhancer, "a fox", "a green meadow\na fox", "", 1.0).args
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(starter.vae, 64, 64, layers, 1).args[0]
    control = models.control_net(models.architecture()["unet"], models.CHANNELS)
    positive, negative = host.ControlNetApplyAdvanced().apply_controlnet(positive, negative, control, torch.rand(1, 64, 64, 3),
                                                                         1.0, 0.0, 1.0)
    positive, negative = pack.nodes.control.LayerDiffApplyControlNet.execute(
        positive, negative, control, torch.rand(1, 64, 64, 3), "1", 0.5, 0.0, 1.0).args
    save_file(loras.lora(starter.model.model.diffusion_model), tmp_path / "replaces_nothing.safetensors")
    folder_paths.add_model_folder_path("loras", str(tmp_path), is_default=True)
    model = pack.nodes.lora.LayerDiffLoadLora.execute(starter.model, "replaces_nothing.safetensors", "1=0.5", 1.0).args[0]
    drawn = pack.nodes.sample.LayerDiffSMGKSampler.execute(
        model, positive, negative, latent, starter.vae, 1, 2, 3.0, "euler", "normal", 1.0, 0.5, 1.0, 0.0, 1.0).args[0]
    document = pack.nodes.decode.LayerDiffDecodeLayers.execute(drawn, starter.vae, names, 0.5, 0.4, 0).args[0][0]
    pack.nodes.composite.LayerDiffCompositeLayers.execute(document, "display")
    pack.nodes.redraw.LayerDiffRedrawLayers.execute(document, model, starter.vae, positive, negative, "1", -1, 1, 2, 3.0, "euler",
                                                    "normal", 1.0, 8)
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
