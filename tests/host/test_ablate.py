"""The ablations: each switches off the right part, and a run resumes where it stopped."""

from types import ModuleType, SimpleNamespace

import pytest
import torch

from layerdiff_core.evaluation.judge import Judge
from layerdiff_core.evaluation.requests import held_out_requests
from layerdiff_core.world.objects import ObjectSet
from layerdiff_core.world.renderer import Renderer
from tests.host.conftest import STARTER
from tests.host.test_evaluate import judge, objects, small  # noqa: F401 - fixtures
from tools import ablate
from tools.ablate import DEFAULT, VARIANTS, AblationStudio, Variant

MEMORY_MODES = ("plain",)


def drawn(pack: ModuleType, objects: ObjectSet, variant: Variant) -> torch.Tensor:  # noqa: F811
    settings = {**variant.settings, "steps": 6}
    studio = AblationStudio(pack, STARTER, ablate.dataclasses.replace(variant, settings=settings))
    return studio.draw(held_out_requests(objects, 3, 2, 0), 5).own


def test_every_variant_differs_from_the_default(pack: ModuleType, starter: SimpleNamespace,
                                                objects: ObjectSet) -> None:  # noqa: F811
    default = drawn(pack, objects, VARIANTS[DEFAULT])
    assert torch.equal(default, drawn(pack, objects, VARIANTS[DEFAULT]))
    for name, variant in VARIANTS.items():
        if name != DEFAULT:
            assert (drawn(pack, objects, variant) - default).abs().max() > 1e-4, name


def test_without_inter_layer_attention_layers_know_nothing_of_each_other(pack: ModuleType, starter: SimpleNamespace,
                                                                         objects: ObjectSet) -> None:  # noqa: F811
    asked = held_out_requests(objects, 3, 1, 0)[0]
    other = ablate.dataclasses.replace(asked, prompts=[*asked.prompts[:2], "a blue balloon"])
    for inter_layer in (True, False):
        studio = AblationStudio(pack, STARTER, Variant({"steps": 3, "smg_scale": 0.0}, inter_layer=inter_layer))
        first, second = (studio.draw([request], 5).own for request in (asked, other))
        assert ((first[1] - second[1]).abs().max() < 1e-5) != inter_layer
        assert (first[2] - second[2]).abs().max() > 1e-4


def test_a_run_has_all_figures_and_two_are_compared(pack: ModuleType, starter: SimpleNamespace, objects: ObjectSet,  # noqa: F811
                                                    judge: Judge, small: Renderer) -> None:  # noqa: F811
    measure = ablate.prepare(judge, objects, small, (2, 6), 3)
    studio = AblationStudio(pack, STARTER, Variant({"steps": 2}))
    found = ablate.one_run(studio, measure, (2, 6), 3, 1)
    assert found.keys() >= {"fid_starter_features_2", "slot_accuracy_2", "light_agreement_2", "layer_prompt_accuracy_6"}
    assert "fid_starter_features_6" not in found
    worse = {name: value - 0.1 for name, value in found.items()}
    runs = {DEFAULT: {"1": found, "2": found}, "cfg": {"1": worse, "2": {**worse, "slot_accuracy_2": 0}}, "sag": {"1": found}}
    report = ablate.report(runs, {})
    assert report["default_against"].keys() == {"cfg"}
    compared = report["default_against"]["cfg"]["mask_agreement_2"]
    assert compared["mean_first"] == pytest.approx(compared["mean_second"] + 0.1)
    assert ablate.table(runs, 2).count("\n") == 4
