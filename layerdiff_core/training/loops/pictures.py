"""Trains the starter's autoencoder, or its decoder alone, with a discriminator that joins later."""

import time
from typing import Any

import torch
from torch import Tensor

from ...world.renderer import Ring
from .. import losses, vae
from ..run import Run
from ..setting import Setting
from ..sheets import autoencoder_sheet
from .plan import TELL_EVERY, Plan, update

CROPS_UNTIL = 0.75
CRITIC_RATE = 3e-4
RENEWED = 16
"""One of this many foregrounds of a batch is drawn anew."""


def fit_pictures(setting: Setting, plan: Plan, run: Run, network: Any, seed: int, ring: int, adversarial_from: float,
                 latent_std: Tensor | None = None) -> None:
    """Train an autoencoder, or its decoder, until the run's time is up: first on crops, at the end on whole canvases.

    run: of the part to train. ring: number of foregrounds kept in memory. adversarial_from: the share of the budget after which
    the discriminator is used. latent_std: as in AutoencoderObjective. Sheets are written next to the run's state.
    """
    renderer = setting.renderer(seed + run.step)
    drawings = Ring(renderer, ring)
    batches, whole = (vae.pictures(renderer, drawings, count) for count in (plan.batch, plan.batch // 4))
    critic = Run(setting.placed(losses.PatchDiscriminator()), run.path.with_name(f"{run.path.stem}_critic.safetensors"),
                 plan.seconds, CRITIC_RATE)
    objective = vae.AutoencoderObjective(network, critic.model, setting.placed(losses.RandomFeatures()), latent_std)
    shown, sheet_at = next(whole).pixels, time.monotonic()

    def draw() -> None:
        with run.averaged(), setting.autocast():
            autoencoder_sheet(network, shown, run.path.with_suffix(".png"))

    while not run.done:
        drawings.renew(plan.batch // RENEWED)
        in_crops = run.progress < CROPS_UNTIL
        batch = vae.crop(next(batches), setting.canvas // 2, renderer.generator) if in_crops else next(whole)
        batch.pixels = batch.pixels.contiguous(memory_format=torch.channels_last)
        step = update(setting, objective, run, critic, batch, run.progress >= adversarial_from)
        if run.step % TELL_EVERY == 0:
            run.tell(**{name: value.item() for name, value in step.figures.items()})
            if run.saved > critic.saved:
                critic.save()
        if time.monotonic() - sheet_at > plan.sheet_seconds:
            draw()
            sheet_at = time.monotonic()
    draw()
    critic.save()
