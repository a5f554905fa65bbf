"""The benchmark is fair: both sides have the same widths and take turns, and the table shows a missed limit."""

from types import ModuleType

import numpy as np
import pytest
import torch

from benchmarks import compositing, guidance, layerdiffuse, measure, models, seams
from tools import bench


def test_both_sides_of_a_step_have_the_same_widths(pack: ModuleType) -> None:
    ours, host = models.layered_network(pack).state_dict(), models.host_network(pack).state_dict()
    assert {name: weight.shape for name, weight in host.items()} == {name: ours[name].shape for name in host}
    assert all(pack.nodes.host.unet.is_added(name) for name in ours.keys() - host.keys())
    channels = models.architecture(pack)["latent"]["channels"]
    assert models.step(pack, "host", 64)().shape == (models.LAYERS, channels, 8, 8)
    assert models.step(pack, "layered", 64)().shape == (models.LAYERS, 2 * channels, 8, 8)


def test_the_three_ways_of_sampling_run_and_differ(pack: ModuleType) -> None:
    drawn = {name: run()[0]["samples"] for name, run in guidance.sides(pack, 2).items()}
    assert all(torch.isfinite(samples).all() for samples in drawn.values())
    assert not torch.allclose(drawn["smg"], drawn["cfg"]) and not torch.allclose(drawn["sag"], drawn["cfg"])


def test_both_sides_of_layerdiffuse_draw_as_many_images(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTHS": [32, 64, 128, 128], "CONTEXT": 96, "STEP_CANVAS": 64}.items():
        monkeypatch.setattr(layerdiffuse, name, value)
    base = layerdiffuse.sd15_model(pack)
    for kind, frames in {"joint": 3, "fg2bg": 2}.items():
        drawn = {name: run()[0]["samples"] for name, run in layerdiffuse.sides(pack, kind, base).items()}
        assert all(samples.shape == (frames, 4, 8, 8) and torch.isfinite(samples).all() for samples in drawn.values())
        assert not torch.allclose(drawn["layerdiffuse"], drawn["host"])


def test_both_ways_of_compositing_give_the_same_picture(pack: ModuleType) -> None:
    ways = {name: run() for name, run in compositing.sides(pack, compositing.document(pack, 64)).items()}
    image, alpha = ways["ours"]
    assert alpha.min() == 1
    # Pillow rounds to eight bits after each of seven layers.
    assert np.abs(image[0].numpy() * 255 - np.asarray(ways["pillow"])[..., :3]).max() < 4


def test_a_shape_grows_and_shrinks_by_whole_pixels() -> None:
    square = torch.zeros(1, 1, 9, 9)
    square[..., 3:6, 3:6] = 1
    assert [seams.grow(square, by).sum().item() for by in (-1, 1, 2)] == [1, 25, 49]


def test_error_is_measured_along_the_seams_alone() -> None:
    truth, band = torch.zeros(1, 4, 4, 3), torch.zeros(4, 4, dtype=torch.bool)
    band[1] = True
    picture = torch.ones(1, 4, 4, 3)
    picture[:, 1, :2] = 0
    assert seams.error(seams.Case(truth, {}, band, [1]), picture) == 127.5


def test_sides_take_turns_and_change_their_order() -> None:
    ran: list[str] = []
    found = measure.medians({name: lambda name=name: ran.append(name) for name in "ab"}, rounds=3, warm_up=1)
    assert "".join(ran) in ("abbaabba", "baabbaab")
    assert set(found) == {"a", "b"}


def test_the_table_tells_a_missed_bar() -> None:
    figures = dict(bench.BARS) | {"smg_over_cfg": 2.0, "medians": {}, "machine": "one"}
    assert [line.split()[0] for line in bench.table(figures).splitlines() if "MISSED" in line] == ["smg_over_cfg"]
