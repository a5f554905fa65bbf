"""The training of a LoRA for single layers: its parts."""

import torch
from torch import Tensor, nn

from layerdiff_core.training.lora import Lora, lora_file


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(4, 6)


class UNet(nn.Module):
    """A convolution, a linear layer, and parts that are not changed."""

    def __init__(self) -> None:
        super().__init__()
        self.input_blocks = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1))
        self.attn = Attention()
        self.block = nn.Module()
        self.block.inter_layer, self.time_embed = Attention(), nn.Sequential(nn.Linear(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.attn.to_q(self.input_blocks(x).flatten(2).mT)


def lora_of(unet: nn.Module) -> Lora:
    """A LoRA that is not zero any more."""
    torch.manual_seed(0)
    lora = Lora(unet, 2)
    for name, weights in lora.named_parameters():
        if "lora_up" in name:
            nn.init.normal_(weights)
    return lora


def test_it_begins_without_any_effect() -> None:
    unet, x = UNet(), torch.randn(2, 3, 8, 8)
    with Lora(unet, 2).on_rows(torch.tensor([True, True])):
        changed = unet(x)
    assert torch.equal(changed, unet(x))


def test_it_changes_and_learns_from_its_rows_alone() -> None:
    unet, x = UNet().requires_grad_(False), torch.randn(3, 3, 8, 8)
    lora = lora_of(unet)
    with lora.on_rows(torch.tensor([False, True, False])):
        changed = unet(x)
    plain = unet(x)
    assert torch.equal(changed[[0, 2]], plain[[0, 2]]) and (changed[1] - plain[1]).abs().max() > 0.1
    changed[[0, 2]].sum().backward(retain_graph=True)
    assert not any(weights.grad.any() for weights in lora.parameters())
    changed[1].sum().backward()
    assert all(weights.grad.any() for weights in lora.parameters())


def test_its_file_has_kohyas_names_and_a_scale_of_1() -> None:
    lora = lora_of(UNet())
    tensors = lora_file(lora.state_dict())
    names = ("lora_unet_input_blocks_0", "lora_unet_attn_to_q")
    assert tensors.keys() == {f"{name}.{part}" for name in names for part in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert tensors["lora_unet_input_blocks_0.lora_down.weight"].shape == (2, 3, 3, 3)
    assert tensors["lora_unet_attn_to_q.lora_up.weight"].shape == (6, 2)
    assert all(tensors[f"{name}.alpha"] == 2 for name in names)
