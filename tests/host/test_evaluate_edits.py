"""Edits of scenes that a judge can tell: what they are, that the command repeats them, and a few by the starter itself."""

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch

from layerdiff_core.evaluation.edits import additions, relightings, replacements
from layerdiff_core.evaluation.judge import Judge, load_judge
from layerdiff_core.evaluation.requests import Request
from layerdiff_core.evaluation.traits import references
from layerdiff_core.evaluator import Evaluator, overlap
from layerdiff_core.world.backgrounds import PLACES
from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.renderer import Renderer
from layerdiff_core.world.scenes import LIGHTS
from tests.host.conftest import STARTER
from tests.world import discs
from tools import evaluate_edits
from tools.evaluate import JUDGE

MEMORY_MODES = ("plain",)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))


@pytest.fixture(scope="module")
def objects() -> ObjectSet:
    return discs(12, 64).first(12, 1)


def test_a_replacement_changes_one_thing(objects: ObjectSet) -> None:
    edits = replacements(objects, 3, 8, 1)
    assert edits == replacements(objects, 3, 8, 1) and len(edits) == 8
    for edit in edits:
        before, after = edit.before.objects, edit.after.objects
        assert [n for n in range(2) if before[n] != after[n]] == [edit.layer - 1]
        assert len(set(after)) == 2 and edit.before.scene.place == edit.after.scene.place


def test_an_addition_adds_one_thing(objects: ObjectSet) -> None:
    for edit in additions(objects, 3, 8, 1):
        after = edit.after.objects
        assert edit.before.objects == after[: edit.layer - 1] + after[edit.layer:]
        assert (len(edit.before.prompts), len(edit.after.prompts)) == (2, 3)


def test_a_relighting_tells_both_lights(objects: ObjectSet) -> None:
    edits = relightings(objects, 3, 8, 1)
    assert len(edits) == 8
    for edit in edits:
        assert edit.before.objects == edit.after.objects
        assert edit.before.told.light != edit.after.told.light and None not in (edit.before.told.light, edit.after.told.light)
        assert LIGHTS[edit.after.scene.light] in PLACES[edit.after.scene.place].lights


def test_the_command_repeats_from_its_seed(pack: ModuleType, starter: SimpleNamespace, objects: ObjectSet,
                                           tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = Judge(Evaluator(len(objects), len(PLACES)).eval(), objects.names, list(PLACES))
    pairs = torch.cartesian_prod(torch.arange(len(PLACES)), torch.arange(len(LIGHTS)))
    bank = {"pictures": (pairs[:, :1, None, None] * 10).expand(-1, 128, 128, 3).byte(), "place": pairs[:, 0],
            "light": pairs[:, 1]}  # fmt: skip
    known = references(objects, Renderer(objects, bank, 128, CPU, 1))
    editor = evaluate_edits.Editor(pack, STARTER)
    one, other = (evaluate_edits.run(editor, judge, known, objects, 3, 4) for _ in range(2))
    assert one == other and one["kept_difference_of_255"] == 0 and one["kept_latents_equal"] == 1
    assert {"redraw_accuracy", "add_accuracy", "restyle_iou"} < one.keys()
    evaluate_edits.record(tmp_path / "layers.json", {"control_iou": 0.7})
    evaluate_edits.record(tmp_path / "layers.json", one)
    written = json.loads((tmp_path / "layers.json").read_text("utf-8"))
    assert written == {"control_iou": 0.7, **one}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge(JUDGE, CPU)


@pytest.fixture(scope="module")
def editor(pack: ModuleType) -> evaluate_edits.Editor:
    return evaluate_edits.Editor(pack, pack.nodes.load.STARTER)


def asked(things: str, light: str, *prompts: str) -> Request:
    return Request(None, f"{things} at a beach {light}", ["a beach", *prompts], None)  # type: ignore[arg-type]


BEAR = "a palm tree on the left and a teddy bear on the right"


@pytest.fixture(scope="module")
def beach(editor: evaluate_edits.Editor) -> dict[str, Any]:
    return editor.first(asked(BEAR, "by day", "a palm tree", "a teddy bear"), 7)


def seen(judge: Judge, layer: dict[str, Any]) -> str:
    """What the judge sees in a layer."""
    logits = judge.evaluator.thing_logits(layer["image"].movedim(-1, 1), 1 - layer["mask"][:, None])
    return judge.objects[int(logits.argmax())]


def unchanged(before: dict[str, Any], after: dict[str, Any], kept: dict[int, int]) -> bool:
    return all(torch.equal(before["layers"][old][part], after["layers"][new][part])
               for old, new in kept.items() for part in ("image", "mask"))


def test_the_starter_draws_another_thing_in_a_layer(editor: evaluate_edits.Editor, judge: Judge, beach: dict[str, Any]) -> None:
    assert seen(judge, beach["layers"][2]) == "teddy bear"
    after, *_ = editor.redrawn(beach, asked(BEAR.replace("teddy bear", "snowman"), "by day", "a palm tree", "a snowman"), 3,
                               redraw="2")
    assert seen(judge, after["layers"][2]) == "snowman" and unchanged(beach, after, {0: 0, 1: 1})


@pytest.mark.parametrize("place", [1, 3])
def test_the_starter_adds_a_layer(editor: evaluate_edits.Editor, judge: Judge, beach: dict[str, Any], place: int) -> None:
    prompts = ["a palm tree", "a teddy bear"]
    prompts.insert(place - 1, "a yellow star")
    after, *_ = editor.redrawn(beach, asked("a yellow star, " + BEAR, "by day", *prompts), 4, redraw="", add_at=place)
    others = [n for n in range(4) if n != place]
    assert seen(judge, after["layers"][place]) == "yellow star" and unchanged(beach, after, dict(enumerate(others)))


def test_the_starter_restyles_a_layer_in_its_shape(editor: evaluate_edits.Editor, judge: Judge, beach: dict[str, Any]) -> None:
    after, *_ = editor.redrawn(beach, asked(BEAR, "at night", "a palm tree", "a teddy bear"), 3, redraw="1-2", denoise=0.6)
    for number, thing in ((1, "palm tree"), (2, "teddy bear")):
        masks = [1 - document["layers"][number]["mask"][None] for document in (beach, after)]
        assert float(overlap(*masks)) >= 0.8 and seen(judge, after["layers"][number]) == thing
        assert not torch.equal(*(document["layers"][number]["image"] for document in (beach, after)))
    assert unchanged(beach, after, {0: 0})
