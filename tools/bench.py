"""Compare the pack with ComfyUI's own nodes and write benchmarks/results/bench.json and layers.json.

--quick: a trial run that writes nothing. --layers: measure only what changes to single layers cost. --layerdiffuse: measure only
LayerDiffuse, and leave the other figures of bench.json as they are.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks import compositing, guidance, layer_control, layer_lora, layerdiffuse, measure, memory, models, seams
from layerdiff_core.whole import write_text

from . import inprocess, setup
from .client import HostError
from .host import Server

RESULTS = setup.ROOT / "benchmarks" / "results" / "bench.json"
LAYER_RESULTS = setup.ROOT / "benchmarks" / "results" / "layers.json"
"""Figures of changes to single layers: each command that measures some of them puts its own into this file."""
CANVAS = 128
BARS = {"layered_step_ratio": 1.15, "smg_over_cfg": 1.75, "smg_over_sag": 1.0, "peak_memory_ratio": 1.10,
        "start_seconds_added": 1.0, "composite_over_pillow": 0.667, "psd_seconds": 4.0, "seam_error_ratio": 0.85,
        "layerdiffuse_step_ratio": 1.35, "layerdiffuse_given_step_ratio": 1.35}
SIDES = {
    "layered_step_ratio": "a step of one scene of 4 layers / of ComfyUI's UNet of the same widths, batch 4",
    "smg_over_cfg": "SMG KSampler / ComfyUI's KSampler with CFG alone, on the same layered model, 4 layers",
    "smg_over_sag": "SMG KSampler / ComfyUI's Self-Attention Guidance, on the same layered model, 4 layers",
    "peak_memory_ratio": f"a step of 4 layers / of ComfyUI's UNet at batch 4, {memory.CANVAS} px, weights included",
    "start_seconds_added": "ComfyUI's start with the pack - without it",
    "composite_over_pillow": "stacking 8 layers of 1024 x 1024 / the same by Pillow's alpha_composite",
    "psd_seconds": "seconds to write these 8 layers to a PSD file",
    "seam_error_ratio": f"error along the seams of {seams.SCENES} spoilt scenes: after Heal Seams / before",
    "layerdiffuse_step_ratio": "a step of LayerDiffuse's 3 frames (joint) / of ComfyUI's SD 1.5 UNet at batch 3",
    "layerdiffuse_given_step_ratio": "a step of its 2 frames with a given layer (fg2bg) / of ComfyUI's SD 1.5 UNet at batch 2",
}
LAYERDIFFUSE_SIDES = {name: what for name, what in SIDES.items() if name.startswith("layerdiffuse")}

LAYER_BARS = {"lora_cost_ratio": 1.15, "control_cost_ratio": 0.35}
LAYER_SIDES = {
    "lora_cost_ratio": f"sampling 4 layers with a LoRA on each of {layer_lora.LORAS} by Load LoRA for Layers / without",
    "lora_hooks_cost_ratio": "the same LoRAs on the same layers by ComfyUI's hooks, prompts and masks / without",
    "control_cost_ratio": "a ControlNet's own run, a hint for each layer: on one layer of 4 / on all of them",
}


def peak_memory(rounds: int) -> dict[str, float]:
    """The median peak memory of each side in MB. Every measurement runs in a new process."""
    peaks: dict[str, list[float]] = {"layered": [], "host": []}
    for _ in range(rounds):
        for side, found in peaks.items():
            command = [sys.executable, "-m", "benchmarks.memory", side]
            answer = subprocess.run(command, cwd=setup.ROOT, env={**os.environ, **memory.GIVE_BACK_AT_ONCE},
                                    stdout=subprocess.PIPE, text=True, check=True).stdout
            found.append(int(answer.split()[-1]) / 1e6)
    return {side: statistics.median(found) for side, found in peaks.items()}


def host_start(rounds: int) -> dict[str, float]:
    """Median seconds from ComfyUI's start until it responds, with and without the pack, after one start to warm up."""
    times: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(-1, rounds):
        for side in list(times)[:: 1 if number % 2 else -1]:
            with Server(f"bench_start_{side}", with_pack=side == "with") as server:
                if number >= 0:
                    times[side].append(server.seconds_to_start)
    return {side: statistics.median(spent) for side, spent in times.items()}


