"""Edits of scenes that judges can tell: what they are, that the command repeats them, and a few by the starter itself."""

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from safetensors.torch import save_file

from layerdiff_core.evaluation import style
from layerdiff_core.evaluation.boxes import fits, open_scenes, rendered_box
from layerdiff_core.evaluation.edits import Edit, additions, relightings, replacements, restylings
from layerdiff_core.evaluation.judge import Judge, load_judge
from layerdiff_core.evaluation.requests import Request
from layerdiff_core.evaluation.style import StyleJudge, features_of, style_judge
from layerdiff_core.evaluation.traits import references
from layerdiff_core.evaluator import Evaluator, overlap
from layerdiff_core.world.backgrounds import PLACES
from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.renderer import Renderer
from layerdiff_core.world.scenes import LIGHTS
from tests import loras
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


@pytest.fixture(scope="module")
def drawing(objects: ObjectSet) -> Renderer:
    """Discs, and places of one colour each."""
    pairs = torch.cartesian_prod(torch.arange(len(PLACES)), torch.arange(len(LIGHTS)))
    bank = {"pictures": (pairs[:, :1, None, None] * 10).expand(-1, 128, 128, 3).byte(), "place": pairs[:, 0],
            "light": pairs[:, 1]}  # fmt: skip
    return Renderer(objects, bank, 128, CPU, 1)


@pytest.fixture(scope="module")
def untrained(objects: ObjectSet) -> Judge:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Judge(Evaluator(len(objects), len(PLACES)).eval(), objects.names, list(PLACES))


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


def test_a_restyling_changes_no_prompt(objects: ObjectSet) -> None:
    edits = restylings(objects, 3, 8, 1)
    assert all(edit.before == edit.after for edit in edits) and {edit.layer for edit in edits} == {1, 2}


def test_boxes_are_for_layers_of_which_the_prompt_says_no_place(objects: ObjectSet) -> None:
    for hinted in (1, 2):
        scenes = open_scenes(objects, 3, hinted, 8, 1)
        assert len(scenes) == 8
        for request, layers in scenes:
            assert len(layers) == hinted
            assert all(said[layer - 1] is None for said in (request.told.slots, request.told.sizes) for layer in layers)


def test_a_box_is_where_the_render_is(objects: ObjectSet, drawing: Renderer) -> None:
    ((request, (layer,)),) = open_scenes(objects, 3, 1, 1, 1)
    boxes, filled = zip(*(rendered_box(drawing, request, layer, slot, 2) for slot in range(3)))
    assert boxes[0][0] < boxes[1][0] < boxes[2][0] and all(0.7 < share < 0.85 for share in filled), "not a disc in its box"
    mask = torch.zeros(1, 1, 128, 128)
    assert fits(mask, boxes[1]) == (0, 0)
    mask[0, 0, 32:64, 32:64] = 1
    assert fits(mask, torch.tensor([0.25, 0.25, 0.5, 0.5])) == (1, 1)
    mask[0, 0, 32:48, 32:48] = 0
    assert fits(mask, torch.tensor([0.25, 0.25, 0.5, 0.5])) == (1, 0.75)
    assert fits(mask, torch.tensor([0.0, 0.0, 1.0, 1.0])) == pytest.approx((1 / 16, 3 / 64))


def test_the_judge_of_styles_tells_stripes_from_discs(untrained: Judge, drawing: Renderer,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "RENDERS", 100)
    monkeypatch.setattr(style, "TESTED", 50)
    images = drawing.objects.images.repeat(1, 2, 1, 1, 1)
    images[:, 1, ::4, :, :3] = 0
    both = ObjectSet(images, drawing.objects.names, drawing.objects.prompts, drawing.objects.homes)
    renderer = Renderer(both, {"pictures": drawing.bank, "place": drawing.bank_place, "light": drawing.bank_light}, 128, CPU, 1)
    styles, accuracy = style_judge(untrained, renderer, lambda pictures: pictures)
    assert accuracy > 0.95
    ones = torch.ones(1, 1, 128, 128)
    striped = torch.full((1, 3, 128, 128), 0.7)
    striped[:, :, ::2] = 0
    assert features_of(untrained, striped, ones).shape == (1, len(styles.weight))


def test_the_command_repeats_from_its_seed(pack: ModuleType, starter: SimpleNamespace, objects: ObjectSet, untrained: Judge,
                                           drawing: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(loras.lora(starter.model.model.diffusion_model), tmp_path / "evaluated.safetensors")
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    monkeypatch.setattr(evaluate_edits, "LORA", "evaluated.safetensors")
    monkeypatch.setattr(evaluate_edits.Editor, "knows", lambda editor, edit: True)
    known, size = references(objects, drawing), features_of(untrained, torch.ones(1, 3, 8, 8), torch.ones(1, 1, 8, 8)).shape[1]
    styles = StyleJudge(untrained, torch.zeros(size), torch.ones(size), torch.ones(size), torch.tensor(0.0))
    editor = evaluate_edits.Editor(pack, STARTER)
    one, other = (evaluate_edits.run(editor, untrained, known, styles, objects, 3, 4) for _ in range(2))
    assert one == other and one["kept_difference_of_255"] == 0 and one["kept_latents_equal"] == 1
    assert {"redraw_accuracy", "add_accuracy", "restyle_iou", "restyle_seen", "relight_iou"} < one.keys()
    evaluate_edits.record(tmp_path / "layers.json", {"control_iou": 0.7})
    evaluate_edits.record(tmp_path / "layers.json", one)
    written = json.loads((tmp_path / "layers.json").read_text("utf-8"))
    assert written == {"control_iou": 0.7, **one}


def test_a_model_is_not_asked_for_words_that_it_does_not_know(editor: evaluate_edits.Editor) -> None:
    for name, known in (("a rabbit", True), ("a bunny", False)):
        wanted = asked("a rabbit", "by day", name)
        assert editor.knows(Edit(wanted, wanted, 1)) is known


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
