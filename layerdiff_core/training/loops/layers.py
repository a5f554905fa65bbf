"""Trains a LayerDiff UNet with its text side on a pool of latents (arXiv 2403.11929)."""

import time
from typing import Any

import torch
from torch import Tensor

from .. import diffusion, starter
from ..layerdiff import LayerDiff, layerdiff_loss
from ..pool import LatentPool
from ..run import Run
from ..setting import Setting
from ..sheets import scene_sheet
from .plan import Plan, Steps


def fit_layers(setting: Setting, plan: Plan, run: Run, parts: LayerDiff, decoder: Any, pool: LatentPool,
               statistics: tuple[Tensor, Tensor], pure_noise: float) -> None:
    """Train all parts until the run's time is up. Sheets of held-out scenes are written next to the run's state.

    decoder: the frozen autoencoder, for the sheets. statistics: mean and standard deviation of its latents, [C] each.
    pure_noise: the share of scenes that are seen as pure noise.
    """
    alphas = diffusion.sd_alphas_cumprod(setting.device)
    empty = torch.from_numpy(setting.vocabulary.rows("")).to(setting.device)
    steps, sheet_at = Steps(setting, run), time.monotonic()

    def draw() -> None:
        with run.averaged(), setting.autocast():
            scene_sheet(parts, decoder, *statistics, setting.objects, setting.vocabulary, alphas,
                        run.path.with_name(f"scenes_{run.step}.png"))

    for batch in setting.scenes(plan.batch, run.step):
        if run.done:
            break
        x0, coverage = pool.scenes(batch.place, batch.side, batch.foregrounds)
        with setting.autocast():
            loss = layerdiff_loss(parts, x0, coverage, batch, empty, alphas, starter.ARCHITECTURE["prediction"], pure_noise)
        steps.take(loss)
        if time.monotonic() - sheet_at > plan.sheet_seconds:
            draw()
            sheet_at = time.monotonic()
    draw()
