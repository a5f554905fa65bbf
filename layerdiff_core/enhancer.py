"""The layer-specific prompt enhancer, which adds information from the global prompt to the layer prompts."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

OPEN_GATE = 1.0


class PromptReader(nn.Module):
    """Bidirectional self-attention over the global prompt's tokens, then a feed-forward block.

    Ours: CLIP is causal, so its token for "fox" does not contain the "on the left" that follows it, and a query for the fox
    would not find it.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.norm_ff = nn.LayerNorm(dim)
        self.ff = feed_forward(dim)

    def forward(self, x: Tensor) -> Tensor:
        """[N, G, dim] -> [N, G, dim], where each token has attended to all others."""
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(self.norm(x)).chunk(3, dim=-1))
        x = x + self.to_out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.ff(self.norm_ff(x))


class PromptEnhancer(nn.Module):
    """Cross-attention from a layer prompt's tokens to the global prompt's, then a feed-forward block (LayerDiff, section 3).

    Both residuals are gated. The gates of a new module are zero, so that it passes the layer prompts through unchanged (ours:
    the paper gives the block, not its initialisation). both_ways: apply a `PromptReader` to the global tokens first; older
    files have none. text_encoder: the mark of the text encoder it was trained with, if it has one.
    """

    text_encoder: Any = None

    def __init__(self, dim: int, heads: int, both_ways: bool = False):
        super().__init__()
        self.heads = heads
        self.reader: nn.Module = PromptReader(dim, heads) if both_ways else nn.Identity()
        self.norm_layer = nn.LayerNorm(dim)
        self.norm_global = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.norm_ff = nn.LayerNorm(dim)
        self.ff = feed_forward(dim)
        self.gate = nn.Parameter(torch.zeros(2))

    @property
    def dim(self) -> int:
        return self.norm_layer.normalized_shape[0]

    def open_gates(self) -> None:
        """Initialise the gates so that the global prompt has an effect from the start, for a model trained from scratch.
        Ours: gates that started at zero only reached 0.04 and 0.02 in a whole training run."""
        nn.init.constant_(self.gate, OPEN_GATE)

    def forward(self, layer_tokens: Tensor, global_tokens: Tensor, strength: float = 1.0) -> Tensor:
        """Enrich layer prompts with the global prompt.

        layer_tokens: [N, T, dim], global_tokens: [N or 1, G, dim], both from the text encoder. strength: 0 returns the layer
        tokens unchanged, 1 is as trained. Returns [N, T, dim].
        """
        if strength == 0.0:
            return layer_tokens
        gate_attention, gate_ff = self.gate.tanh() * strength
        source = self.norm_global(self.reader(global_tokens)).expand(len(layer_tokens), -1, -1)
        q = split_heads(self.to_q(self.norm_layer(layer_tokens)), self.heads)
        k, v = (split_heads(part, self.heads) for part in self.to_kv(source).chunk(2, dim=-1))
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = layer_tokens + gate_attention * self.to_out(attended)
        return x + gate_ff * self.ff(self.norm_ff(x))


def feed_forward(dim: int) -> nn.Sequential:
    """Two linear layers with a hidden width of four times dim."""
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, T, dim] -> [N, heads, T, dim / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
