"""Trains text encoder and prompt enhancer, before the UNet, to predict what the global prompt says about each layer."""

import copy

import numpy as np
import torch

from .. import starter, teach
from ..layerdiff import TextSide
from ..run import Run
from ..setting import Setting
from .plan import TELL_EVERY, Plan

EXAMINED = 200


def fit_text(setting: Setting, plan: Plan, run: Run, teacher: teach.Teacher, start: TextSide | None, seed: int) -> None:
    """Train a teacher's text side until the run's time is up, and tell its accuracy on `seed`'s scenes for each layer count.

    start: the text side that the plain prompts shall stay close to, or None if it is new.
    """
    for batch in setting.scenes(plan.batch, run.step, teach.SHARES):
        if run.done:
            break
        with setting.autocast():
            plain = start.context(batch.rows, batch.global_rows)[1].float() if start else None
            loss, figures = teach.teaching_loss(teacher, batch, plain)
        run.update(loss)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=loss.item(), layers=batch.layers, **figures)
    with run.averaged(), setting.autocast(), torch.no_grad():
        for layers in range(2, starter.MAX_LAYERS + 1):
            batch = setting.scene_source(0, seed).batch(layers, EXAMINED, np.random.default_rng(seed)).to(setting.device)
            run.tell(layers=layers, **teach.told_right(teacher(batch)[0], batch))


def held(side: TextSide) -> TextSide:
    """A frozen copy, to stay close to."""
    return copy.deepcopy(side).requires_grad_(False)
