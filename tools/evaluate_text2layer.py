"""Evaluates a Text2Layer starter: its samples for held-out prompts, and its autoencoder's reconstructions."""

import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from layerdiff_core.autoencoder import Layers, unstack
from layerdiff_core.evaluation.judge import Drawn, Judge, Verdict, figures, judge_scenes, worst_objects
from layerdiff_core.evaluation.renders import ceilings, distances, held_out_renderer, scene_layers
from layerdiff_core.evaluation.requests import Request, held_out_requests
from layerdiff_core.training.cat2i import reconstruction_figures
from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.renderer import Renderer

from .bench import machine
from .studio import BATCH, Progress, channels_first, defaults

STARTER = "text2layer_starter.safetensors"
# euler_ancestral is DDIM with eta 1 (Song et al. 2021, equation 16). The paper's own choice is measured as well.
SETTINGS = {"steps": 50, "cfg": 2.5, "sampler_name": "euler_ancestral", "scheduler": "beta", "smg_scale": 0.0}
PAPER_SAMPLER = {"sampler_name": "ddim", "scheduler": "normal"}
RECONSTRUCTED = 500
SHOWN = 24
NAMES = {"psnr_foreground": "psnr_foreground", "psnr_background": "psnr_background", "psnr_composed": "psnr_composed",
         "mask_iou": "reconstruction_mask_iou", "formula_head_difference": "formula_head_difference"}


class StackedStudio:
    """Runs the pack's nodes like a graph would, for several scenes at once."""

    def __init__(self, pack: ModuleType, model_name: str, **changes: Any):
        nodes, codecs = pack.nodes, pack.nodes.host.codecs
        self.prompts, self.empty = nodes.prompts, nodes.latents.LayerDiffEmptyLatent
        self.sample, self.decode = nodes.sample.LayerDiffSMGKSampler, nodes.decode.LayerDiffDecodeLayers
        self.settings = {**defaults(self.sample), **SETTINGS, **changes}
        self.model, self.clip, self.vae, _ = nodes.load.LayerDiffLoadModel.execute(model_name).args
        self.codec = codecs.codec_for(self.vae)
        if not isinstance(self.codec, codecs.StackCodec):
            raise ValueError(f"{model_name} is not a Text2Layer model. Evaluate it without --family.")

    @property
    def layers(self) -> int:
        """The number of layers per scene, including the background."""
        return self.codec.foregrounds + 1

    @torch.inference_mode()
    def draw(self, requests: list[Request], seed: int) -> Drawn:
        """Sample scenes. seed: for the noise of the whole batch."""
        encoded = [self.prompts.encode(self.clip, request.global_prompt)[0] for request in requests]
        negative = self.prompts.encode(self.clip, "")
        positive = [[torch.cat([tokens for tokens, _ in encoded]), {}]]
        latent = self.empty.execute(**{**defaults(self.empty), "vae": self.vae, "layers": self.layers,
                                       "scenes": len(requests)}).args[0]
        sampled = self.sample.execute(model=self.model, positive=positive, negative=negative, latent_image=latent, vae=self.vae,
                                      **{**self.settings, "seed": seed}).args[0]
        _, pictures, coverage, composites, _ = self.decode.execute(**{**defaults(self.decode), "samples": sampled,
                                                                   "vae": self.vae}).args
        own = self.codec.decode(sampled).pictures
        return Drawn(self.layers, channels_first(own), channels_first(pictures), coverage[:, None], channels_first(composites))

    @torch.inference_mode()
    def reconstruct(self, layers: Layers) -> tuple[Layers, torch.Tensor]:
        """Encode and decode layers with the VAE. Returns layers and composed image, in 0..1."""
        latent = self.vae.encode(layers.stack().movedim(1, -1))
        return unstack(self.codec.heads(latent))


