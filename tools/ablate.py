"""Run the paper's ablations on a starter model: sample the same held-out scenes with parts of the method switched off.

Writes benchmarks/results/ablations.json after every run, and resumes from it. A run is one variant with one seed.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from layerdiff_core.evaluation.fid import frechet_distance, picture_features
from layerdiff_core.evaluation.judge import Judge, load_judge
from layerdiff_core.evaluation.renders import SEED, held_out_renderer, render
from layerdiff_core.evaluation.requests import Request, objects_named
from layerdiff_core.evaluation.traits import references
from layerdiff_core.whole import write_text
from layerdiff_core.world.objects import ObjectSet, load_objects
from layerdiff_core.world.renderer import Renderer

from . import inprocess, setup
from .arguments import a_count
from .bench import machine
from .evaluate import JUDGE, LAYERS, RESULTS, Progress, Studio, all_figures, hold_gallery
from .objects import objects_file
from .significance import compare

RESULT = RESULTS / "ablations.json"
UNTRAINED = (6,)
FIRST_SEED = 40_000
"""Far from the evaluation's own seeds, so that no setting is chosen on the scenes of the published results."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Differences from the nodes' defaults: sampler settings, and the parts of the method that are switched off."""

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    enhancer: float = 1.0
    inter_layer: bool = True
    layer_prompts: bool = True
    sag: bool = False


DEFAULT = "default"
VARIANTS = {
    DEFAULT: Variant(),
    "cfg": Variant({"smg_scale": 0.0}),
    "sag": Variant({"smg_scale": 0.0}, sag=True),
    "smg_scale_1": Variant({"smg_scale": 1.0}),
    "smg_scale_2": Variant({"smg_scale": 2.0}),
    "smg_first_half": Variant({"smg_end": 0.5}),
    "no_enhancer": Variant(enhancer=0.0),
    "no_inter_layer_attention": Variant(inter_layer=False),
    "no_layer_prompts": Variant(layer_prompts=False),
}


class AblationStudio(Studio):
    """The pack's nodes with a variant's parts switched off. Each studio loads the model again, so that it can change weights."""

    def __init__(self, pack: ModuleType, model_name: str, variant: Variant):
        super().__init__(pack, model_name, **variant.settings)
        self.layer_prompts = variant.layer_prompts
        self.encoding = {**self.encoding, "enhancer_strength": variant.enhancer}
        if variant.sag:
            from comfy_extras.nodes_sag import SelfAttentionGuidance

            options = {entry.id: entry.default for entry in SelfAttentionGuidance.define_schema().inputs[1:]}
            self.model = SelfAttentionGuidance.execute(self.model, **options)[0]
        if not variant.inter_layer:
            silence_inter_layer_attention(self.model.model.diffusion_model)

    def draw(self, requests: list[Request], seed: int) -> Any:
        """As in Studio. Without layer prompts, every layer gets the global prompt."""
        if not self.layer_prompts:
            requests = [dataclasses.replace(request, prompts=[request.global_prompt] * len(request.prompts))
                        for request in requests]
        return super().draw(requests, seed)


def silence_inter_layer_attention(unet: torch.nn.Module) -> None:
    """Set the output of inter-layer attention to zero, as in a new module."""
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if ".inter_layer.to_out." in name:
                weight.zero_()


@dataclasses.dataclass
class Measure:
    """The judge and the reference features shared by all runs."""

    judge: Judge
    objects: ObjectSet
    renderer: Renderer
    real: dict[int, Tensor]


def prepare(judge: Judge, objects: ObjectSet, renderer: Renderer, numbers: tuple[int, ...], count: int) -> Measure:
    """Features of `count` renders for each number of layers that the world has. There are none for larger numbers."""
    real = {layers: picture_features(judge.evaluator, render(renderer, layers, count, SEED)) for layers in numbers
            if layers in LAYERS}
    return Measure(judge, objects, renderer, real)


def one_run(studio: Studio, measure: Measure, numbers: tuple[int, ...], count: int, seed: int) -> dict[str, float]:
    """Sample `count` scenes for each number of layers. Returns metrics named "name_of_K"."""
    progress = Progress(count * len(numbers))
    known = references(measure.objects, measure.renderer)
    gallery = hold_gallery(studio, measure.judge, known, measure.objects, count, seed, progress, numbers)
    found = {f"{name}_{layers}": value for name, values in all_figures(measure.judge, gallery).items()
             for layers, value in values.items()}
    for layers, real in measure.real.items():
        drawn = picture_features(measure.judge.evaluator, gallery.composites[layers].to(measure.judge.device).float())
        found[f"fid_starter_features_{layers}"] = round(frechet_distance(drawn, real), 4)
    return found


def report(runs: dict[str, dict[str, dict[str, float]]], settings: dict[str, Any]) -> dict[str, Any]:
    """The contents of the results file: all runs, and each variant compared with the default if both have at least two runs."""
    sides = {name: list(by_seed.values()) for name, by_seed in runs.items()}
    against = {name: compare(sides[DEFAULT], side) for name, side in sides.items()
               if name != DEFAULT and min(len(side), len(sides.get(DEFAULT, []))) > 1}
    return {"runs": runs, "default_against": against, "test": "Welch's t-test, two-sided", "settings": settings,
            "machine": machine()}


def table(runs: dict[str, dict[str, dict[str, float]]], layers: int) -> str:
    """A Markdown table of the means over all seeds for one number of layers, one line per variant."""
    names = ("fid_starter_features", "layer_prompt_accuracy", "background_accuracy", "slot_accuracy", "size_accuracy",
             "light_accuracy", "light_agreement", "mask_agreement")
    lines = ["| variant | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for variant, by_seed in runs.items():
        values = [[run[f"{name}_{layers}"] for run in by_seed.values()] for name in names]
        lines.append(f"| {variant.replace('_', ' ')} | " + " | ".join(f"{sum(v) / len(v):.3f}" for v in values) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run what is missing, seed by seed, so that all variants have about the same number of runs if stopped early."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=a_count(2), default=1000, help="scenes per run for each number of layers")
    parser.add_argument("--seeds", type=a_count(), default=3, help="runs per variant")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--layers", type=a_count(2, 50), nargs="*", default=[*LAYERS, *UNTRAINED])
    parser.add_argument("--model", help="file name of a layered model to use instead of the starter")
    parser.add_argument("--judge", type=Path, default=JUDGE)
    parser.add_argument("--result", type=Path, default=RESULT, help="the file to write, and to resume from")
    options = parser.parse_args(arguments)
    inprocess.import_host()
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    pack = inprocess.load_pack()
    model, numbers = options.model or pack.nodes.load.STARTER, tuple(options.layers)
    settings = {"model": model, "scenes": options.scenes, "layers": list(numbers), "first_seed": FIRST_SEED}
    kept = json.loads(options.result.read_text("utf-8")) if options.result.exists() else {"runs": {}, "settings": settings}
    if kept["settings"] != settings:
        parser.error(f"{options.result} was measured with {kept['settings']}, but the current settings are {settings}. Choose "
                     "another --result, or use the same settings.")
    data, started = setup.DEV / "data", time.monotonic()
    judge = load_judge(options.judge, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    objects = objects_named(load_objects(objects_file(data)), judge.objects)
    renderer = held_out_renderer(objects, data, Studio(pack, model).canvas, judge.device)
    measure, runs = prepare(judge, objects, renderer, numbers, options.scenes), kept["runs"]
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds * options.scenes, options.scenes):
        for name in options.variants:
            if str(seed) in runs.setdefault(name, {}):
                continue
            print(f"== {name}, seed {seed}", flush=True)
            runs[name][str(seed)] = one_run(AblationStudio(pack, model, VARIANTS[name]), measure, numbers, options.scenes, seed)
            write_text(options.result, json.dumps(report(runs, settings), indent=2) + "\n")
    shown = [layers for layers in numbers if layers in LAYERS]
    print(*(f"{layers} layers\n{table(runs, layers)}" for layers in shown), sep="\n\n")
    print(f"Written to {options.result}; {(time.monotonic() - started) / 60:.0f} minutes.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
