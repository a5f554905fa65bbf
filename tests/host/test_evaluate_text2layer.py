"""The evaluation of Text2Layer samples with the pack's nodes, several scenes at once, and is reproducible."""

import math
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from comfy.k_diffusion.sampling import get_ancestral_step

from layerdiff_core.autoencoder import Layers
from layerdiff_core.evaluation.judge import Judge
from layerdiff_core.evaluation.renders import scene_layers
from layerdiff_core.evaluation.requests import held_out_requests
from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.renderer import Renderer
from tests.host.conftest import STACKED, STARTER
from tests.host.test_evaluate import judge, objects, small  # noqa: F401 - fixtures
from tools import evaluate_text2layer
from tools.evaluate_text2layer import StackedStudio, evaluate, reconstruction

MEMORY_MODES = ("plain",)

KEYS = {"object_accuracy", "background_accuracy", "mask_agreement", "psnr_foreground", "psnr_background", "psnr_composed",
        "reconstruction_mask_iou", "formula_head_difference"}


@pytest.fixture
def studio(pack: ModuleType, text2layer: SimpleNamespace) -> StackedStudio:
    return StackedStudio(pack, f"{text2layer.foregrounds}_{STACKED}", steps=2)


def test_each_scene_of_a_batch_has_its_own_prompt(studio: StackedStudio, objects: ObjectSet) -> None:  # noqa: F811
    first, second, other = held_out_requests(objects, studio.layers, 3, 0)
    drawn, again = studio.draw([first, second], 7), studio.draw([first, other], 7)
    layers = studio.layers
    assert drawn.own.shape == drawn.pictures.shape == (2 * layers, 3, 128, 128)
    assert drawn.coverage.shape == (2 * layers, 1, 128, 128) and drawn.composites.shape == (2, 3, 128, 128)
    assert torch.allclose(drawn.own[:layers], again.own[:layers], atol=1e-5)
    assert (drawn.own[layers:] - again.own[layers:]).abs().max() > 1e-3


def test_a_perfect_autoencoder_has_perfect_figures(studio: StackedStudio, small: Renderer,  # noqa: F811
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    bad = reconstruction(studio, small, 3, 0)
    assert bad["psnr_foreground"] < 20 and bad["reconstruction_mask_iou"] < 0.9 and bad["formula_head_difference"] > 0.01

    def nearly(self: StackedStudio, layers: Layers) -> tuple[Layers, torch.Tensor]:
        return Layers(layers.foregrounds + 0.001, layers.background + 0.01, layers.masks), layers.composite() + 0.001

    monkeypatch.setattr(StackedStudio, "reconstruct", nearly)
    good = reconstruction(studio, small, 3, 0)
    # a constant error e has a PSNR of -20 log10(e), except where it leaves 0..1
    assert good["psnr_foreground"] >= 60 and 40 <= good["psnr_background"] < 41 and good["psnr_composed"] >= 60
    assert good["reconstruction_mask_iou"] == 1 and good["formula_head_difference"] < 0.011


def test_layers_of_a_scene_are_those_that_were_asked_for(small: Renderer, objects: ObjectSet) -> None:  # noqa: F811
    layers = scene_layers(small, [request.scene for request in held_out_requests(objects, 3, 4, 0)])
    assert layers.foregrounds.shape == (4, 2, 3, 128, 128) and layers.masks.shape == (4, 2, 1, 128, 128)
    assert layers.background.shape == (4, 3, 128, 128) and layers.masks.amax((2, 3, 4)).min() == 1


def test_a_seed_gives_the_same_figures(pack: ModuleType, text2layer: SimpleNamespace, judge: Judge,  # noqa: F811
                                       objects: ObjectSet, small: Renderer, tmp_path: Path,  # noqa: F811
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_text2layer, "held_out_renderer", lambda *args: small)
    monkeypatch.setitem(evaluate_text2layer.SETTINGS, "steps", 2)
    name = f"{text2layer.foregrounds}_{STACKED}"
    report, text, shown = evaluate(pack, name, judge, objects, tmp_path, 3, 4, [0.5], reconstructed=4)
    assert report.keys() >= KEYS and report["layers"] == text2layer.foregrounds + 1
    assert report["other_smg_scales"]["0.5"].keys() == report["with_ddim"].keys() <= report.keys()
    assert len(shown) == 3 and "psnr_composed" in text
    assert report["settings"]["cfg"] == 2.5 and report["settings"]["sampler_name"] == "euler_ancestral"
    again, _, _ = evaluate(pack, name, judge, objects, tmp_path, 3, 4, [], reconstructed=4)
    assert {key: report[key] for key in ("object_accuracy", "mask_agreement")} == \
        {key: again[key] for key in ("object_accuracy", "mask_agreement")}


@pytest.mark.parametrize("here, there", [(14.6, 9.1), (1.0, 0.9), (0.05, 0.03)])
def test_the_sampler_is_ddim_with_eta_1(here: float, there: float) -> None:
    alpha, previous = 1 / (1 + here ** 2), 1 / (1 + there ** 2)  # the cumulative alphas of ComfyUI's sigmas
    random = math.sqrt((1 - previous) / (1 - alpha) * (1 - alpha / previous))  # equation 16
    direction = math.sqrt(1 - previous - random ** 2)  # equation 12
    down, up = get_ancestral_step(here, there)
    assert (down, up) == pytest.approx((direction / math.sqrt(previous), random / math.sqrt(previous)))


def test_a_model_of_the_other_family_is_named(pack: ModuleType, starter: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="is not a Text2Layer model"):
        StackedStudio(pack, STARTER)
