"""Inter-layer attention: the part of LayerDiff's layer-collaborative block that lets layers see each other."""

import math
from typing import Any

import torch
from torch import Tensor, nn

INDEX_DIM = 32


def index_features(layers: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoidal features of the layer index, which work for any number of layers.

    Returns [layers, 32], in -1..1; row 0 is the background. Ours: the paper does not say how layers are numbered.
    Wavelengths increase geometrically from 4 to 64 layers.
    """
    wavelength = 4.0 * torch.logspace(0, 4, INDEX_DIM // 2, base=2.0, device=device)
    angle = torch.arange(layers, device=device)[:, None] * (2 * math.pi / wavelength)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).to(dtype)


def across_layers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention among the K layers at each position. q, k, v: [scenes, K, tokens, heads, channels per head] -> the same shape."""
    # Scaled first and summed in float32, because the products of a wide head overflow in half precision.
    q = q * q.shape[-1] ** -0.5
    # With 2 to 8 tokens and a huge batch, products broadcast over the layers are faster than the fused kernels.
    weight = torch.stack([(q * key).sum(-1, keepdim=True, dtype=torch.float32) for key in k.split(1, dim=1)])
    weight = weight.softmax(0).to(v.dtype)
    values = v.split(1, dim=1)
    out = weight[0] * values[0]
    for share, value in zip(weight[1:], values[1:]):
        out = torch.addcmul(out, share, value)
    return out


class InterLayerAttention(nn.Module):
    """Attention among the K tokens at the same position of the K layers (LayerDiff, section 3, "inter-layer").

    operations: torch.nn or ComfyUI's replacement for it, which casts and offloads weights. The output projection of a new
    module is zero, so that adding the result changes nothing before training. The inner width is half that of the block
    (ours: the paper gives no width; two to eight tokens need no more, and it halves the cost).
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
        """Initialise the weights: random features and a zero output projection."""
        # Not norm.reset_parameters(), which does nothing in ComfyUI's layers.
        nn.init.ones_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)
        for linear in (self.index, self.to_qkv):
            nn.init.normal_(linear.weight, std=linear.weight.shape[1] ** -0.5)
        nn.init.zeros_(self.index.bias)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """[scenes * layers, tokens, dim], layers innermost -> the same shape, to be added to x.

        index: the result of index_features for these layers, [layers, 32].
        """
        h = self.norm(x).unflatten(0, (-1, len(index))) + self.index(index)[:, None]
        q, k, v = self.to_qkv(h).unflatten(-1, (3, self.heads, -1)).unbind(3)
        return self.to_out(across_layers(q, k, v).flatten(3).flatten(0, 1))
