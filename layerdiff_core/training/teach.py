"""Trains the text side before the UNet, to predict from a layer's enhanced tokens what the global prompt says about it.

Ours. The association "my object" -> "on the left" is hard to learn from the denoising loss alone but easy with a teacher, just
as CLIP is trained before a diffusion model uses it. The teacher, a linear head, is discarded afterwards.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .layerdiff import UNTOLD, Batch, TextSide

HOLD_WEIGHT = 10.0
SHARES = {2: 0.1, 3: 0.45, 4: 0.45}
"""How often a scene has each number of layers. With a single object there would be little to tell apart."""
TRAITS = ("slot", "size", "light")


class Teacher(nn.Module):
    """Text encoder and enhancer with the teaching head: for each trait, one of three classes or "not told"."""

    def __init__(self, side: TextSide, dim: int):
        super().__init__()
        self.side = side
        self.head = nn.Linear(dim, len(TRAITS) * (UNTOLD + 1))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [B, K, traits, classes] from the mean of the enriched tokens, and the plain tokens [B, K, T, dim]."""
        enriched, plain = self.side.context(batch.rows, batch.global_rows)
        return self.head(enriched.mean(2)).float().unflatten(-1, (len(TRAITS), UNTOLD + 1)), plain


def teaching_loss(teacher: Teacher, batch: Batch, held: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of what the prompt tells about each layer, and the share of correct answers where it tells something.

    held: [B, K, T, dim], the plain tokens that a UNet was trained with. The mean squared distance to them is added to the loss.
    """
    logits, plain = teacher(batch)
    loss = F.cross_entropy(logits.flatten(0, 2), batch.told.flatten())
    if held is not None:
        loss = loss + HOLD_WEIGHT * (plain.float() - held).square().mean()
    return loss, told_right(logits, batch)


def told_right(logits: Tensor, batch: Batch) -> dict[str, float]:
    """For each trait, the share of correct answers where the prompt tells something; 0 if it never does."""
    right = (logits.argmax(-1) == batch.told).float()
    is_told = (batch.told != UNTOLD).float()
    shares = (right * is_told).sum((0, 1)) / is_told.sum((0, 1)).clamp_min(1)
    return dict(zip(TRAITS, shares.tolist()))
