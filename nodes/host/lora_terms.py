"""The terms that LoRAs add to the output of a module. Plain matrix products are computed for all LoRAs and layers at once."""

import copy
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from comfy.weight_adapter import LoKrAdapter, LoRAAdapter, WeightAdapterBase
from comfy.weight_adapter.bypass import get_module_type_info
from torch import Tensor, nn
from torch.nn.functional import pad

UP, DOWN, ALPHA, CORE = range(4)
"""Indices into the weights of ComfyUI's LoRA adapter."""
LOKR_KERNELS, LOKR_CORE = (1, 6), 7
"""Indices into the weights of its LoKr adapter: what is applied as a convolution, and the core that may hold the kernel."""

Strengths = tuple[tuple[float, ...], ...]
Products = list[tuple[int, int, Tensor, Tensor]]
Others = list[tuple[int, int, float, WeightAdapterBase]]


class Terms:
    """What the LoRAs of a MODEL add to the output of one linear layer or convolution."""

    def __init__(self, module: nn.Module, adapters: list[WeightAdapterBase | None]):
        self.adapters = [None if adapter is None else fitted(adapter, module) for adapter in adapters]
        facts = get_module_type_info(module)
        self.conv = facts["is_conv"]
        # A 1 x 1 convolution is a matrix product too, and is several times faster when computed as one.
        self.pointwise = not self.conv or ({*facts["kernel_size"], *facts["stride"], facts["groups"]} == {1}
                                           and {*facts["padding"]} == {0})
        self.ready: dict[Any, tuple[Products, Others]] = {}

    def add(self, x: Tensor, out: Tensor, each: int, strengths: Strengths) -> None:
        """Add the terms to `out` in place.

        x, out: the module's input and output, [scenes * layers * each, ...], where each layer has `each` neighbouring rows.
        strengths: for each LoRA, one per layer.
        """
        # A batched product can only be added in place to contiguous memory. Otherwise it would go into a copy.
        key = (x.device, x.dtype, out.is_contiguous() and out.dtype == x.dtype, strengths)
        if key not in self.ready:
            self.ready[key] = self.prepared(*key)
        products, others = self.ready[key]
        layers = len(strengths[0])
        if products:
            count = x.shape[0] // each
            if self.conv:
                inside, to = x.reshape(count, x.shape[1], -1), out.view(count, out.shape[1], -1)
            else:
                inside, to = x.reshape(count, -1, x.shape[-1]), out.view(count, -1, out.shape[-1])
            for first in range(0, count, layers):
                for start, stop, down, up in products:
                    part = inside[first + start : first + stop]
                    if self.conv:
                        to[first + start : first + stop].baddbmm_(up, torch.bmm(down, part))
                    else:
                        to[first + start : first + stop].baddbmm_(torch.bmm(part, down), up)
        for start, stop, strength, adapter in others:
            part = x.unflatten(0, (-1, layers, each))[:, start:stop]
            term = adapter.h(part.flatten(0, 2), out).unflatten(0, part.shape[:3])
            out.unflatten(0, (-1, layers, each))[:, start:stop].add_(term, alpha=strength)

    def prepared(self, device: torch.device, dtype: torch.dtype, in_order: bool, strengths: Strengths) -> tuple[Products, Others]:
        """The weights on a device, in a dtype: products of the plain LoRAs of all layers, and adapters of other kinds."""
        of_layer: list[list[tuple[Tensor, Tensor]]] = [[] for _ in strengths[0]]
        others: Others = []
        for adapter, shares in zip(self.adapters, strengths):
            if adapter is None:
                continue
            if in_order and self.pointwise and isinstance(adapter, LoRAAdapter) and adapter.weights[CORE] is None:
                down, up = plain_product(adapter)
                for pairs, share in zip(of_layer, shares):
                    if share:
                        pairs.append((down, up if share == 1 else share * up))
                continue
            moved = copy.copy(adapter)
            moved.weights = tuple(part.to(device, dtype) if isinstance(part, Tensor) else part for part in adapter.weights)
            others += [(start, stop, share, moved) for start, stop, share in neighbours(shares)]
        products: Products = []
        for start, stop, _ in neighbours([bool(pairs) for pairs in of_layer]):
            down, up = self.stacked(of_layer[start:stop])
            products.append((start, stop, down.to(device, dtype), up.to(device, dtype)))
        return products, others

    def stacked(self, of_layer: list[list[tuple[Tensor, Tensor]]]) -> tuple[Tensor, Tensor]:
        """The products of some layers as one batch. LoRAs on the same layer are joined into one of higher rank. Lower ranks are
        padded with zeros. The memory layout is the one in which they are multiplied."""
        pairs = [layer[0] if len(layer) == 1 else
                 (torch.cat([down for down, _ in layer]), torch.cat([up for _, up in layer], dim=1)) for layer in of_layer]
        rank = max(len(down) for down, _ in pairs)
        if any(len(down) < rank for down, _ in pairs):
            pairs = [(pad(down, (0, 0, 0, rank - len(down))), pad(up, (0, rank - len(down)))) for down, up in pairs]
        down, up = (torch.stack(parts) for parts in zip(*pairs))
        return (down, up) if self.conv else (down.mT.contiguous(), up.mT.contiguous())


def plain_product(adapter: LoRAAdapter) -> tuple[Tensor, Tensor]:
    """A LoRA's change to a weight as up @ down. Returns down [rank, inputs] and up [outputs, rank], with the scale applied."""
    up, down, alpha = (adapter.weights[index] for index in (UP, DOWN, ALPHA))
    down = down.flatten(1).float()
    return down, up.flatten(1).float() * (1.0 if alpha is None else alpha / len(down))


def neighbours(strengths: Sequence[float]) -> list[tuple[int, int, float]]:
    """Groups neighbouring layers of equal strength as (first, last + 1, strength). Layers of strength 0 are left out."""
    found, start = [], 0
    for strength, group in groupby(strengths):
        stop = start + len(list(group))
        if strength:
            found.append((start, stop, strength))
        start = stop
    return found


def fitted(adapter: WeightAdapterBase, module: nn.Module) -> WeightAdapterBase:
    """A copy of an adapter that knows its module, which ComfyUI's `h` relies on."""
    made, facts = copy.copy(adapter), get_module_type_info(module)
    made.multiplier, made.is_conv, made.conv_dim = 1.0, facts["is_conv"], facts["conv_dim"]
    made.kernel_size, made.in_channels, made.out_channels = facts["kernel_size"], facts["in_channels"], facts["out_channels"]
    made.kw_dict = {key: facts[key] for key in ("stride", "padding", "dilation", "groups")} if made.is_conv else {}
    if isinstance(made, LoKrAdapter) and made.is_conv and made.weights[LOKR_CORE] is None:  # files store the kernel flattened
        made.weights = tuple(part.unflatten(1, (-1, *made.kernel_size)) if number in LOKR_KERNELS and isinstance(part, Tensor)
                             and part.ndim == 2 else part for number, part in enumerate(made.weights))
    if not made.is_conv:  # some files store linear layers as 1 x 1 convolutions
        made.weights = tuple(part.flatten(1) if isinstance(part, Tensor) and part.ndim == 4 else part for part in made.weights)
    return made
