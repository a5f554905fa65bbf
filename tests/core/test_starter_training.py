"""The starter's training: the pool's scenes, the teacher, crops, the clock, unknown words."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from layerdiff_core.enhancer import PromptEnhancer
from layerdiff_core.training import run as runs
from layerdiff_core.training import vae
from layerdiff_core.training.layerdiff import UNTOLD, Batch, Scenes, TextSide, told_classes
from layerdiff_core.training.pool import LatentPool
from layerdiff_core.training.run import Run
from layerdiff_core.training.start import EMBEDDING, start_from
from layerdiff_core.training.teach import Teacher, teaching_loss
from layerdiff_core.training.text import UNKNOWN, Vocabulary, with_unknown
from layerdiff_core.world.backgrounds import PLACES
from layerdiff_core.world.renderer import Renderer, Ring
from layerdiff_core.world.words import Told
from tests.world import discs

SIDE, LATENT = 64, 8


class Shrinking:
    """An autoencoder whose latent is the image itself, smaller, in -1..1."""

    def encode(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x, LATENT)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    """Four objects, and places of one image each, black on the left and white on the right."""
    picture = torch.zeros(len(PLACES), SIDE, SIDE, 3, dtype=torch.uint8)
    picture[:, :, SIDE // 2:] = 255
    bank = {"pictures": picture, "place": torch.arange(len(PLACES)), "light": torch.zeros(len(PLACES), dtype=torch.long)}
    objects = discs(4, SIDE)
    objects.images = objects.images[:, :1]
    return Renderer(objects, bank, SIDE, torch.device("cpu"), 3)


@pytest.fixture(scope="module")
def pool(renderer: Renderer) -> LatentPool:
    return LatentPool.build(renderer, 1, Shrinking(), torch.zeros(3), torch.ones(3))  # type: ignore[arg-type]


def columns(coverage: Tensor) -> Tensor:
    """The middle of masks [N, 1, h, w], from the left, in 0..1."""
    steps = (torch.arange(coverage.shape[-1]) + 0.5) / coverage.shape[-1]
    return (coverage.sum((1, 2)) * steps).sum(1) / coverage.sum((1, 2, 3))


@pytest.mark.parametrize("side", [0, 1])
def test_scenes_of_the_pool_stand_as_asked_however_they_are_lit(pool: LatentPool, side: int) -> None:
    foregrounds = torch.tensor([[[0, 0, 0, 0, 1], [1, 0, 0, 2, 1]], [[2, 0, 0, 2, 0], [3, 0, 0, 1, 0]]])
    latents, coverage = pool.scenes(torch.tensor([0, 1]), torch.full((2,), side), foregrounds)
    assert latents.shape == (6, 6, LATENT, LATENT) and coverage.shape == (6, 1, LATENT, LATENT)
    assert (coverage[::3] == 1).all() and (latents[::3, 3:] > 0.99).all()
    middles = columns(coverage.float())
    assert middles[[1, 2, 4, 5]].tolist() == pytest.approx([0.23, 0.77, 0.77, 0.5], abs=0.1)
    left, right = latents[0, :3].chunk(2, dim=-1)
    assert (left.mean() < right.mean()) == (side == 0)
    x = (torch.arange(LATENT) + 0.5) / LATENT - middles[1]
    inside = (coverage[1, 0] > 0.9).float()
    slope = ((latents[1, :3].mean(0) * x) * inside).sum() / inside.sum() - latents[1, :3].mean(0)[inside > 0].mean() * (
        (x * inside).sum() / inside.sum())
    assert (slope < 0) == (side == 0)  # brighter towards the light


def test_the_pool_is_kept_for_its_own_autoencoder_only(pool: LatentPool, tmp_path: Path) -> None:
    path = tmp_path / "pool.safetensors"
    assert LatentPool.load(path, "one", torch.device("cpu")) is None
    pool.save(path, "one")
    assert LatentPool.load(path, "other", torch.device("cpu")) is None
    again = LatentPool.load(path, "one", torch.device("cpu"))
    assert again is not None and again.shape == pool.shape
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in pool.tensors.items())


def test_batches_say_what_the_global_prompt_tells() -> None:
    said = told_classes(Told([0, None], [None, 2], 1))
    assert said == [[UNTOLD, UNTOLD, 1], [0, UNTOLD, 1], [UNTOLD, 2, 1]]


def test_one_prompt_in_ten_has_a_word_that_nobody_knows() -> None:
    words = SimpleNamespace(rows=lambda prompt: np.array([5, 6, 7, 9, 9, 9]), end=9)
    every = torch.arange(len(PLACES)).repeat_interleave(3), torch.arange(3).repeat(len(PLACES))
    rows = next(iter(Scenes(discs(8, 16), *every, words, 1600))).rows.flatten(0, 1)
    strange = (rows == UNKNOWN).any(1).float().mean().item()
    assert 0.05 < strange < 0.15


def test_an_unknown_word_joins_and_takes_nothing_away() -> None:
    rng = np.random.default_rng(0)
    rows = np.array([5, 6, 7, 9, 9])
    for _ in range(20):
        changed = with_unknown(rows, 9, rng)
        assert len(changed) == 5 and changed[0] == 5 and changed[-1] == 9
        assert [row for row in changed if row not in (UNKNOWN, 9)] == [5, 6, 7] and (changed == UNKNOWN).sum() == 1
    full = np.array([5, 6, 7, 8, 9])
    assert with_unknown(full, 9, rng) is full


class Words(nn.Module):
    """A text model that is only an embedding table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(32, 16)

    def text_model(self, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor]:
        return (self.table(rows),)


