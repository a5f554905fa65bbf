"""Sample held-out scenes with a starter model, have the judge rate them, and write benchmarks/results/evaluation.{json,jpg}."""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from layerdiff_core.evaluation.judge import Drawn, Judge, Verdict, figures, judge_scenes, load_judge, worst_objects
from layerdiff_core.evaluation.reconstruction import reconstruction_figures
from layerdiff_core.evaluation.renders import ceilings, distances, held_out_renderer
from layerdiff_core.evaluation.requests import Request, held_out_requests, objects_named
from layerdiff_core.evaluation.traits import References, Traits, references, trait_ceilings, trait_figures, traits_of
from layerdiff_core.whole import write_text
from layerdiff_core.world.objects import ObjectSet, load_objects

from . import evaluate_text2layer, inprocess, setup
from .arguments import a_count, a_number
from .bench import machine
from .evaluation_sheet import write_sheet
from .objects import objects_file
from .studio import BATCH, Progress, channels_first, defaults

LAYERS = (2, 3, 4)
RECORD_FROM = 200
RESULTS, TRIALS = setup.ROOT / "benchmarks" / "results", setup.ROOT / "output"
JUDGE = setup.ROOT / "benchmarks" / "evaluator.safetensors"
SHOWN = 8


class Studio:
    """Runs the pack's nodes like a graph would, for several scenes at once."""

    def __init__(self, pack: ModuleType, model_name: str, **changes: Any):
        nodes = pack.nodes
        self.encode, self.empty = nodes.prompts.LayerDiffEncodePrompts, nodes.latents.LayerDiffEmptyLatent
        self.sample, self.decode = nodes.sample.LayerDiffSMGKSampler, nodes.decode.LayerDiffDecodeLayers
        self.settings, self.encoding = {**defaults(self.sample), **changes}, defaults(self.encode)
        self.model, self.clip, self.vae, self.enhancer = nodes.load.LayerDiffLoadModel.execute(model_name).args

    @property
    def canvas(self) -> int:
        """The image size that the model was trained at, in pixels."""
        side = self.model.model.model_config.unet_config["image_size"]
        return side * self.vae.spacial_compression_encode()

    @torch.inference_mode()
    def through(self, pictures: Tensor) -> Tensor:
        """Encode and decode images [N, 3, H, W] in 0..1 with the VAE."""
        return channels_first(self.vae.decode(self.vae.encode(pictures.movedim(1, -1)))[..., :3])

    @torch.inference_mode()
    def draw(self, requests: list[Request], seed: int) -> Drawn:
        """Sample scenes with the same number of layers. seed: for the noise of the whole batch."""
        return self.drawn(*self.sampled(requests, seed))

    @torch.inference_mode()
    def drawn(self, sampled: dict[str, Any], layers: int) -> Drawn:
        """Decode scenes with this number of layers for the judge."""
        _, pictures, coverage, composites, _ = self.decode.execute(**{**defaults(self.decode), "samples": sampled,
                                                                   "vae": self.vae}).args
        high, wide = pictures.shape[1:3]
        own = self.vae.decode(sampled["samples"].chunk(2, dim=1)[0])[:, :high, :wide, :3]
        return Drawn(layers, channels_first(own), channels_first(pictures), coverage[:, None], channels_first(composites))

    @torch.inference_mode()
    def sampled(self, requests: list[Request], seed: int) -> tuple[dict[str, Any], int]:
        """The LATENT of scenes of one number of layers, and that number."""
        encoded = [self.encoded(request) for request in requests]
        tokens = torch.cat([positive[0][0] for positive, _ in encoded])
        layers = len(requests[0].prompts)
        return self.sampled_from([[tokens, encoded[0][0][0][1]]], encoded[0][1], layers, len(requests), seed), layers

    @torch.inference_mode()
    def encoded(self, request: Request) -> tuple[list[Any], list[Any]]:
        """The positive and negative conditioning of a scene."""
        positive, negative, *_ = self.encode.execute(**{**self.encoding, "clip": self.clip, "enhancer": self.enhancer,
                                                        "global_prompt": request.global_prompt,
                                                        "layer_prompts": request.lines()}).args
        return positive, negative

    @torch.inference_mode()
    def sampled_from(self, positive: list[Any], negative: list[Any], layers: int, scenes: int, seed: int) -> dict[str, Any]:
        """The LATENT of scenes with the same number of layers, sampled from their conditioning."""
        latent = self.empty.execute(vae=self.vae, width=self.canvas, height=self.canvas, layers=layers, scenes=scenes).args[0]
        return dict(self.sample.execute(model=self.model, positive=positive, negative=negative, latent_image=latent,
                                        vae=self.vae, **{**self.settings, "seed": seed}).args[0])


@dataclass
class Gallery:
    """All scenes sampled with one setting, by number of layers."""

    verdicts: dict[int, list[Verdict]] = field(default_factory=dict)
    traits: dict[int, list[Traits]] = field(default_factory=dict)
    composites: dict[int, Tensor] = field(default_factory=dict)
    shown: dict[int, Drawn] = field(default_factory=dict)


def hold_gallery(studio: Studio, judge: Judge, known: References, objects: ObjectSet, each: int, seed: int,
                 progress: Progress, numbers: tuple[int, ...] = LAYERS) -> Gallery:
    """Sample and judge `each` held-out scenes for every number of layers."""
    gallery = Gallery()
    for layers in numbers:
        requests = held_out_requests(objects, layers, each, seed)
        verdicts, traits, drawings = [], [], []
        for start in range(0, each, BATCH):
            part = requests[start:start + BATCH]
            drawn = studio.draw(part, seed + start)
            verdicts += judge_scenes(judge, part, drawn)
            traits += traits_of(known, part, drawn)
            drawings.append(drawn)
            progress.add(len(part), layers)
        gallery.verdicts[layers], gallery.traits[layers] = verdicts, traits
        gallery.composites[layers] = torch.cat([drawn.composites for drawn in drawings])
        gallery.shown[layers] = drawings[0]
    return gallery


