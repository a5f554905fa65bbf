"""Test the paper's two claims about CaT2I-AE: train each variant several times with the same budget. Can be resumed.

Variants: CaT2I-AE; the same without the composed image in its loss; a plain image autoencoder whose latents of F, B and m
are stacked. All have the same number of latent channels, and the same UNet is trained on each. Writes
benchmarks/results/text2layer.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from tools import setup
from tools import train_text2layer as training
from tools.arguments import a_count, a_number
from tools.significance import compare
from tools.text2layer_autoencoder import fit, frozen, load_autoencoder
from tools.training_world import World, average_of, prepare_torch

# isort: split
# ComfyUI and the pack can only be imported after training_world.
from layerdiff_pack.layerdiff_core.autoencoder import Layers
from layerdiff_pack.layerdiff_core.evaluation import renders
from layerdiff_pack.layerdiff_core.evaluation.judge import Drawn, Judge, figures, judge_scenes, load_judge
from layerdiff_pack.layerdiff_core.evaluation.requests import Request, held_out_requests, objects_named
from layerdiff_pack.layerdiff_core.training import cat2i, diffusion, text2layer
from layerdiff_pack.layerdiff_core.training.layerdiff import sample
from layerdiff_pack.layerdiff_core.training.run import leave_on_signals
from layerdiff_pack.layerdiff_core.training.stacked import StackedAutoencoder
from layerdiff_pack.layerdiff_core.training.text2layer import CANVAS
from layerdiff_pack.layerdiff_core.whole import write_text
from layerdiff_pack.layerdiff_core.world.objects import load_objects
from layerdiff_pack.nodes.host import networks

RESULT = setup.ROOT / "benchmarks" / "results" / "text2layer.json"
JUDGE = setup.ROOT / "benchmarks" / "evaluator.safetensors"
FULL, NOT_COMPOSED, STACKED = "cat2i", "cat2i_without_composed_image", "stacked_plain_latents"
CLAIMS = {"cat2i_against_stacked_plain_latents": (FULL, STACKED), "with_against_without_composed_image": (FULL, NOT_COMPOSED)}
TERMS: dict[str, dict[str, bool]] = {FULL: {}, NOT_COMPOSED: {"composed": False},
                                     STACKED: {"composed": False, "mask_terms": False}}
CHANNELS, AUTOENCODER_BATCH = 8, 16
SAMPLING_STEPS, GUIDANCE, BATCH, REQUESTS_SEED = 25, 4.0, 20, 11


def new_autoencoder(variant: str, architecture: dict[str, Any]) -> Any:
    """The variant's autoencoder, freshly initialised."""
    if variant == STACKED:
        network = networks.autoencoder({**architecture, "latent": {"channels": CHANNELS}})
        networks.initialise(network)
        return StackedAutoencoder(network, architecture["foregrounds"])
    model = networks.composition_autoencoder(architecture)
    networks.initialise(model)
    cat2i.initialise(model)
    return model


