"""Trains a Text2Layer UNet with its text encoder on the latents of a frozen CaT2I-AE (arXiv 2307.09781)."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...whole import write_text
from ...world.scenes import sample_scene
from ...world.words import captions
from .. import cat2i, diffusion, text2layer
from ..layerdiff import sample
from ..run import Run
from ..setting import Setting
from ..sheets import save_rows
from .composition import scenes, write_average
from .plan import Plan, Steps

UNET_SEED, FILL_SEED = 202, 204
UNET_FILE = "unet_average.safetensors"
SHEET_PROMPTS = 8


def fit_unet(setting: Setting, plan: Plan, run: Run, model: text2layer.Text2Layer, decoder: Any, facts: dict[str, Any],
             foregrounds: int, variants: int, kept: int, refresh: int, seed: int) -> None:
    """Train UNet and text encoder until the run's time is up, and write their averaged weights next to the run's state.

    decoder, facts: the autoencoder and what is stored with it. variants: drawings per object and state. kept: number of encoded
    scenes kept; refresh: how many of them are replaced at each step.
    """
    mean, std = (torch.tensor(facts[name], device=setting.device).view(1, -1, 1, 1) for name in ("mean", "std"))
    started, empty = time.monotonic(), torch.from_numpy(setting.vocabulary.rows("")).to(setting.device)
    renderer = setting.renderer(UNET_SEED + seed)
    pool = text2layer.ScenePool(renderer, renderer.draw_all(variants), decoder, kept, mean.numel(), len(empty))
    with setting.autocast():
        for batch in scenes(setting, foregrounds, refresh, FILL_SEED + seed):
            pool.add(batch)
            if pool.filled >= kept // 8:
                break
    print(f"{pool.filled} scenes in {time.monotonic() - started:.0f} s", flush=True)
    batches = scenes(setting, foregrounds, refresh, run.step + seed)
    alphas = diffusion.sd_alphas_cumprod(setting.device)
    steps, sheet_at = Steps(setting, run), time.monotonic()

    def write() -> None:
        with run.averaged(), setting.autocast():
            unet_sheet(setting, model, decoder, foregrounds, (mean, std), empty, alphas, run.path.with_name("scenes.png"))
            write_average(model, run.path.with_name(UNET_FILE), step=run.step)

    while not run.done:
        with setting.autocast():
            pool.add(next(batches))
            z, rows, weights = pool.sample(plan.batch)
            loss = text2layer.text2layer_loss(model, (z - mean) / std, rows, weights, empty, alphas,
                                              facts["architecture"]["prediction"])
        steps.take(loss)
        if time.monotonic() - sheet_at > plan.sheet_seconds:
            write()
            sheet_at = time.monotonic()
    write()
    run.save()


@torch.no_grad()
def unet_sheet(setting: Setting, model: Any, decoder: Any, foregrounds: int,
               statistics: tuple[Tensor, Tensor], empty: Tensor, alphas: Tensor, path: Path) -> None:
    """Save samples for eight held-out prompts, one per column, with the prompts in a text file next to the image."""
    rng = np.random.default_rng(1)
    prompts = []
    for _ in range(SHEET_PROMPTS):
        scene = sample_scene(rng, setting.objects, foregrounds + 1, heldout=True)
        prompts.append(captions(scene, setting.objects, rng, shuffled=False)[0])
    rows = torch.from_numpy(np.array([setting.vocabulary.rows(prompt) for prompt in prompts])).to(setting.device)
    mean, std = statistics
    side = text2layer.CANVAS // 8
    z = sample(model, model.encode(rows), model.encode(empty[None]), (len(rows), mean.numel(), side, side), 1, 25, 4.0,
               alphas, torch.Generator(setting.device).manual_seed(1))
    save_rows(text2layer.sheet_rows(*cat2i.decode(decoder, z * std + mean)), path)
    write_text(path.with_suffix(".txt"), "\n".join(prompts))
