"""Trains a LoRA of a layered model that changes the style of single layers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .layerdiff import Batch, LayerDiff
from .steer import steered_loss

GLOBAL_DROPPED = 0.1
PURE_NOISE = 0.2
UNCHANGED = {"inter_layer", "time_embed", "emb_layers", "position"}
"""Parts of the UNet that get no LoRA: the attention between layers, which a LoRA on single layers cannot change, and what
follows from timestep and position alone."""


class Term(nn.Module):
    """The low-rank change of one linear layer or convolution, in the layout of kohya's files; zero at first (Hu et al. 2021)."""

    def __init__(self, module: Any, rank: int):
        super().__init__()
        is_convolution = isinstance(module, nn.Conv2d)
        if is_convolution:
            self.lora_down: nn.Module = nn.Conv2d(module.in_channels, rank, module.kernel_size, module.stride, module.padding,
                                                  bias=False)
            self.lora_up: nn.Module = nn.Conv2d(rank, module.out_channels, 1, bias=False)
        else:
            self.lora_down = nn.Linear(module.in_features, rank, bias=False)
            self.lora_up = nn.Linear(rank, module.out_features, bias=False)
        nn.init.zeros_(self.lora_up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.lora_up(self.lora_down(x))


class Lora(nn.ModuleDict):
    """A LoRA of all linear layers and convolutions of a UNet, but those in UNCHANGED. The state has a LoRA file's names."""

    def __init__(self, unet: nn.Module, rank: int):
        self.changed = {f"lora_unet_{name.replace('.', '_')}": module for name, module in unet.named_modules()
                        if isinstance(module, (nn.Linear, nn.Conv2d)) and UNCHANGED.isdisjoint(name.split("."))}
        super().__init__({name: Term(module, rank) for name, module in self.changed.items()})

    @contextlib.contextmanager
    def on_rows(self, chosen: Tensor) -> Iterator[None]:
        """Context in which the UNet has the LoRA on some rows. chosen: bool [N], N the number of latents."""
        index = chosen.nonzero()[:, 0]

        def added(term: nn.Module) -> Any:
            return lambda module, given, out: out.index_add(0, index, term(given[0][index]).to(out.dtype))

        hooks = [module.register_forward_hook(added(self[name])) for name, module in self.changed.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def lora_loss(model: LayerDiff, lora: Lora, x0: Tensor, coverage: Tensor, chosen: Tensor, batch: Batch, empty: Tensor,
              alphas: Tensor, prediction: str) -> Tensor:
    """`steered_loss` with the LoRA on the chosen layers, which have the new style; the prompts do not mention it."""

    def predict(noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        with lora.on_rows(chosen):
            return model(noisy, timestep, context, batch.layers)

    return steered_loss(predict, model, x0, coverage, chosen, batch, empty, alphas, prediction, GLOBAL_DROPPED, PURE_NOISE)


def lora_file(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a LoRA file, in half precision: a LoRA's weights, and alpha, which is the rank, so that the scale is 1."""
    tensors = {name: weight.half().contiguous() for name, weight in weights.items()}
    ranks = {name.removesuffix(".lora_down.weight"): float(len(weight)) for name, weight in weights.items()
             if name.endswith(".lora_down.weight")}
    return tensors | {f"{name}.alpha": torch.tensor(rank) for name, rank in ranks.items()}