def psd_seconds(pack: ModuleType, document: Any, rounds: int) -> dict[str, float]:
    """Median seconds to write the document to a PSD file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layers.psd"
        return measure.medians({"ours": lambda: compositing.write_psd(pack, document, path)}, rounds, 1)


def transparent_decoder(rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds and peak MB of the transparent decoder, in one pass and in eight. Each measurement runs in a new process."""
    found: dict[str, list[tuple[float, float]]] = {"1": [], "8": []}
    for _ in range(rounds):
        for views, results in found.items():
            answer = subprocess.run([sys.executable, "-m", "benchmarks.layerdiffuse", views], cwd=setup.ROOT,
                                    env={**os.environ, **memory.GIVE_BACK_AT_ONCE}, stdout=subprocess.PIPE, text=True,
                                    check=True).stdout.split()
            results.append((float(answer[-2]), int(answer[-1]) / 1e6))
    names = {"1": "one_pass", "8": "eight_passes"}
    return {f"transparent_decoder_{what}": {names[views]: statistics.median(each[number] for each in results)
                                            for views, results in found.items()}
            for number, what in enumerate(("seconds", "megabytes"))}


def measure_layerdiffuse(pack: ModuleType, quick: bool) -> dict[str, Any]:
    """What LayerDiffuse costs, and the medians behind it."""
    print("Measuring LayerDiffuse ...", flush=True)
    steps, base = {}, layerdiffuse.sd15_model(pack)
    for kind in ("joint", "fg2bg"):
        steps[kind] = measure.medians(layerdiffuse.sides(pack, kind, base), *((1, 0) if quick else (3, 1)))
    return {
        "layerdiffuse_step_ratio": steps["joint"]["layerdiffuse"] / steps["joint"]["host"],
        "layerdiffuse_given_step_ratio": steps["fg2bg"]["layerdiffuse"] / steps["fg2bg"]["host"],
        "medians": {"layerdiffuse_step_seconds": steps["joint"], "layerdiffuse_given_step_seconds": steps["fg2bg"],
                    **transparent_decoder(1 if quick else 3)},
        "sides": LAYERDIFFUSE_SIDES,
    }


def machine() -> str:
    """A one-line description of the machine, for the results file."""
    import comfyui_version

    device, dtype = models.place()
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
    return (f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
            f"torch {torch.__version__} ({dtype}), ComfyUI {comfyui_version.__version__}")