def with_changes(options: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    """A copy of the options with some of them changed."""
    return argparse.Namespace(**{**vars(options), **changes})


def one_run(world: World, options: argparse.Namespace, judge: Judge, variant: str, seed: int) -> dict[str, float]:
    """Train a variant with one seed, resuming it if it was started before, and measure it."""
    world.folder = Path(options.out) / f"{variant}_{seed}"
    result = world.folder / "result.json"
    if result.exists():
        return json.loads(result.read_text("utf-8"))
    print(f"== {variant}, seed {seed}", flush=True)
    torch.manual_seed(seed)
    options.seed = 10_000 * (seed + 1)
    # As many channels as the stack of plain latents, so that all variants have the same capacity.
    architecture = text2layer.architecture(options.foregrounds, CHANNELS * (2 * options.foregrounds + 1))
    model = new_autoencoder(variant, architecture)
    if not (world.folder / "unet.safetensors").exists():
        stage = with_changes(options, batch=AUTOENCODER_BATCH, minutes=options.autoencoder_minutes)
        fit(world, stage, architecture, model, **TERMS[variant])
    decoder, facts = load_autoencoder(world, model)
    training.train(world, with_changes(options, minutes=options.unet_minutes), decoder, facts)
    found = measure(world, options, judge, decoder, facts)
    write_text(result, json.dumps(found, indent=2) + "\n")
    return found


@torch.no_grad()
def measure(world: World, options: argparse.Namespace, judge: Judge, decoder: Any, facts: dict[str, Any]) -> dict[str, float]:
    """FID of composites by the formula, agreement of masks, accuracies, and the reconstruction error of the autoencoder."""
    layers = options.foregrounds + 1
    objects = objects_named(load_objects(world.data / "objects.safetensors"), judge.objects)
    requests = held_out_requests(objects, layers, options.prompts, REQUESTS_SEED)
    renderer = renders.held_out_renderer(objects, world.data, CANVAS, world.device)
    model = training.text2layer_model(world, facts["architecture"])
    model.load_state_dict(average_of(world.folder / "unet.safetensors"))
    model = frozen(model, world)
    verdicts, composites = [], []
    totals: dict[str, float] = {}
    for start in range(0, len(requests), BATCH):
        part = requests[start : start + BATCH]
        with world.autocast():
            drawn = draw(world, model, decoder, facts, part, start)
        verdicts += judge_scenes(judge, part, as_drawn(drawn))
        composites.append(drawn.composite())
        real = renders.scene_layers(renderer, [request.scene for request in part])
        with world.autocast():
            again, _ = cat2i.decode(decoder, cat2i.encode(decoder, real))
        # I is computed by the formula for every variant, because only one of them has a trained head for it.
        measured = cat2i.reconstruction_figures(real, again, again.composite())
        del measured["formula_head_difference"]
        for name, value in measured.items():
            totals[f"reconstruction_{name}"] = totals.get(f"reconstruction_{name}", 0.0) + value * len(part) / len(requests)
    distance = renders.distances(judge, renderer, {layers: torch.cat(composites)})
    judged = {name: values[str(layers)] for name, values in figures(judge, {layers: verdicts}).items()}
    return {"fid": distance["fid_starter_features"][str(layers)], "object_accuracy": judged.pop("layer_prompt_accuracy"),
            **judged, **{name: round(value, 4) for name, value in totals.items()}}


def draw(world: World, model: Any, decoder: Any, facts: dict[str, Any], requests: list[Request], start: int) -> Layers:
    """Sample layers for the requests' global prompts, in 0..1. start: the number of the first request, which seeds the noise."""
    rows = torch.stack([torch.from_numpy(world.vocabulary.rows(request.global_prompt)) for request in requests])
    empty = torch.from_numpy(world.vocabulary.rows(""))[None]
    mean, std = (torch.tensor(facts[name], device=world.device).view(1, -1, 1, 1) for name in ("mean", "std"))
    z = sample(model, model.encode(rows.to(world.device)), model.encode(empty.to(world.device)),
               (len(rows), mean.numel(), CANVAS // 8, CANVAS // 8), 1, SAMPLING_STEPS, GUIDANCE,
               diffusion.sd_alphas_cumprod(world.device), torch.Generator(world.device).manual_seed(start))
    return cat2i.decode(decoder, z * std + mean)[0]


def as_drawn(layers: Layers) -> Drawn:
    """The layers in the form the judge takes, without extended colours, so that each variant is judged on its own output."""
    pictures = torch.cat([layers.background[:, None], layers.foregrounds], dim=1).flatten(0, 1)
    coverage = torch.cat([torch.ones_like(layers.masks[:, :1]), layers.masks], dim=1)
    return Drawn(coverage.shape[1], pictures, pictures, coverage.flatten(0, 1), layers.composite())


def report(runs: dict[str, list[dict[str, float]]], options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The contents of the results file, with those claims for which both sides have at least two runs."""
    claims = {name: {"first": one, "second": other, **compare(runs[one], runs[other])} for name, (one, other) in CLAIMS.items()
              if min(len(runs[one]), len(runs[other])) > 1}
    return {"claims": claims, "runs": runs, "test": "Welch's t-test, two-sided", "settings": {
        **budget(options), "seeds": options.seeds, "sampling_steps": SAMPLING_STEPS, "guidance": GUIDANCE, "device": str(device)}}


def budget(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that must be the same for all runs of a comparison."""
    names = ("autoencoder_minutes", "unet_minutes", "batch", "scenes", "refresh", "foregrounds", "objects", "variants", "prompts")
    return {name: getattr(options, name) for name in names}


def main() -> None:
    parser = training.arguments()
    parser.description = __doc__
    parser.set_defaults(batch=48, out=str(setup.ROOT / ".checkpoints" / "compare_text2layer"))
    parser.add_argument("--seeds", type=a_count(), default=3, help="runs per variant")
    parser.add_argument("--autoencoder-minutes", type=a_number(0, above=True), default=15, help="training time per autoencoder")
    parser.add_argument("--unet-minutes", type=a_number(0, above=True), default=15, help="training time per UNet")
    parser.add_argument("--prompts", type=a_count(2), default=200, help="held-out prompts to sample per run")
    parser.add_argument("--result", default=str(RESULT), help="the file to write")
    options = parser.parse_args()
    kept = Path(options.out) / "budget.json"
    if kept.exists() and json.loads(kept.read_text("utf-8")) != budget(options):
        parser.error(f"The runs in {options.out} have other settings: {kept.read_text('utf-8')}. Use the same settings, or "
                     "choose another --out.")
    write_text(kept, json.dumps(budget(options)))
    leave_on_signals()
    prepare_torch()
    world, started = World(options, CANVAS), time.monotonic()
    judge = load_judge(JUDGE, world.device)
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in TERMS}
    # Seed by seed, so that all variants have about the same number of runs if stopped early.
    for seed in range(options.seeds):
        for variant in TERMS:
            runs[variant].append(one_run(world, options, judge, variant, seed))
            write_text(Path(options.result), json.dumps(report(runs, options, world.device), indent=2) + "\n")
    print(f"Written to {options.result}; {(time.monotonic() - started) / 60:.0f} minutes.")


if __name__ == "__main__":
    main()
