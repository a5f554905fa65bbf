"""The layer-specific prompt enhancer: layer prompts learn from the global prompt what only it says."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

OPEN_GATE = 1.0


class PromptReader(nn.Module):
    """A block of self-attention over the global prompt's tokens in both directions, then a feed-forward.

    Ours: CLIP reads from left to right, so its token of "fox" does not know the "on the left" behind it, and no query could
    find there what belongs to the fox.
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
        """[N, G, dim] -> [N, G, dim], each token knowing of all others."""
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(self.norm(x)).chunk(3, dim=-1))
        x = x + self.to_out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.ff(self.norm_ff(x))


class PromptEnhancer(nn.Module):
    """Cross-attention from a layer prompt's tokens to the global prompt's, then a feed-forward (LayerDiff, section 3).

    Both residuals are gated, the gates zero in a fresh module, so that it then hands the layer prompts through
    unchanged (ours: the paper gives the block, not its start). both_ways: a `PromptReader` goes over the global tokens
    first; files that were written before it was there have none. text_encoder: the mark of the one that it learnt with, where
    there is one.
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
        """Let the global prompt in from the start, for a model that is trained from scratch: gates that begin at zero stayed
        at 0.04 and 0.02 through a whole training (ours)."""
        nn.init.constant_(self.gate, OPEN_GATE)

    def forward(self, layer_tokens: Tensor, global_tokens: Tensor, strength: float = 1.0) -> Tensor:
        """Enrich layer prompts with the global prompt.

        layer_tokens [N, T, dim] and global_tokens [N or 1, G, dim] as the text encoder gives them; strength 0 returns
        the layer tokens as they are, 1 is what was trained. Returns [N, T, dim].
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
    """Two linear layers, four times as wide between."""
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, T, dim] -> [N, heads, T, dim / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