def test_the_teacher_teaches_what_only_the_global_prompt_tells() -> None:
    torch.manual_seed(0)
    enhancer = PromptEnhancer(16, 2, both_ways=True)
    enhancer.open_gates()
    teacher = Teacher(TextSide(Words(), enhancer), 16)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=1e-2)
    shares = []
    for _ in range(120):
        light = torch.randint(3, (32,))
        rows = torch.randint(8, 12, (32, 2, 4))
        told = torch.full((32, 2, 3), UNTOLD)
        told[..., 2] = light[:, None]
        batch = Batch(2, light, light, light, rows, torch.stack([light] * 4, 1), told)
        loss, figures = teaching_loss(teacher, batch)
        shares.append(figures["light"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert shares[0] < 0.7 < 0.95 < shares[-1]


def test_holding_costs_what_the_plain_tokens_leave() -> None:
    torch.manual_seed(0)
    teacher = Teacher(TextSide(Words(), PromptEnhancer(16, 2)), 16)
    zeros = torch.zeros(2, 2, 3, dtype=torch.long)
    batch = Batch(2, zeros, zeros, zeros, zeros, zeros[:, 0], torch.full((2, 2, 3), UNTOLD))
    plain = teacher(batch)[1].detach()
    free, held, moved = (teaching_loss(teacher, batch, target)[0].item() for target in (None, plain, plain + 0.1))
    assert held == pytest.approx(free) and moved > held + 0.05


def test_a_start_takes_what_fits_and_the_words_that_both_know(tmp_path: Path) -> None:
    def parts(rows: int, width: int) -> nn.ModuleDict:
        table = nn.ModuleDict({"token_embedding": nn.Embedding(rows, 4)})
        text = nn.ModuleDict({"text_model": nn.ModuleDict({"embeddings": table})})
        enhancer = nn.ParameterDict({"gate": torch.ones(2)})
        return nn.ModuleDict({"text": text, "enhancer": enhancer, "same": nn.Linear(2, 2), "other": nn.Linear(2, width)})

    old, new = parts(4, 3), parts(4, 5)
    table, before = old.get_parameter(EMBEDDING), {name: value.clone() for name, value in new.state_dict().items()}
    save_file({**old.state_dict(), "text.token_ids": torch.tensor([7, 8, 9])}, tmp_path / "old.safetensors")
    words = Vocabulary(lambda word: [int(word)], ["9"], 7, 10)  # rows: 7, 9, 10
    assert start_from(new, tmp_path / "old.safetensors", words) == 2
    after = new.state_dict()
    assert torch.equal(after["same.weight"], old.state_dict()["same.weight"])
    assert torch.equal(after["other.weight"], before["other.weight"]) and (after["enhancer.gate"] == 1).all()
    assert torch.equal(after[EMBEDDING], torch.stack([table[0], table[1], table[3], before[EMBEDDING][3]]).detach())


def test_crops_look_where_the_weight_is() -> None:
    pixels, weight = torch.rand(8, 3, 128, 128), torch.full((8, 1, 128, 128), 1e-4)
    weight[:, :, 96:112, 16:32] = 2
    cut = vae.crop(vae.Pictures(pixels, weight), 64, torch.Generator().manual_seed(0))
    assert cut.pixels.shape == (8, 3, 64, 64) and cut.weight.shape == (8, 1, 64, 64)
    assert (cut.weight.sum((1, 2, 3)) > 0.9 * 2 * 16 * 16).all()


def test_pictures_weigh_things_more_than_what_is_around_them(renderer: Renderer) -> None:
    ring = Ring(renderer, 16)
    batch = next(vae.pictures(renderer, ring, 16))
    assert batch.pixels.shape == (16, 3, SIDE, SIDE) and batch.weight.shape == (16, 1, SIDE, SIDE)
    layers = batch.weight[:8]
    assert layers.amin((1, 2, 3)).max() == vae.OUTSIDE and layers.amax((1, 2, 3)).min() > vae.INSIDE - 0.1
    assert (batch.weight[8:12] == 1).all() and (batch.weight[14:] == 1).all()


def test_the_ring_renews_the_oldest(renderer: Renderer) -> None:
    ring = Ring(renderer, 6)
    before = ring.pictures.clone()
    for _ in range(2):
        ring.renew(2)
    changed = (ring.pictures != before).flatten(1).any(1)
    assert changed.tolist() == [True] * 4 + [False] * 2


def test_drawings_keep_their_precision_inside_a_training_step() -> None:
    def drawn() -> Tensor:
        black = torch.zeros(len(PLACES), SIDE, SIDE, 3, dtype=torch.uint8)
        bank = {"pictures": black, "place": torch.arange(len(PLACES)), "light": torch.zeros(len(PLACES), dtype=torch.long)}
        objects = discs(4, SIDE)
        objects.images = objects.images[:, :1]
        return Renderer(objects, bank, SIDE, torch.device("cpu"), 3).random_foregrounds(8)[1]

    with torch.autocast("cpu", torch.bfloat16):
        inside = drawn()
    assert torch.equal(inside, drawn())


def test_a_pause_does_not_eat_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setitem(runs.CLOCKS, "cpu", lambda: now[0])
    model = nn.Linear(4, 4)
    run = Run(model, tmp_path / "run.safetensors", 100, 1e-3)
    for seconds in (1, 600, 2):
        now[0] += seconds
        run.update(model(torch.ones(1, 4)).sum())
    assert run.spent == 1 + runs.LONGEST_STEP_SECONDS + 2 and not run.done
    run.save()
    again = Run(nn.Linear(4, 4), tmp_path / "run.safetensors", 20, 1e-3)
    assert again.spent == run.spent and again.done and again.step == 3


def test_on_a_cpu_waiting_costs_nothing(tmp_path: Path) -> None:
    model = nn.Linear(4, 4)
    run = Run(model, tmp_path / "run.safetensors", 100, 1e-3)
    time.sleep(0.5)
    run.update(model(torch.ones(1, 4)).sum())
    assert 0 < run.spent < 0.4
