"""LoRAs for single layers: their low-rank terms, added to the rows of these layers in the same forward pass.

ComfyUI's bypass mode (comfy/weight_adapter/bypass.py) computes f(x) + h(x) instead of changing weights; here h(x) is computed
for some rows alone. Forward methods are wrapped for the time of one prediction and put back whatever happens, so that MODELs
that share a UNet, an interrupt and ComfyUI's own bypass LoRAs leave no trace on each other. (Its injections stay for as long as
a model is loaded, and two of them on one module are not undone in the right order.) Torch Compile sees a changed forward
method, which it does not do for torch's forward hooks.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy.weight_adapter import WeightAdapterBase
from torch import Tensor, nn

from ...layerdiff_core.layer_text import LayerEntry, strengths_of
from .lora_terms import Terms, fitted
from .model import LAYERS_KEY, layered

KEY = "layerdiff_lora"


@dataclass(frozen=True)
class LayerLora:
    """One LoRA, by the names of modules in the UNet, and the layers that get it."""

    adapters: dict[str, WeightAdapterBase]
    entries: Sequence[LayerEntry]


class WrappedForward:
    """The forward method of one module, with the terms of all LoRAs that change it."""

    def __init__(self, name: str, module: nn.Module, adapters: list[WeightAdapterBase | None]):
        """adapters: one for each LoRA of the MODEL, None where that LoRA leaves the module as it is."""
        self.name, self.module = name, module
        self.terms = Terms(module, adapters)
        self.original: Callable[..., Tensor] = module.forward
        self.before: Callable[..., Tensor] | None = None
        self.rows = 0
        self.strengths: tuple[tuple[float, ...], ...] = ((),)
        self.within = ".attn1." in name
        self.forward = self.run  # one object for good: Torch Compile compares it

    def begin(self, rows: int, strengths: tuple[tuple[float, ...], ...]) -> None:
        """From now on, in a prediction of so many rows, the module adds the terms. strengths: of each LoRA in each layer."""
        self.before = vars(self.module).get("forward")  # another's, such as ComfyUI's own bypass LoRA
        self.original, self.rows, self.strengths = self.module.forward, rows, strengths
        self.module.forward = self.forward

    def end(self) -> None:
        """The module is as it was."""
        if self.before is None:
            del self.module.forward
        else:
            self.module.forward = self.before

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """f(x) + strength * h(x) in the rows of the layers, f(x) in all others."""
        out = self.original(x, *args, **kwargs)
        self.terms.add(x, out, self.rows_of_a_layer(x.shape[0], len(self.strengths[0])), self.strengths)
        return out

    def rows_of_a_layer(self, rows: int, layers: int) -> int:
        """How many neighbouring rows of a module's input belong to a layer: one, but where self-attention is cut into tiles
        (HyperTile), which lie inside the rows. What repeats whole scenes (regional attention) leaves it at one."""
        each = rows // self.rows if self.within and rows % self.rows == 0 else 1
        if rows % (layers * each):
            raise ValueError(f"A node patches {self.name} so that it gets {rows} rows at once, which is not a whole number of "
                             f"scenes of {layers} layers, so that the LoRA's layers cannot be found. Remove that node, or "
                             "load the LoRA for all layers with Load LoRA.")
        return each


class LayerLoras:
    """All LoRAs for layers of one MODEL: what a sampling with them needs before, in and after each prediction."""

    def __init__(self, loras: list[LayerLora]):
        self.loras = loras
        self.names = list(dict.fromkeys(name for lora in loras for name in lora.adapters))
        self.wrapped: weakref.WeakKeyDictionary[nn.Module, dict[str, WrappedForward]] = weakref.WeakKeyDictionary()

    def ready(self, patcher: Any) -> None:
        """Before a sampling: find the modules, which other nodes may have replaced since."""
        self.find(patcher.model.diffusion_model)

    def find(self, unet: nn.Module) -> dict[str, WrappedForward]:
        """The wrapped modules of a UNet; it may be another one for another GPU, or without DynamicVRAM."""
        known = self.wrapped.setdefault(unet, {})
        for name in self.names:
            module = unet.get_submodule(name)
            if name not in known or known[name].module is not module:
                known[name] = WrappedForward(name, module, [lora.adapters.get(name) for lora in self.loras])
        return known

    def predict(self, executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Round one prediction of ComfyUI's: with the terms."""
        unet = executor.class_obj.diffusion_model
        unet = getattr(unet, "_orig_mod", unet)  # Torch Compile's
        strengths = tuple(tuple(strengths_of(lora.entries, kwargs.get(LAYERS_KEY, 1))) for lora in self.loras)
        wrapped = self.wrapped.get(unet) or self.find(unet)
        begun: list[WrappedForward] = []
        try:
            for module in wrapped.values():
                module.begin(x.shape[0], strengths)
                begun.append(module)
            return executor(x, *args, **kwargs)
        finally:
            for module in begun:
                module.end()

    def release(self, patcher: Any) -> None:
        """After a sampling, or an interrupt: the copies on the GPU go."""
        for module in self.wrapped.get(patcher.model.diffusion_model, {}).values():
            module.terms.ready.clear()


def loras_of(model: Any) -> list[LayerLora]:
    """The LoRAs for layers that are on a MODEL."""
    return [lora for wrapper in model.get_wrappers(WrappersMP.APPLY_MODEL, KEY) for lora in wrapper.__self__.loras]


def load_for_layers(model: Any, name: str, adapters: dict[str, WeightAdapterBase], entries: list[LayerEntry]) -> Any:
    """A copy of a layered MODEL with one more LoRA on some layers; the MODEL itself where all strengths are 0.

    ValueError for a MODEL without layers and for weights of other shapes than the MODEL's. name: of the file.
    """
    unet = layered(model).diffusion_model
    for module_name, adapter in adapters.items():
        check_fits(name, module_name, adapter, unet.get_submodule(module_name))
    if not any(entry.strength for entry in entries):
        return model
    changed, together = model.clone(), LayerLoras([*loras_of(model), LayerLora(adapters, entries)])
    changed.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, KEY)
    changed.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, together.predict)
    for moment, act in ((CallbacksMP.ON_PRE_RUN, together.ready), (CallbacksMP.ON_CLEANUP, together.release)):
        changed.remove_callbacks_with_key(moment, KEY)
        changed.add_callback_with_key(moment, KEY, act)
    return changed


def linear_sizes(module: Any) -> tuple[int, int]:
    """The numbers of inputs and outputs of a linear layer, of whichever class ComfyUI made it."""
    return module.in_features, module.out_features


def check_fits(file: str, name: str, adapter: WeightAdapterBase, module: nn.Module) -> None:
    """ValueError unless an adapter takes and gives what a linear layer or a convolution does: tried on zeros."""
    made = fitted(adapter, module)
    inputs, outputs = (made.in_channels, made.out_channels) if isinstance(module, nn.Conv2d) else linear_sizes(module)
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
