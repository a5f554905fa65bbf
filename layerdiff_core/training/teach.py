"""Teaches the text side before the UNet: to tell from a layer's enriched tokens what the global prompt says of it.

Ours. The binding "this thing of mine" -> "on the left" is hard to learn through the denoising loss alone and easy with a
teacher, as CLIP is taught before a diffusion model sees it. The teacher, a linear head, is thrown away afterwards.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .layerdiff import UNTOLD, Batch, TextSide

HOLD_WEIGHT = 10.0
SHARES = {2: 0.1, 3: 0.45, 4: 0.45}
"""How often a scene to teach with has so many layers: with one object alone nothing is to be told apart."""
TRAITS = ("slot", "size", "light")


class Teacher(nn.Module):
    """Text encoder and enhancer with the head that grades them: for each trait one of three classes, or not told."""

    def __init__(self, side: TextSide, dim: int):
        super().__init__()
        self.side = side
        self.head = nn.Linear(dim, len(TRAITS) * (UNTOLD + 1))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [B, K, traits, classes] from the mean of the enriched tokens, and the plain tokens [B, K, T, dim]."""
        enriched, plain = self.side.context(batch.rows, batch.global_rows)
        return self.head(enriched.mean(2)).float().unflatten(-1, (len(TRAITS), UNTOLD + 1)), plain


def teaching_loss(teacher: Teacher, batch: Batch, held: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of what is told of each layer, and the share of right answers where something is told.

    held [B, K, T, dim]: plain tokens as a UNet knows them; leaving them costs their mean square.
    """
    logits, plain = teacher(batch)
    loss = F.cross_entropy(logits.flatten(0, 2), batch.told.flatten())
    if held is not None:
        loss = loss + HOLD_WEIGHT * (plain.float() - held).square().mean()
    return loss, told_right(logits, batch)


def told_right(logits: Tensor, batch: Batch) -> dict[str, float]:
    """For each trait the share of right answers where something is told; 0 where nothing is."""
    right = (logits.argmax(-1) == batch.told).float()
    is_told = (batch.told != UNTOLD).float()
    shares = (right * is_told).sum((0, 1)) / is_told.sum((0, 1)).clamp_min(1)
    return dict(zip(TRAITS, shares.tolist()))
