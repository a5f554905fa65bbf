"""Trains CaT2I-AE, the composition-aware autoencoder of Text2Layer (arXiv 2307.09781), or its decoder alone."""

import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from ...autoencoder import Layers
from ...whole import write_tensors
from .. import cat2i, losses, text2layer
from ..layerdiff import Batch
from ..run import Run
from ..setting import Setting
from ..sheets import save_rows
from .plan import TELL_EVERY, Plan, update

AUTOENCODER_SEED, FRESH_SEED, DECODER_SEED = 201, 203, 205
ADVERSARIAL_FROM, NORMS_SETTLE_AT = 0.7, 0.8
CRITIC_RATE, DECODER_CRITIC_RATE = 3e-4, 1e-4
CRITIC_FILE, AVERAGE_FILE = "discriminator.safetensors", "autoencoder_average.safetensors"
FRESH_BATCH, FRESH_BATCHES = 16, 8


def scenes(setting: Setting, foregrounds: int, count: int, seed: int) -> Iterator[Batch]:
    """Endless batches of `count` scenes, assembled by a worker process."""
    source = text2layer.FixedScenes(setting.objects, setting.bank["place"], setting.bank["light"], setting.vocabulary,
                                    foregrounds=foregrounds, count=count, seed=seed)
    return iter(DataLoader(source, batch_size=None, num_workers=1, prefetch_factor=4))


def fit_autoencoder(setting: Setting, plan: Plan, run: Run, model: Any, architecture: dict[str, Any], foregrounds: int,
                    variants: int, seed: int, **terms: Any) -> None:
    """Train an autoencoder of stacked layers until the run's time is up, and write its averaged weights next to the run's state.

    variants: drawings per object and state. terms: those of the objective, for comparisons.
    """
    renderer = setting.renderer(AUTOENCODER_SEED + seed)
    drawings = renderer.draw_all(variants)
    fresh = fresh_scenes(setting, foregrounds)
    critic = Run(setting.placed(losses.PatchDiscriminator()), run.path.with_name(CRITIC_FILE), plan.seconds, CRITIC_RATE)
    objective = cat2i.AutoencoderObjective(model, critic.model, losses.RandomFeatures().to(setting.device), **terms)
    batches = (text2layer.draw(renderer, drawings, batch) for batch in scenes(setting, foregrounds, plan.batch, run.step + seed))
    settled, sheet_at = not cat2i.norms(model), time.monotonic()  # a plain autoencoder has no batch norms

    def write() -> None:
        with run.averaged(), setting.autocast():
            model.train(False)
            run.tell(**autoencoder_sheet(model, fresh, run.path.with_suffix(".png")))
            z = torch.cat([cat2i.encode(model, layers).cpu() for layers in fresh])
            write_average(model, run.path.with_name(AVERAGE_FILE), architecture=architecture,
                          mean=z.mean((0, 2, 3)).tolist(), std=z.std((0, 2, 3)).tolist())
            model.train(not settled)

    while not run.done:
        progress = run.progress
        if progress >= NORMS_SETTLE_AT and not settled:
            with setting.autocast():
                cat2i.settle_norms(model, list(itertools.islice(batches, 16)))
            settled = True
        layers = next(batches)
        step = update(setting, objective, run, critic, layers, progress >= ADVERSARIAL_FROM)
        if run.step % TELL_EVERY == 0:
            figures = cat2i.reconstruction_figures(layers, step.found, step.image)
            run.tell(loss=step.reconstruction.item(), kl=step.kl.item(), **figures)
            if run.saved > critic.saved:
                critic.save()
        if time.monotonic() - sheet_at > plan.sheet_seconds:
            write()
            sheet_at = time.monotonic()
    if not settled:  # a finished run was started again, and its state has no statistics
        with setting.autocast():
            cat2i.settle_norms(model, list(itertools.islice(batches, 16)))
        settled = True
    write()
    run.save()
    critic.save()


def fit_decoder(setting: Setting, plan: Plan, run: Run, model: Any, facts: dict[str, Any], foregrounds: int,
                variants: int) -> None:
    """Train only CaT2I-AE's decoder, on noisy latents. The latents do not change, so models trained on them remain valid.

    run: of the parts returned by `decoder_of`. facts: those stored with the autoencoder.
    """
    renderer = setting.renderer(DECODER_SEED)
    drawings = renderer.draw_all(variants)
    critic = Run(setting.placed(losses.PatchDiscriminator()), run.path.with_name(CRITIC_FILE), math.inf, DECODER_CRITIC_RATE)
    objective = cat2i.AutoencoderObjective(model, critic.model, losses.RandomFeatures().to(setting.device),
                                           latent_std=torch.tensor(facts["std"], device=setting.device).view(1, -1, 1, 1))
    batches = scenes(setting, foregrounds, plan.batch, run.step + DECODER_SEED)
    while not run.done:
        step = update(setting, objective, run, critic, text2layer.draw(renderer, drawings, next(batches)), adversarial=True)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=step.reconstruction.item())
    with run.averaged(), setting.autocast():
        run.tell(**autoencoder_sheet(model, fresh_scenes(setting, foregrounds), run.path.with_suffix(".png")))
        write_average(model, run.path.with_name(AVERAGE_FILE), **facts)
    run.save()


def decoder_of(model: Any) -> nn.ModuleDict:
    """The parts of CaT2I-AE after its latents."""
    return nn.ModuleDict({name: model.get_submodule(name) for name in ("decoder", "post_quant_conv", "heads")})


def fresh_scenes(setting: Setting, foregrounds: int) -> list[Layers]:
    """Newly drawn batches of training scenes, for evaluation."""
    renderer = setting.renderer(FRESH_SEED)
    drawings = renderer.draw_all(1)
    batches = itertools.islice(scenes(setting, foregrounds, FRESH_BATCH, FRESH_SEED), FRESH_BATCHES)
    return [text2layer.draw(renderer, drawings, batch) for batch in batches]


def autoencoder_sheet(model: Any, fresh: list[Layers], path: Path) -> dict[str, float]:
    """Mean metrics over new scenes. Saves a sheet with the first ones above their reconstructions."""
    totals: dict[str, float] = {}
    for layers in fresh:
        figures = cat2i.reconstruction_figures(layers, *cat2i.decode(model, cat2i.encode(model, layers)))
        for name, value in figures.items():
            totals[f"fresh_{name}"] = totals.get(f"fresh_{name}", 0.0) + value / len(fresh)
    few = Layers(fresh[0].foregrounds[:8], fresh[0].background[:8], fresh[0].masks[:8])
    pairs = zip(text2layer.sheet_rows(few, few.composite()),
                text2layer.sheet_rows(*cat2i.decode(model, cat2i.encode(model, few))))
    save_rows([row for pair in pairs for row in pair], path)
    return totals


def write_average(model: nn.Module, path: Path, **facts: object) -> None:
    """Write the averaged weights, which `model` currently has, in half precision. Statistics of batch norms are not converted."""
    tensors = {name: value.half() if value.is_floating_point() and "running" not in name else value
               for name, value in model.state_dict().items()}
    write_tensors(path, tensors, {"facts": json.dumps(facts)})
