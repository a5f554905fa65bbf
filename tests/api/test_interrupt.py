"""An interrupt while layers are sampled."""

import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import models
from tests.api.graphs import STARTER, changed, layered, node
from tools.client import Interrupted
from tools.host import Server

STEPS, STOP_AT = 300, 3
SMG = node("LayerDiffSMGKSampler", model=["1", 0], positive=["2", 0], negative=["2", 1], latent_image=["3", 0], vae=["1", 2],
           seed=1, steps=STEPS, cfg=2.0, sampler_name="euler", scheduler="normal", denoise=1.0, smg_scale=0.5, blur_sigma=1.0,
           smg_start=0.0, smg_end=1.0)


@pytest.fixture(scope="module", autouse=True)
def model(pack: ModuleType, server: Server, served_models: Path) -> None:
    if not (served_models / STARTER).exists():
        models.write_starter(pack, served_models / STARTER)


@pytest.mark.parametrize("changes", [{"4.steps": STEPS}, {"4": SMG}], ids=["KSampler", "SMG KSampler"])
def test_sampling_stops_within_a_step_and_the_next_run_works(server: Server, changes: dict[str, Any]) -> None:
    steps: list[int] = []
    asked: list[float] = []

    def watch(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data["node"] == "4":
            steps.append(data["value"])
            if len(steps) == STOP_AT:
                server.client.interrupt()
                asked.append(time.monotonic())

    # Large enough that a step takes longer than the messages do.
    long = changed(layered(), {**changes, "3.width": 256, "3.height": 256, "3.scenes": 2})
    with pytest.raises(Interrupted, match="node 4"):
        server.client.run(long, watch)
    assert steps[STOP_AT - 1] < STEPS
    assert steps[-1] <= steps[STOP_AT - 1] + 1, f"went on after the interrupt: {steps}"
    assert time.monotonic() - asked[0] < 5
    assert len(server.client.run(layered()).outputs["6"]["images"]) == 4


def test_without_an_interrupt_it_goes_on(server: Server) -> None:
    steps: list[int] = []
    server.client.run(changed(layered(), {"4.steps": 6, "4.seed": 2}),
                      lambda kind, data: steps.append(data["value"]) if kind == "progress" and data["node"] == "4" else None)
    assert steps[-1] == 6
