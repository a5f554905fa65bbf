"""LoRAs for single layers: their low-rank terms, added only to the rows of these layers, in the same forward pass.

ComfyUI's bypass mode (comfy/weight_adapter/bypass.py) computes f(x) + h(x) instead of changing weights; here h(x) is computed
only for some rows. Forward methods are wrapped during a single prediction and are always restored afterwards, so that MODELs that
share a UNet do not affect each other, and neither an interrupt nor ComfyUI's own bypass LoRAs leave anything behind. (ComfyUI's
injections stay for as long as a model is loaded, and two of them on one module are not undone in the right order.) Torch Compile
notices a changed forward method, but not torch's forward hooks.
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
    """One LoRA, as adapters by the name of the UNet module, and the layers it applies to."""

    adapters: dict[str, WeightAdapterBase]
    entries: Sequence[LayerEntry]


class WrappedForward:
    """Wraps the forward method of one module to add the terms of all LoRAs that change it."""

    def __init__(self, name: str, module: nn.Module, adapters: list[WeightAdapterBase | None]):
        """adapters: one for each LoRA of the MODEL, None if that LoRA does not change the module."""
        self.name, self.module = name, module
        self.terms = Terms(module, adapters)
        self.original: Callable[..., Tensor] = module.forward
        self.before: Callable[..., Tensor] | None = None
        self.rows = 0
        self.strengths: tuple[tuple[float, ...], ...] = ((),)
        self.within = ".attn1." in name
        self.forward = self.run  # always the same object, because Torch Compile compares it

    def begin(self, rows: int, strengths: tuple[tuple[float, ...], ...]) -> None:
        """Makes the module add the terms, in a prediction of `rows` rows. strengths: for each LoRA, one per layer."""
        self.before = vars(self.module).get("forward")  # set by something else, such as ComfyUI's own bypass LoRA
        self.original, self.rows, self.strengths = self.module.forward, rows, strengths
        self.module.forward = self.forward

    def end(self) -> None:
        """Restores the module's own forward method."""
        if self.before is None:
            del self.module.forward
        else:
            self.module.forward = self.before

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns f(x) + strength * h(x) in the rows of the LoRA's layers and f(x) in all others."""
        out = self.original(x, *args, **kwargs)
        self.terms.add(x, out, self.rows_of_a_layer(x.shape[0], len(self.strengths[0])), self.strengths)
        return out

    def rows_of_a_layer(self, rows: int, layers: int) -> int:
        """How many neighbouring rows of a module's input belong to one layer. This is 1 unless self-attention is cut into tiles
        (HyperTile), since each row is then split into several. If whole scenes are repeated (regional attention), it stays 1."""
        each = rows // self.rows if self.within and rows % self.rows == 0 else 1
        if rows % (layers * each):
            raise ValueError(f"A node patches {self.name} so that it gets {rows} rows at once, which is not a whole number of "
                             f"scenes of {layers} layers, so that the LoRA's layers cannot be found. Remove that node, or "
                             "load the LoRA for all layers with Load LoRA.")
        return each


class LayerLoras:
    """All LoRAs for single layers on one MODEL, and what has to be done before, during and after sampling."""

    def __init__(self, loras: list[LayerLora]):
        self.loras = loras
        self.names = list(dict.fromkeys(name for lora in loras for name in lora.adapters))
        self.wrapped: weakref.WeakKeyDictionary[nn.Module, dict[str, WrappedForward]] = weakref.WeakKeyDictionary()

    def ready(self, patcher: Any) -> None:
        """Finds the modules before sampling starts, because other nodes may have replaced them."""
        self.find(patcher.model.diffusion_model)

    def find(self, unet: nn.Module) -> dict[str, WrappedForward]:
        """The wrapped modules of a UNet. The UNet may change, for example on a second GPU or without DynamicVRAM."""
        known = self.wrapped.setdefault(unet, {})
        for name in self.names:
            module = unet.get_submodule(name)
            if name not in known or known[name].module is not module:
                known[name] = WrappedForward(name, module, [lora.adapters.get(name) for lora in self.loras])
        return known

    def predict(self, executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Wrapper around one prediction of ComfyUI's: runs it with the terms added."""
        unet = executor.class_obj.diffusion_model
        unet = getattr(unet, "_orig_mod", unet)  # set by Torch Compile
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
        """Frees the copies on the GPU after sampling or an interrupt."""
        for module in self.wrapped.get(patcher.model.diffusion_model, {}).values():
            module.terms.ready.clear()


def loras_of(model: Any) -> list[LayerLora]:
    """The LoRAs for single layers that were added to a MODEL."""
    return [lora for wrapper in model.get_wrappers(WrappersMP.APPLY_MODEL, KEY) for lora in wrapper.__self__.loras]


def load_for_layers(model: Any, name: str, adapters: dict[str, WeightAdapterBase], entries: list[LayerEntry]) -> Any:
    """Adds a LoRA on some layers to a copy of a layered MODEL. Returns the MODEL itself if all strengths are 0.

    name: the file's name, for errors. ValueError for a MODEL without layers, or if the weights do not have the MODEL's shapes.
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
    """The number of inputs and outputs of a linear layer, whichever class ComfyUI uses for it."""
    return module.in_features, module.out_features


def check_fits(file: str, name: str, adapter: WeightAdapterBase, module: nn.Module) -> None:
    """ValueError unless an adapter has the input and output shapes of a linear layer or convolution. Tested on zeros."""
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
