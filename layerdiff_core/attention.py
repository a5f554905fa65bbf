"""Inter-layer attention: the part of LayerDiff's layer-collaborative block that lets layers see each other."""

import math
from typing import Any

import torch
from torch import Tensor, nn

INDEX_DIM = 32


def index_features(layers: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoidal features of the layer index, so that any number of layers can be asked for.

    Returns [layers, 32], in -1..1; row 0 is the background. Ours: the paper does not say how layers are numbered;
    wavelengths run geometrically from 4 to 64 layers.
    """
    wavelength = 4.0 * torch.logspace(0, 4, INDEX_DIM // 2, base=2.0, device=device)
    angle = torch.arange(layers, device=device)[:, None] * (2 * math.pi / wavelength)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).to(dtype)


class InterLayerAttention(nn.Module):
    """Attention between the K tokens that stand at one position of the K layers (LayerDiff, section 3, "inter-layer").

    `operations` is torch.nn or ComfyUI's drop-in for it, which casts and offloads weights. The output projection is
    zero in a fresh module, so that adding the result changes nothing before training. Inside it is half as wide as the
    block (ours: the paper gives no width; two to eight tokens need no more, and it halves the cost).
    """

    def __init__(self, dim: int, heads: int, operations: Any = nn, dtype: torch.dtype | None = None,
                 device: Any = None):
        super().__init__()
        self.heads = heads
        self.norm = operations.LayerNorm(dim, dtype=dtype, device=device)
        self.index = operations.Linear(INDEX_DIM, dim, dtype=dtype, device=device)
        self.to_qkv = operations.Linear(dim, 3 * (dim // 2), bias=False, dtype=dtype, device=device)
        self.to_out = operations.Linear(dim // 2, dim, dtype=dtype, device=device)

    def reset_parameters(self) -> None:
        """Fresh weights: random features, a zero output projection."""
        # Not norm.reset_parameters(): ComfyUI's layers have an empty one.
        nn.init.ones_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)
        for linear in (self.index, self.to_qkv):
            nn.init.normal_(linear.weight, std=linear.weight.shape[1] ** -0.5)
        nn.init.zeros_(self.index.bias)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """[scenes * layers, tokens, dim], layers innermost -> the same shape, to be added to x.

        index: what index_features gives for these layers, [layers, 32].
        """
        h = self.norm(x).unflatten(0, (-1, len(index))) + self.index(index)[:, None]
        q, k, v = self.to_qkv(h).unflatten(-1, (3, self.heads, -1)).unbind(3)
        # Scaled first and summed in float32: in half precision the products of a wide head overflow.
        q = q * q.shape[-1] ** -0.5
        # Sequences of 2 to 8 tokens and a huge batch: products broadcast over the layers beat the fused kernels.
        weight = torch.stack([(q * key).sum(-1, keepdim=True, dtype=torch.float32) for key in k.split(1, dim=1)])
        weight = weight.softmax(0).to(v.dtype)
        values = v.split(1, dim=1)
        out = weight[0] * values[0]
        for share, value in zip(weight[1:], values[1:]):
            out = torch.addcmul(out, share, value)
        return self.to_out(out.flatten(3).flatten(0, 1))