def reconstruction(studio: StackedStudio, renderer: Renderer, count: int, seed: int) -> dict[str, float]:
    """The autoencoder's reconstruction metrics on `count` held-out scenes, averaged over the scenes."""
    scenes = [request.scene for request in held_out_requests(renderer.objects, studio.layers, count, seed)]
    totals = dict.fromkeys(NAMES, 0.0)
    for start in range(0, count, BATCH):
        part = scenes[start:start + BATCH]
        layers = scene_layers(renderer, part).to(torch.device("cpu"))
        for name, value in reconstruction_figures(layers, *studio.reconstruct(layers)).items():
            totals[name] += value * len(part) / count
    return {NAMES[name]: round(value, 4) for name, value in totals.items()}


def evaluate(pack: ModuleType, model_name: str | None, judge: Judge, objects: ObjectSet, folder: Path, count: int, seed: int,
             smg_scales: list[float], reconstructed: int = RECONSTRUCTED) \
        -> tuple[dict[str, Any], str, list[tuple[Verdict, Drawn, int]]]:
    """Sample, judge and compare. Returns the contents of evaluation_text2layer.json, its table, and scenes for the sheet."""
    started, model_name = time.monotonic(), model_name or STARTER
    studio = StackedStudio(pack, model_name)
    requests = held_out_requests(objects, studio.layers, count, seed, shuffled=False)
    progress = Progress(count * (2 + len(smg_scales)))
    verdicts, drawings = hold_gallery(studio, judge, requests, seed, progress)

    def again(**changes: Any) -> dict[str, float]:
        found, _ = hold_gallery(StackedStudio(pack, model_name, **changes), judge, requests, seed, progress)
        return overall(judge, found, studio.layers)

    ddim = again(**PAPER_SAMPLER)
    others = {str(scale): again(smg_scale=scale) for scale in smg_scales}
    composites = torch.cat([drawn.composites for drawn in drawings])
    canvas = composites.shape[-1]
    renderer = held_out_renderer(objects, folder, canvas, judge.device)
    print(f"Reconstructing {reconstructed} held-out scenes ...", flush=True)
    measured = reconstruction(studio, renderer, reconstructed, seed)
    print("Measuring the judge itself on real renders ...", flush=True)
    report = {
        **overall(judge, verdicts, studio.layers), **measured, **ceilings(judge, renderer),
        **{name: value[str(studio.layers)] for name, value in
           distances(judge, renderer, {studio.layers: composites}).items()},
        "worst_objects": worst_objects(judge, verdicts), "with_ddim": ddim, "other_smg_scales": others, "layers": studio.layers,
        "scenes": count, "reconstructed_scenes": reconstructed, "seed": seed, "model": model_name,
        "settings": {**studio.settings, "seed": f"{seed} + number of the batch's first scene", "batch": BATCH, "canvas": canvas,
                     "objects": len(objects), "places": len(judge.places)},
        "machine": machine(), "seconds": round(time.monotonic() - started, 1),
    }
    shown = [(verdict, drawings[n // BATCH], n % BATCH) for n, verdict in enumerate(verdicts[:SHOWN])]
    return report, table(report), shown


def hold_gallery(studio: StackedStudio, judge: Judge, requests: list[Request], seed: int,
                 progress: Progress) -> tuple[list[Verdict], list[Drawn]]:
    """Sample and judge one scene per request."""
    verdicts, drawings = [], []
    for start in range(0, len(requests), BATCH):
        part = requests[start:start + BATCH]
        drawings.append(studio.draw(part, seed + start))
        verdicts += judge_scenes(judge, part, drawings[-1])
        progress.add(len(part), studio.layers)
    return verdicts, drawings


def overall(judge: Judge, verdicts: list[Verdict], layers: int) -> dict[str, float]:
    """The judge's metrics with names for Text2Layer, which has only one number of layers."""
    found = {name: values[str(layers)] for name, values in figures(judge, {layers: verdicts}).items()}
    return {"object_accuracy": found.pop("layer_prompt_accuracy"), **found}


def table(report: dict[str, Any]) -> str:
    """The metrics, one per line."""
    figures_of = {name: value for name, value in report.items() if isinstance(value, float) and name != "seconds"}
    return "\n".join(f"{name:<34}{value:>9.4f}" for name, value in figures_of.items())
