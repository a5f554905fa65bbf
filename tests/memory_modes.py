"""ComfyUI's modes of keeping models in memory, switched on in this process."""

import contextlib
from collections.abc import Iterator
from typing import Any

import comfy.cli_args
import comfy.memory_management
import comfy.model_patcher
import comfy.utils
import comfy_aimdo.host_buffer
import pytest
import torch
from safetensors import safe_open

MODES = ("plain", "dynamic", "float16", "bfloat16")
TURNED = {"comfy.model_patcher.CoreModelPatcher", "comfy.memory_management.aimdo_enabled", "comfy.utils.load_safetensors"}
"""What a mode exchanges of ComfyUI's modules."""


class DynamicOnCPU(comfy.model_patcher.ModelPatcherDynamic):
    """ComfyUI's dynamic patcher, also for a model on the CPU, which ComfyUI itself gives back to the plain one."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "DynamicOnCPU":
        return object.__new__(cls)

    def partially_unload(self, *args: Any, **kwargs: Any) -> int:
        """ComfyUI's own frees memory of a GPU, of which there is none here."""
        return 0


def plain_safetensors(path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Stands in for the native library's reading of a file: the same tensors and metadata."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 - a handle


class NoBuffer:
    """Stands in for pinned memory, which the native library of DynamicVRAM allocates on a GPU machine alone."""

    size = 0

    def __init__(self, *args: Any) -> None:
        pass


def types_of(mode: str) -> tuple[torch.dtype, torch.dtype | None]:
    """In a mode: the type of a UNet's weights, and the one that it computes in where that differs."""
    kept = getattr(torch, mode) if "float" in mode else torch.float32
    return kept, None if kept is torch.float32 else torch.float32


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Networks that are built inside have their weights at once, in every mode: to fill them with random numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.memory_management, "aimdo_enabled", False)
        yield


@contextlib.contextmanager
def memory_mode(mode: str) -> Iterator[None]:
    """A context in which everything is loaded as in a memory mode.

    "plain": as on a CPU or with --disable-dynamic-vram. "dynamic": DynamicVRAM, as by itself on NVIDIA: layers without
    weights until a file is loaded, weights assigned, dynamic patchers. "float16", "bfloat16": UNet and VAE in that type.
    """
    dynamic = mode == "dynamic"
    with pytest.MonkeyPatch.context() as patch:
        if dynamic:
            patch.setattr(comfy_aimdo.host_buffer, "HostBuffer", NoBuffer)
            patch.setattr(comfy.utils, "load_safetensors", plain_safetensors)
        patch.setattr(comfy.model_patcher, "CoreModelPatcher", DynamicOnCPU if dynamic else comfy.model_patcher.ModelPatcher)
        patch.setattr(comfy.memory_management, "aimdo_enabled", dynamic)
        for short, name in (("fp16", "float16"), ("bf16", "bfloat16")):
            patch.setattr(comfy.cli_args.args, f"{short}_unet", mode == name)
            patch.setattr(comfy.cli_args.args, f"{short}_vae", mode == name)
        yield
