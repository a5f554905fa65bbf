"""The layer-specific prompt enhancer: layer prompts learn from the global prompt what only it says."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class PromptEnhancer(nn.Module):
    """Cross-attention from a layer prompt's tokens to the global prompt's, then a feed-forward (LayerDiff, section 3).

    Both residuals are gated, the gates zero in a fresh module, so that it then hands the layer prompts through
    unchanged (ours: the paper gives the block, not its start).
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_layer = nn.LayerNorm(dim)
        self.norm_global = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.norm_ff = nn.LayerNorm(dim)
        self.ff = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.gate = nn.Parameter(torch.zeros(2))

    @property
    def dim(self) -> int:
        return self.norm_layer.normalized_shape[0]

    def forward(self, layer_tokens: Tensor, global_tokens: Tensor, strength: float = 1.0) -> Tensor:
        """Enrich layer prompts with the global prompt.

        layer_tokens [N, T, dim] and global_tokens [N or 1, G, dim] as the text encoder gives them; strength 0 returns
        the layer tokens as they are, 1 is what was trained. Returns [N, T, dim].
        """
        if strength == 0.0:
            return layer_tokens
        gate_attention, gate_ff = self.gate.tanh() * strength
        source = self.norm_global(global_tokens).expand(len(layer_tokens), -1, -1)
        q = self._heads(self.to_q(self.norm_layer(layer_tokens)))
        k, v = (self._heads(part) for part in self.to_kv(source).chunk(2, dim=-1))
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = layer_tokens + gate_attention * self.to_out(attended)
        return x + gate_ff * self.ff(self.norm_ff(x))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
