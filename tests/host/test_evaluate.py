"""The evaluation samples with the pack's nodes, several scenes at once, and is reproducible from its seed."""

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image

from layerdiff_core.evaluation import renders
from layerdiff_core.evaluation.judge import Judge
from layerdiff_core.evaluation.requests import held_out_requests
from layerdiff_core.evaluator import Evaluator
from layerdiff_core.world.backgrounds import PLACES
from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.renderer import Renderer
from layerdiff_core.world.scenes import LIGHTS
from tests.host.conftest import STARTER
from tests.world import discs
from tools import evaluate
from tools.evaluation_sheet import write_sheet

MEMORY_MODES = ("plain",)
"""What a tool does with a model does not depend on where ComfyUI keeps it."""

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def objects() -> ObjectSet:
    return discs(12, 64).first(12, 1)


@pytest.fixture
def small(objects: ObjectSet, monkeypatch: pytest.MonkeyPatch) -> Renderer:
    """Few renders, over places of plain colours, which need no painting."""
    pairs = torch.cartesian_prod(torch.arange(len(PLACES)), torch.arange(len(LIGHTS)))
    bank = {"pictures": (pairs[:, :1, None, None] * 10).expand(-1, 128, 128, 3).byte(),
            "place": pairs[:, 0], "light": pairs[:, 1]}
    monkeypatch.setattr(renders, "BATCHES", 1)
    monkeypatch.setattr(renders, "REFERENCES", 4)
    monkeypatch.setattr(evaluate, "held_out_renderer", lambda *args: Renderer(objects, bank, 128, CPU, 1))
    return Renderer(objects, bank, 128, CPU, 1)


@pytest.fixture
def judge(objects: ObjectSet) -> Judge:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Judge(Evaluator(len(objects), len(PLACES)).eval(), objects.names, list(PLACES))


def test_each_scene_of_a_batch_has_its_own_prompts(pack: ModuleType, starter: SimpleNamespace, objects: ObjectSet) -> None:
    studio = evaluate.Studio(pack, STARTER, steps=3)
    first, second, other = held_out_requests(objects, 3, 3, 0)
    drawn, again = studio.draw([first, second], 7), studio.draw([first, other], 7)
    assert drawn.own.shape == drawn.pictures.shape == (6, 3, 128, 128)
    assert drawn.coverage.shape == (6, 1, 128, 128) and drawn.composites.shape == (2, 3, 128, 128)
    assert torch.allclose(drawn.own[:3], again.own[:3], atol=1e-5)
    assert (drawn.own[3:] - again.own[3:]).abs().max() > 1e-3


def test_a_seed_gives_the_same_figures(pack: ModuleType, starter: SimpleNamespace, objects: ObjectSet, judge: Judge,
                                       small: Renderer, tmp_path: Path) -> None:
    results = [evaluate.evaluate(pack, STARTER, judge, objects, tmp_path, 6, 4, scales) for scales in ([0.0], [])]
    (report, gallery), (again, _) = results
    assert report.pop("seconds") > 0 and again.pop("seconds") > 0
    names = {"layer_prompt_accuracy", "background_accuracy", "mask_agreement", "mask_agreement_alone", "slot_accuracy",
             "size_accuracy", "light_accuracy", "light_agreement"}
    assert report.pop("other_smg_scales")["0.0"].keys() == names
    assert again.pop("other_smg_scales") == {} and report == again
    assert report["autoencoder"].keys() >= {"psnr_inside", "psnr_composites", "gradient_energy"}
    for name in names | {"fid_starter_features"}:
        assert report[name].keys() == {"2", "3", "4"}
    assert 0 <= report["classifier_heldout_accuracy"] <= 1 and report["scenes"] == 6 and report["machine"]
    assert report["settings"]["steps"] == 20
    path = tmp_path / "sheet.jpg"
    write_sheet(path, judge, [(gallery.verdicts[layers][0], gallery.shown[layers], 0) for layers in (2, 3, 4)])
    assert Image.open(path).size[0] > 1000 and path.stat().st_size <= 600_000
    assert "worst objects" in evaluate.table({**report, "seconds": 0})
