"""LoRA files of random numbers, of each kind, in the names that trainers give them."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MODULES = ("attn1.to_q", "attn2.to_k", "attn2.to_v", "ff.net.0.proj", "proj_in", "in_layers.2", "emb_layers.1", "op")
"""Ends of the names of the modules that get a term: linear ones over tokens, text and time, convolutions of 1 x 1, 3 x 3 and of
stride 2."""
RANK = 4


def modules_of(network: nn.Module, ends: Iterable[str] = MODULES) -> dict[str, nn.Module]:
    """A UNet's modules whose names end so."""
    return {name: module for name, module in network.named_modules()
            if name.endswith(tuple(ends)) and isinstance(module, (nn.Linear, nn.Conv2d)) and ".inter_layer." not in name}


def lora(network: nn.Module, kind: str = "lora", seed: int = 7, scale: float = 0.5,
         ends: Iterable[str] = MODULES) -> dict[str, Tensor]:
    """A file's tensors for a UNet. kind: "lora" (with convolutions, LoCon), "tucker", "loha", "lokr", "lokr in parts"."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (scale / max(1, torch.Size(shape[1:]).numel())) ** 0.5

    for name, module in modules_of(network, ends).items():
        shape = module.weight.shape
        out, inputs, rest = shape[0], shape[1], shape[2:]
        key = "lora_unet_" + name.replace(".", "_")
        match kind:
            case "lora":
                found = {"lora_up.weight": random(out, RANK, *[1] * len(rest)), "lora_down.weight": random(RANK, inputs, *rest)}
            case "tucker":
                if not rest:
                    continue
                found = {"lora_up.weight": random(out, RANK, 1, 1), "lora_mid.weight": random(RANK, RANK, *rest),
                         "lora_down.weight": random(RANK, inputs, 1, 1)}
            case "loha":
                size = inputs * rest.numel()
                found = {f"hada_w{number}_{part}": random(*((out, RANK) if part == "a" else (RANK, size))) * 2
                         for number in (1, 2) for part in "ab"}
            case "lokr":
                found = {"lokr_w1": random(4, 4), "lokr_w2": random(out // 4, inputs // 4, *rest)}
            case "lokr in parts":
                found = {"lokr_w1": 3 * random(4, 4), "lokr_w2_a": random(out // 4, RANK),
                         "lokr_w2_b": random(RANK, inputs // 4 * rest.numel())}
            case _:
                raise ValueError(kind)
        tensors |= {f"{key}.{part}": tensor for part, tensor in found.items()}
        tensors[f"{key}.alpha"] = torch.tensor(RANK / 2)
    return tensors
