"""Redraw, add, restyle and place single layers, have judges rate them, and write benchmarks/results/layers.json."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from layerdiff_core.evaluation.edits import Edit, additions, relightings, replacements, restylings
from layerdiff_core.evaluation.judge import Drawn, Judge, judge_scenes, load_judge, mean, rights
from layerdiff_core.evaluation.renders import held_out_renderer
from layerdiff_core.evaluation.requests import Request, objects_named
from layerdiff_core.evaluation.style import StyleJudge, style_judge
from layerdiff_core.evaluation.traits import References, references, traits_of
from layerdiff_core.evaluator import overlap
from layerdiff_core.layers import Document
from layerdiff_core.redraw import with_new_layer
from layerdiff_core.whole import write_text
from layerdiff_core.world.objects import ObjectSet, load_objects

from . import inprocess, setup
from .arguments import a_count
from .bench import machine
from .evaluate import JUDGE, LAYERS, TRIALS, Studio
from .evaluate_control import FILE, Controlled, control_figures
from .objects import objects_file
from .studio import Progress, channels_first, defaults

RESULTS = setup.ROOT / "benchmarks" / "results" / "layers.json"
RECORD_FROM = 50
DENOISE = {"redraw": 1.0, "add": 1.0, "restyle": 0.6, "relight": 0.7}
LORA = "layerdiff_flat_lora.safetensors"
CONTROL_SCENES = 20
DRAWN = 4
"""How many edits are drawn for each that is done, since the model may not know the words of some."""

Kinds = dict[str, Callable[[ObjectSet, int, int, int], list[Edit]]]
KINDS: Kinds = {"redraw": replacements, "add": additions, "restyle": restylings, "relight": relightings}


class Editor(Studio):
    """The same nodes and Redraw Layers, one scene at a time."""

    def __init__(self, pack: ModuleType, model_name: str):
        super().__init__(pack, model_name)
        self.redrawing, self.encoding_layers = pack.nodes.redraw.LayerDiffRedrawLayers, pack.nodes.latents.LayerDiffEncodeLayers
        self.load_lora, self.unknown_words = pack.nodes.lora.LayerDiffLoadLora, pack.nodes.host.words.unknown_words

    def knows(self, edit: Edit) -> bool:
        """Whether the model knows all words of the layer prompts. It may be older than some names of the objects."""
        return not any(self.unknown_words(self.clip, prompt) for prompt in edit.after.prompts)

    @torch.inference_mode()
    def first(self, request: Request, seed: int) -> dict[str, Any]:
        """The LAYERS of a scene."""
        sampled, _ = self.sampled([request], seed)
        settings = {**defaults(self.decode), "samples": sampled, "vae": self.vae}
        return dict(self.decode.execute(**settings).args[0][0])

    @torch.inference_mode()
    def redrawn(self, layers: dict[str, Any], request: Request, seed: int,
                **changes: Any) -> tuple[dict[str, Any], Drawn, Tensor]:
        """The LAYERS after an edit, the same for the judge, and their latents."""
        positive, negative = self.encoded(request)
        document, composite, latent, _ = self.redrawing.execute(**{
            **defaults(self.redrawing), "layers": layers, "model": self.model, "vae": self.vae, "positive": positive,
            "negative": negative, "seed": seed, **changes}).args
        pictures = channels_first(torch.cat([layer["image"] for layer in document["layers"]]))
        coverage = torch.cat([1 - layer["mask"] for layer in document["layers"]])[:, None]
        drawn = Drawn(len(coverage), pictures, pictures, coverage, channels_first(composite))
        return document, drawn, latent["samples"]

    @torch.inference_mode()
    def latents(self, layers: dict[str, Any]) -> Tensor:
        """LAYERS encoded by Encode Layers."""
        samples: Tensor = self.encoding_layers.execute(layers, self.vae).args[0]["samples"]
        return samples


    def changes_of(self, kind: str, edit: Edit) -> dict[str, Any]:
        """The inputs of Redraw Layers for an edit. To restyle a layer, the model has the style LoRA on it."""
        if kind == "add":
            return {"redraw": "", "add_at": edit.layer}
        changes: dict[str, Any] = {"redraw": str(edit.layer), "denoise": DENOISE[kind]}
        if kind == "restyle":
            changes["model"] = self.load_lora.execute(self.model, LORA, str(edit.layer), 1.0).args[0]
        return changes


def kept_difference(before: dict[str, Any], after: dict[str, Any], edit: Edit, added: bool) -> float:
    """The largest difference of the pictures and masks of all layers that should have stayed the same, 0..1."""
    old, new = list(before["layers"]), [layer for number, layer in enumerate(after["layers"]) if number != edit.layer]
    if not added:
        del old[edit.layer]
    return max(float((one[part] - other[part]).abs().max()) for one, other in zip(old, new, strict=True)
               for part in ("image", "mask"))


def run(editor: Editor, judge: Judge, known: References, styles: StyleJudge, objects: ObjectSet, edits: int,
        seed: int) -> dict[str, Any]:
    """Do all edits of all kinds. Returns the figures."""
    progress = Progress(len(KINDS) * edits)
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    ious: dict[str, list[float]] = {"restyle": [], "relight": []}
    seen: dict[str, list[bool]] = {name: [] for name in ("restyle_seen", "restyle_seen_before", "relight_light_accuracy")}
    kept, same = [0.0], []
    for kind, make in KINDS.items():
        each = [-(-(edits - n) // len(LAYERS)) for n in range(len(LAYERS))]
        todo = [edit for layers, count in zip(LAYERS, each)
                for edit in list(filter(editor.knows, make(objects, layers, DRAWN * count, seed)))[:count]]
        for number, edit in enumerate(todo):
            before = editor.first(edit.before, seed + number)
            after, drawn, latents = editor.redrawn(before, edit.after, seed + number + 1000, **editor.changes_of(kind, edit))
            verdict = judge_scenes(judge, [edit.after], drawn)[0]
            right[kind].append(rights(judge, verdict)[edit.layer - 1])
            kept.append(kept_difference(before, after, edit, kind == "add"))
            rows = [n for n in range(drawn.layers) if n != edit.layer]
            # With an empty layer in the place of the new one: a batch of another size rounds differently.
            whole = with_new_layer(Document.from_socket(before), edit.layer, "").to_socket() if kind == "add" else before
            same.append(torch.equal(latents[rows], editor.latents(whole)[rows]))
            if kind in ious:
                picture, mask = (before["layers"][edit.layer][part] for part in ("image", "mask"))
                ious[kind].append(float(overlap(1 - mask[None], drawn.coverage[edit.layer][None])))
            if kind == "restyle":
                for name, images, cover in (("restyle_seen_before", channels_first(picture), 1 - mask[None]),
                                            ("restyle_seen", drawn.pictures[edit.layer][None], drawn.coverage[edit.layer][None])):
                    seen[name].append(bool(styles.is_flat(images, cover)))
            if kind == "relight":
                light = traits_of(known, [edit.after], drawn)[0].lights[edit.layer - 1]
                seen["relight_light_accuracy"].append(light == edit.after.scene.light)
            progress.add(1, drawn.layers)
    return {**{f"{kind}_accuracy": mean(values) for kind, values in right.items()},
            **{f"{kind}_iou": mean(values) for kind, values in ious.items()},
            **{name: mean(values) for name, values in seen.items()},
            "kept_difference_of_255": round(255 * max(kept), 4), "kept_latents_equal": mean(same)}


def record(path: Path, figures: dict[str, Any]) -> None:
    """Write figures to a file that may already contain others."""
    others = json.loads(path.read_text("utf-8")) if path.exists() else {}
    write_text(path, json.dumps({**others, **figures}, indent=2) + "\n")


def main(arguments: list[str]) -> int:
    """Do the edits, print the figures and write them: into the record, or in output/ where they are too few for one."""
    parser = argparse.ArgumentParser(prog="dev.py evaluate-edits", description=__doc__)
    parser.add_argument("--edits", type=a_count(), default=50, help="number of edits of each kind; fewer than "
                        f"{RECORD_FROM} are a trial run, which is written to output/ and keeps the record")
    parser.add_argument("--seed", type=a_count(0), default=1)
    parser.add_argument("--model", help="file name of a LayerDiff model to use instead of the starter")
    options = parser.parse_args(arguments)
    if options.edits < len(LAYERS):
        parser.error(f"--edits is {options.edits}, but at least {len(LAYERS)} are required: one for each number of layers.")
    inprocess.import_host()
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    pack = inprocess.load_pack()
    data, started = setup.DEV / "data", time.monotonic()
    judge = load_judge(JUDGE, torch.device("cpu"))
    both = objects_named(load_objects(objects_file(data)), judge.objects, styles=2)
    objects = both.first(len(both), 1)
    try:
        editor = Editor(pack, options.model or pack.nodes.load.STARTER)
        renderer = held_out_renderer(both, data, editor.canvas, judge.device)
        styles, accuracy = style_judge(judge, renderer, editor.through)
        controlled = Controlled(editor, pack, FILE)
        figures = {**control_figures(controlled, objects, renderer, min(CONTROL_SCENES, options.edits), options.seed),
                   **run(editor, judge, references(objects, renderer), styles, objects, options.edits, options.seed),
                   "style_heldout_accuracy": round(accuracy, 4)}
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    facts = {"edits": options.edits, "seed": options.seed, "denoise": DENOISE, "machine": machine(),
             "seconds": round(time.monotonic() - started, 1)}
    path = RESULTS if options.edits >= RECORD_FROM else TRIALS / RESULTS.name
    record(path, {**figures, "redraw_facts": facts})
    print("\n".join(f"{name:<26} {value:.4f}" for name, value in figures.items()) + f"\nWritten to {path}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