def all_figures(judge: Judge, gallery: Gallery) -> dict[str, dict[str, float]]:
    """The metrics of a gallery for each number of layers."""
    return {**figures(judge, gallery.verdicts), **trait_figures(gallery.traits)}


def evaluate(pack: ModuleType, model_name: str, judge: Judge, objects: ObjectSet, folder: Path, scenes: int, seed: int,
             smg_scales: list[float]) -> tuple[dict[str, Any], Gallery]:
    """Sample, judge and compare. Returns the contents of evaluation.json, and the scenes sampled with the default settings."""
    started = time.monotonic()
    each = -(-scenes // len(LAYERS))
    progress = Progress(each * len(LAYERS) * (1 + len(smg_scales)))
    print(f"Sampling {each} scenes each of {', '.join(map(str, LAYERS))} layers ...", flush=True)
    studio = Studio(pack, model_name)
    renderer = held_out_renderer(objects, folder, studio.canvas, judge.device)
    known = references(objects, renderer)
    gallery = hold_gallery(studio, judge, known, objects, each, seed, progress)
    others = {}
    for scale in smg_scales:
        print(f"Sampling the same scenes with smg_scale {scale} ...", flush=True)
        other = hold_gallery(Studio(pack, model_name, smg_scale=scale), judge, known, objects, each, seed, progress)
        others[str(scale)] = all_figures(judge, other)
    print("Measuring the judge itself on real renders ...", flush=True)
    report = {
        **all_figures(judge, gallery), **ceilings(judge, renderer), **trait_ceilings(known, renderer),
        **distances(judge, renderer, gallery.composites),
        "autoencoder": reconstruction_figures(studio.through, renderer, each),
        "worst_objects": worst_objects(judge, [verdict for group in gallery.verdicts.values() for verdict in group]),
        "other_smg_scales": others, "scenes": each * len(LAYERS), "seed": seed, "model": model_name,
        "settings": {**studio.settings, "seed": f"{seed} + number of the batch's first scene", "batch": BATCH,
                     "canvas": studio.canvas, "objects": len(objects), "places": len(judge.places)},
        "machine": machine(), "seconds": round(time.monotonic() - started, 1),
    }
    return report, gallery


def table(report: dict[str, Any]) -> str:
    """The metrics by number of layers, one per line."""
    rows = [f"{'layers':<34}" + "".join(f"{layers:>9}" for layers in LAYERS)]
    for name, values in report.items():
        if isinstance(values, dict) and list(values) == [str(layers) for layers in LAYERS]:
            rows.append(f"{name:<34}" + "".join(f"{value:>9.4f}" for value in values.values()))
    rows += [f"{name:<34}{report[name]:>9.4f}" for name in report if "heldout" in name]
    rows += [f"{'autoencoder: ' + name:<34}{value:>9.4f}" for name, value in report["autoencoder"].items()]
    worst = (f"{name} {facts['accuracy']:.2f} (as {facts['seen_instead']})" for name, facts in report["worst_objects"].items())
    return "\n".join([*rows, "worst objects: " + ", ".join(worst)])


def main(arguments: list[str]) -> int:
    """Evaluate, print the table, and write the results, or write to output/ if there are too few scenes for published results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=a_count(), default=450, help="total number of scenes; fewer than "
                        f"{RECORD_FROM} are a trial run, which is written to output/ and keeps the record")
    parser.add_argument("--seed", type=a_count(0), default=1)
    parser.add_argument("--family", choices=["layerdiff", "text2layer"], default="layerdiff", help="which starter model; with "
                        "text2layer, the autoencoder is measured too, and the files are called evaluation_text2layer")
    parser.add_argument("--model", help="file name of a layered model to use instead of the starter")
    parser.add_argument("--smg-scale", type=a_number(0), nargs="*", default=[], help="also sample all scenes with these values")
    options = parser.parse_args(arguments)
    if options.scenes <= len(LAYERS):
        parser.error(f"--scenes is {options.scenes}, but at least {2 * len(LAYERS)} are required: two for each number of layers.")
    if not JUDGE.exists():
        print(f"{JUDGE.name} is missing from benchmarks/. Train it with python dev.py train-starter evaluator, then export.",
              file=sys.stderr)
        return 1
    inprocess.import_host()
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    pack = inprocess.load_pack()
    data = setup.DEV / "data"
    judge = load_judge(JUDGE, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    objects = objects_named(load_objects(objects_file(data)), judge.objects)
    try:
        if options.family == "text2layer":
            report, text, shown = evaluate_text2layer.evaluate(pack, options.model, judge, objects, data, options.scenes,
                                                               options.seed, options.smg_scale)
            name = "evaluation_text2layer" + (f"_{report['layers']}_layers" if report["layers"] > 2 else "")
        else:
            name = "evaluation"
            report, gallery = evaluate(pack, options.model or pack.nodes.load.STARTER, judge, objects, data, options.scenes,
                                       options.seed, options.smg_scale)
            text = table(report)
            shown = [(verdict, gallery.shown[layers], n) for layers in LAYERS
                     for n, verdict in enumerate(gallery.verdicts[layers][:SHOWN])]
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    folder = RESULTS if options.scenes >= RECORD_FROM else TRIALS
    write_text(folder / f"{name}.json", json.dumps(report, indent=2) + "\n")
    write_sheet(folder / f"{name}.jpg", judge, shown)
    print(f"{text}\nWritten to {folder}: {name}.json, {name}.jpg; {report['seconds']:.0f} s.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
