"""LoRAs for single layers: their low-rank terms, added to the rows of these layers in the same forward pass.

ComfyUI's bypass mode (comfy/weight_adapter/bypass.py) computes f(x) + h(x) instead of changing weights; here h(x) is computed
for some rows alone. Forward methods are wrapped for the time of one prediction and put back whatever happens, so that MODELs
that share a UNet, an interrupt and ComfyUI's own bypass LoRAs leave no trace on each other. (Its injections stay for as long as
a model is loaded, and two of them on one module are not undone in the right order.) Torch Compile sees a changed forward
method, which it does not do for torch's forward hooks.
"""

import copy
import weakref
from collections.abc import Callable
from typing import Any

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy.weight_adapter import LoKrAdapter, WeightAdapterBase
from comfy.weight_adapter.bypass import get_module_type_info
from torch import Tensor, nn

from ...layerdiff_core.layer_text import LayerEntry, strengths_of
from .model import LAYERS_KEY, layered

KEY = "layerdiff_lora"
UNET = "diffusion_model."
LOKR_KERNELS, LOKR_CORE = (1, 6), 7
"""Where ComfyUI's LoKr adapter keeps what it applies as a convolution, and the core that holds the kernel instead."""


class RowTerm:
    """The forward method of one module, with one adapter's term added to the rows of some layers."""

    def __init__(self, name: str, module: nn.Module, adapter: WeightAdapterBase):
        self.name, self.module, self.adapter = name, module, fitted(adapter, module)
        self.moved: dict[tuple[torch.device, torch.dtype], WeightAdapterBase] = {}
        self.original: Callable[..., Tensor] = module.forward
        self.before: Callable[..., Tensor] | None = None
        self.rows, self.layers = 0, 1
        self.runs: list[tuple[int, int, float]] = []
        self.within = ".attn1." in name
        self.forward = self.add  # one object for good: Torch Compile compares it

    def begin(self, rows: int, layers: int, runs: list[tuple[int, int, float]]) -> None:
        """From now on, in a prediction of so many rows, the module adds the term."""
        self.before = vars(self.module).get("forward")  # another's, such as ComfyUI's own bypass LoRA
        self.original, self.rows, self.layers, self.runs = self.module.forward, rows, layers, runs
        self.module.forward = self.forward

    def end(self) -> None:
        """The module is as it was."""
        if self.before is None:
            del self.module.forward
        else:
            self.module.forward = self.before

    def add(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """f(x) + strength * h(x) in the rows of the layers, f(x) in all others."""
        out = self.original(x, *args, **kwargs)
        each = self.rows_of_a_layer(len(x))
        adapter = self.on_device(x)
        scenes = (len(x) // (self.layers * each), self.layers * each)
        for start, stop, strength in self.runs:
            rows = slice(start * each, stop * each)
            term = adapter.h(x.unflatten(0, scenes)[:, rows].flatten(0, 1), out)
            out.unflatten(0, scenes)[:, rows].add_(term.unflatten(0, (scenes[0], -1)), alpha=strength)
        return out

    def rows_of_a_layer(self, rows: int) -> int:
        """How many neighbouring rows of a module's input belong to a layer: one, but where self-attention is cut into tiles
        (HyperTile), which lie inside the rows. What repeats whole scenes (regional attention) leaves it at one."""
        each = rows // self.rows if self.within and rows % self.rows == 0 else 1
        if rows % (self.layers * each):
            raise ValueError(f"A node patches {self.name} so that it gets {rows} rows at once, which is not a whole number of "
                             f"scenes of {self.layers} layers, so that the LoRA's layers cannot be found. Remove that node, or "
                             "load the LoRA for all layers with Load LoRA.")
        return each

    def on_device(self, x: Tensor) -> WeightAdapterBase:
        """The adapter with its weights where and as x is."""
        place = (x.device, x.dtype)
        if place not in self.moved:
            self.moved[place] = moved = copy.copy(self.adapter)
            moved.weights = tuple(part.to(*place) if isinstance(part, Tensor) else part for part in self.adapter.weights)
        return self.moved[place]


def fitted(adapter: WeightAdapterBase, module: nn.Module) -> WeightAdapterBase:
    """A copy of an adapter that knows its module, which `h` relies on. ValueError where their shapes differ."""
    made, facts = copy.copy(adapter), get_module_type_info(module)
    made.multiplier, made.is_conv, made.conv_dim = 1.0, facts["is_conv"], facts["conv_dim"]
    made.kernel_size, made.in_channels, made.out_channels = facts["kernel_size"], facts["in_channels"], facts["out_channels"]
    made.kw_dict = {key: facts[key] for key in ("stride", "padding", "dilation", "groups")} if made.is_conv else {}
    if isinstance(made, LoKrAdapter) and made.is_conv:  # files keep the kernel flat in either form of the second factor
        made.weights = tuple(part.unflatten(1, (-1, *made.kernel_size)) if number in LOKR_KERNELS and isinstance(part, Tensor)
                             and part.ndim == 2 and made.weights[LOKR_CORE] is None else part
                             for number, part in enumerate(made.weights))
    if not made.is_conv:  # some files keep those of linear layers as convolutions of one pixel
        made.weights = tuple(part.flatten(1) if isinstance(part, Tensor) and part.ndim == 4 else part for part in made.weights)
    return made


class LayerLora:
    """One LoRA on some layers: what a sampling with it needs before, in and after each prediction."""

    def __init__(self, adapters: dict[str, WeightAdapterBase], entries: list[LayerEntry]):
        """adapters: by the names of modules in the UNet."""
        self.adapters, self.entries = adapters, entries
        self.terms: weakref.WeakKeyDictionary[nn.Module, dict[str, RowTerm]] = weakref.WeakKeyDictionary()

    def patched(self, model: Any) -> Any:
        """A copy of a MODEL with it."""
        changed = model.clone()
        changed.add_callback_with_key(CallbacksMP.ON_PRE_RUN, KEY, self.ready)
        changed.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, self.predict)
        changed.add_callback_with_key(CallbacksMP.ON_CLEANUP, KEY, self.release)
        return changed

    def ready(self, patcher: Any) -> None:
        """Before a sampling: find the modules, which other nodes may have replaced since."""
        self.find(patcher.model.diffusion_model)

    def find(self, unet: nn.Module) -> dict[str, RowTerm]:
        """The terms of a UNet; it may be another one for another GPU, or without DynamicVRAM."""
        known = self.terms.setdefault(unet, {})
        for name, adapter in self.adapters.items():
            module = unet.get_submodule(name)
            if name not in known or known[name].module is not module:
                known[name] = RowTerm(name, module, adapter)
        return known

    def predict(self, executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Round one prediction of ComfyUI's: with the terms."""
        unet = executor.class_obj.diffusion_model
        unet = getattr(unet, "_orig_mod", unet)  # Torch Compile's
        layers = kwargs.get(LAYERS_KEY, 1)
        runs = neighbours(strengths_of(self.entries, layers))
        terms = self.terms.get(unet) or self.find(unet)
        begun: list[RowTerm] = []
        try:
            for term in terms.values() if runs else ():
                term.begin(len(x), layers, runs)
                begun.append(term)
            return executor(x, *args, **kwargs)
        finally:
            for term in reversed(begun):
                term.end()

    def release(self, patcher: Any) -> None:
        """After a sampling, or an interrupt: the copies on the GPU go."""
        for term in self.terms.get(patcher.model.diffusion_model, {}).values():
            term.moved.clear()


def neighbours(strengths: list[float]) -> list[tuple[int, int, float]]:
    """Neighbouring layers of one strength: (first, last + 1, strength), of strength 0 none."""
    runs: list[tuple[int, int, float]] = []
    for number, strength in enumerate(strengths):
        if runs and runs[-1][1] == number and runs[-1][2] == strength:
            runs[-1] = (runs[-1][0], number + 1, strength)
        elif strength:
            runs.append((number, number + 1, strength))
    return runs


def load_for_layers(model: Any, name: str, adapters: dict[str, WeightAdapterBase], entries: list[LayerEntry]) -> Any:
    """A copy of a layered MODEL with a LoRA on some layers; the MODEL itself where all strengths are 0.

    ValueError for a MODEL without layers and for weights of other shapes than the MODEL's. name: of the file.
    """
    unet = layered(model).diffusion_model
    for module_name, adapter in adapters.items():
        check_fits(name, module_name, adapter, unet.get_submodule(module_name))
    if not any(entry.strength for entry in entries):
        return model
    return LayerLora(adapters, entries).patched(model)


def check_fits(file: str, name: str, adapter: WeightAdapterBase, module: Any) -> None:
    """ValueError unless an adapter takes and gives what a linear layer or a convolution does: tried on zeros."""
    made = fitted(adapter, module)
    inputs, outputs = ((made.in_channels, made.out_channels) if made.is_conv else (module.in_features, module.out_features))
    made.weights = tuple(part.float() if isinstance(part, Tensor) else part for part in made.weights)
    try:
        found = made.h(torch.zeros(1, inputs, *made.kernel_size[: made.conv_dim]), None).shape[1]
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        found = None
    if found != outputs:
        shapes = ", ".join(str(list(part.shape)) for part in adapter.weights if isinstance(part, Tensor))
        raise ValueError(f"{file} does not fit this MODEL: {name} takes {inputs} channels and gives {outputs}, and the file has "
                         f"weights of the shapes {shapes} for it. It was made for another kind of model. Use a LoRA for the "
                         "same base, SD 1.5 for an adapter.")