def cpu_name() -> str:
    """The name of the processor, from the operating system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def measure_all(pack: ModuleType, quick: bool) -> dict[str, Any]:
    """All results, with the medians they are computed from."""
    def say(what: str) -> None:
        print(f"Measuring {what} ...", flush=True)

    say("a step")
    steps: dict[str, Callable[[], object]] = {side: models.step(pack, side, CANVAS) for side in ("layered", "host")}
    step = measure.medians(steps, *((4, 1) if quick else (100, 10)))
    say("guidance")
    guided = measure.medians(guidance.sides(pack, 2 if quick else 20), *((1, 1) if quick else (9, 1)))
    say("peak memory")
    peak = peak_memory(1 if quick else 5)
    say("compositing and files")
    document = compositing.document(pack, 64 if quick else compositing.SIDE)
    stacked = measure.medians(compositing.sides(pack, document), *((4, 1) if quick else (40, 4)))
    written = psd_seconds(pack, document, 1 if quick else 5)
    say("seams")
    seam = seams.figures(pack, setup.DEV / "data", 6 if quick else seams.SCENES)
    of_layerdiffuse = measure_layerdiffuse(pack, quick)
    say("ComfyUI's start")
    start = host_start(1 if quick else 5)
    return merged(of_layerdiffuse, {
        "layered_step_ratio": step["layered"] / step["host"],
        "smg_over_cfg": guided["smg"] / guided["cfg"],
        "smg_over_sag": guided["smg"] / guided["sag"],
        "peak_memory_ratio": peak["layered"] / peak["host"],
        "start_seconds_added": start["with"] - start["without"],
        "composite_over_pillow": stacked["ours"] / stacked["pillow"],
        "psd_seconds": written["ours"],
        "seam_error_ratio": seam["healed"] / seam["as_is"],
        "machine": machine(),
        "medians": {"step_seconds": step, "sampling_seconds": guided, "peak_megabytes": peak, "start_seconds": start,
                    "composite_seconds": stacked, "psd_seconds": written, "seam_error_of_255": seam},
        "sides": SIDES,
    })


def measure_layers(pack: ModuleType, quick: bool) -> dict[str, Any]:
    """What changes to single layers cost, and the medians behind it."""
    print("Measuring ControlNets and LoRAs on single layers ...", flush=True)
    controls = measure.medians(layer_control.sides(pack), *((1, 1) if quick else (21, 2)))
    sides = layer_lora.sides(pack, 2 if quick else 10)
    ours, hooks = ({side: sides[side] for side in ("plain", way)} for way in ("layers", "hooks"))
    one_pass = measure.medians(ours, *((1, 1) if quick else (21, 2)))
    many = measure.medians(hooks, *((1, 0) if quick else (3, 1)))  # many times slower, so fewer rounds are enough
    return {
        "lora_cost_ratio": one_pass["layers"] / one_pass["plain"],
        "lora_hooks_cost_ratio": many["hooks"] / many["plain"],
        "control_cost_ratio": controls["one"] / controls["all"],
        "threads": torch.get_num_threads(),
        "medians": {"control_seconds": controls, "lora_seconds": one_pass, "lora_hooks_seconds": many},
        "sides": LAYER_SIDES,
    }


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A record updated with new figures. The figures of other commands stay the same."""
    return {**old, **{name: merged(old.get(name, {}), value) if isinstance(value, dict) else value
                      for name, value in new.items()}}


def table(figures: dict[str, Any], bars: dict[str, float] = BARS, sides: dict[str, str] = SIDES) -> str:
    """The results with their limits and descriptions, one per line."""
    lines = []
    for name, what in sides.items():
        bar = f"at most {bars[name]:<5} {'' if figures[name] <= bars[name] else 'MISSED':<7}" if name in bars else " " * 21
        lines.append(f"{name:<21} {figures[name]:>6.3f}   {bar} {what}")
    for what, sides in figures["medians"].items():
        lines.append(f"{what:<21} " + ", ".join(f"{side} {value:.4g}" for side, value in sides.items()))
    return "\n".join([*lines, figures["machine"]])


def main(arguments: list[str]) -> int:
    """Measure, print the table and, unless it was a trial run, write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="trial run of a minute or two; does not write the results file")
    parser.add_argument("--layers", action="store_true", help="measure only what changes to single layers cost")
    parser.add_argument("--layerdiffuse", action="store_true", help="measure only LayerDiffuse")
    options = parser.parse_args(arguments)
    inprocess.import_host()
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    try:
        pack = inprocess.load_pack()
        figures, layers = {}, {}
        if options.layerdiffuse:
            figures = {**measure_layerdiffuse(pack, options.quick), "machine": machine()}
        else:
            figures = {} if options.layers else measure_all(pack, options.quick)
            layers = {**measure_layers(pack, options.quick), "machine": machine()}
    except HostError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    if figures:
        print(table(figures, sides=figures["sides"]))
    if layers:
        print(table(layers, LAYER_BARS, LAYER_SIDES))
    if not options.quick:
        for path, found in ((RESULTS, figures), (LAYER_RESULTS, layers)):
            if found:
                partial = path == LAYER_RESULTS or options.layerdiffuse
                old = json.loads(path.read_text("utf-8")) if partial and path.exists() else {}
                write_text(path, json.dumps(merged(old, found), indent=2) + "\n")
                print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
