"""What trains Text2Layer: the objective's terms and what they reach, the baseline's stack of plain latents, the
UNet's loss, the pool of scenes."""

import re
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.model import Decoder, Encoder
from torch import Tensor, nn

from layerdiff_core.autoencoder import CompositionAutoencoder, Layers, unstack
from layerdiff_core.training import cat2i, diffusion, losses, text2layer
from layerdiff_core.training.stacked import StackedAutoencoder
from layerdiff_core.world.backgrounds import PLACES
from tests.world import discs

CONFIG = {"double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 1],
          "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def scenes(count: int = 3, foregrounds: int = 1) -> Layers:
    parts = ((foregrounds, 3), (3,), (foregrounds, 1))
    return Layers(*(torch.rand(count, *shape, 32, 32) for shape in parts))


def fresh(foregrounds: int = 1) -> CompositionAutoencoder:
    model = CompositionAutoencoder(Encoder, Decoder, CONFIG, foregrounds)
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    cat2i.initialise(model)
    return model.train()


def step(model: nn.Module, layers: Layers, adversarial: bool = False, **terms: bool) -> tuple[cat2i.Step, Tensor]:
    objective = cat2i.AutoencoderObjective(model, losses.PatchDiscriminator(8), losses.RandomFeatures(), **terms)
    found = objective.generator(layers, adversarial)
    found.loss.backward()
    return found, objective.critic(found)


def reached(model: CompositionAutoencoder) -> set[str]:
    """The heads whose last layer got a gradient."""
    return {name for name, head in model.heads.items() if head[3].bias.grad is not None and head[3].bias.grad.abs().sum() > 0}


@pytest.mark.parametrize("foregrounds", [1, 2])
def test_the_loss_reaches_every_head(foregrounds: int) -> None:
    model, layers = fresh(foregrounds), scenes(foregrounds=foregrounds)
    found, critic = step(model, layers)
    assert reached(model) == {"foreground", "background", "mask", "composed"}
    # F1..FN, B and I of three scenes
    assert found.real.shape == found.fake.shape == (3 * (foregrounds + 2), 3, 32, 32)
    assert torch.equal(found.real[-3:], layers.composite()) and torch.isfinite(critic)


def test_without_the_composed_image_its_head_learns_nothing() -> None:
    model = fresh()
    found, _ = step(model, scenes(), composed=False)
    assert reached(model) == {"foreground", "background", "mask"} and found.real.shape == (6, 3, 32, 32)


def test_a_plain_autoencoder_is_shown_masks_as_pictures() -> None:
    layers = scenes()
    found, _ = step(fresh(), layers, composed=False, mask_terms=False)
    assert found.real.shape == (9, 3, 32, 32)
    assert torch.equal(found.real[-3:], layers.masks[:, 0].expand(-1, 3, -1, -1))


def test_the_adversarial_term_changes_the_loss_alone() -> None:
    layers, losses_found = scenes(), []
    for adversarial in (False, True):
        torch.manual_seed(1)
        found, _ = step(fresh(), layers, adversarial)
        losses_found.append((found.loss.item(), found.reconstruction.item()))
    assert losses_found[0][1] == pytest.approx(losses_found[1][1]) and losses_found[0][0] != losses_found[1][0]


def test_the_decoder_learns_on_noisy_latents_and_leaves_the_encoder_alone() -> None:
    model, layers = fresh().eval().requires_grad_(False), scenes()
    model.decoder.requires_grad_(True)
    found = []
    for std in (torch.zeros(1), torch.zeros(1), torch.full((1, 1, 1, 1), 100.0)):
        torch.manual_seed(0)
        objective = cat2i.AutoencoderObjective(model, losses.PatchDiscriminator(8), losses.RandomFeatures(), latent_std=std)
        found.append(objective.generator(layers, adversarial=False))
    found[-1].loss.backward()
    masks = [step.found.masks for step in found]
    assert torch.equal(masks[0], masks[1]) and not torch.allclose(masks[0], masks[2], atol=0.1)
    assert {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None} == {"decoder"}


def test_settled_norms_no_longer_depend_on_the_batch() -> None:
    model = fresh()
    cat2i.settle_norms(model, [scenes(), scenes()])
    model.heads["foreground"][3].weight.data.normal_()
    layers = scenes()
    one = Layers(layers.foregrounds[:1], layers.background[:1], layers.masks[:1])
    alone, together = (cat2i.decode(model, cat2i.encode(model, part))[0].foregrounds for part in (one, layers))
    assert (alone - together[:1]).abs().max() < 1e-4


class Halves(nn.Module):
    """A plain image autoencoder without loss: its latent is the image."""

    def moments(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.full_like(x, -30.0)], dim=1)

    def decode(self, z: Tensor) -> Tensor:
        return z


@pytest.mark.parametrize("foregrounds", [1, 3])
def test_the_baselines_stack_comes_back_with_the_composite_of_the_formula(foregrounds: int) -> None:
    layers, model = scenes(2, foregrounds), StackedAutoencoder(Halves(), foregrounds)
    stack = layers.stack() * 2 - 1
    mean, logvar = model.moments(stack)
    assert mean.shape == logvar.shape == (2, 3 * (2 * foregrounds + 1), 32, 32) and logvar.max() == -20
    found, image = unstack(model.decode(mean) / 2 + 0.5)
    for part in ("foregrounds", "background", "masks"):
        assert (getattr(found, part) - getattr(layers, part)).abs().max() < 1e-6, part
    assert (image - layers.composite()).abs().max() < 1e-6


def test_the_loss_looks_at_things_five_times_as_hard() -> None:
    masks = torch.zeros(1, 2, 1, 32, 32)
    masks[0, 0, 0, 3, 3] = masks[0, 1, 0, 30, 30] = 1.0
    weights = text2layer.thing_weights(masks)
    assert weights.shape == (1, 1, 4, 4) and weights.mean() == pytest.approx(1)
    assert weights[0, 0, 0, 0] == weights[0, 0, 3, 3] == pytest.approx(5 * weights[0, 0, 1, 1].item())
    assert (text2layer.thing_weights(torch.zeros(1, 1, 1, 32, 32)) == 1).all()


def test_training_begins_where_sampling_does() -> None:
    alphas = diffusion.sd_alphas_cumprod()
    timestep, alpha_bar = diffusion.draw_timesteps(20000, alphas)
    pure = alpha_bar == 0
    assert pure.float().mean() == pytest.approx(diffusion.PURE_NOISE, abs=0.02) and (timestep[pure] == 999).all()
    assert torch.equal(alpha_bar[~pure], alphas[timestep[~pure]])
    assert timestep[~pure].float().mean() == pytest.approx(499.5, abs=10)
    noise, x0 = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    assert torch.equal(diffusion.add_noise(x0, noise, torch.zeros(1)), noise)
    assert torch.equal(diffusion.target(x0, noise, torch.zeros(1), "v"), -x0)
    assert diffusion.loss(x0, x0 + 2, torch.zeros(1), "v").item() == pytest.approx(4)


class Nothing(nn.Module):
    """Always predicts zero."""

    def encode(self, rows: Tensor) -> Tensor:
        return rows

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_the_loss_is_weighted_place_by_place() -> None:
    x0, weights = torch.zeros(64, 4, 2, 2), torch.zeros(64, 1, 2, 2)
    x0[..., 0, 0] = 100.0
    rows, alphas = torch.zeros(64, 3, dtype=torch.long), diffusion.sd_alphas_cumprod()
    found = []
    for place in (0, 1):
        torch.manual_seed(3)
        weights.zero_()[..., place, place] = 4.0
        found.append(text2layer.text2layer_loss(Nothing(), x0, rows, weights, rows[0], alphas, "v"))
    assert found[0] > 100 * found[1] > 0


def test_the_pool_keeps_what_belongs_to_a_scene_together(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [scenes(3), scenes(3)]
    drawn = iter(layers)
    monkeypatch.setattr(text2layer, "draw", lambda *arguments: next(drawn))
    monkeypatch.setattr(text2layer, "encode", lambda model, found: found.background[:, :, :4, :4])
    pool = text2layer.ScenePool(SimpleNamespace(device="cpu", canvas=32), None, None, size=4, channels=3, rows=2)
    for first in (0, 3):
        pool.add(SimpleNamespace(place=torch.zeros(3), global_rows=torch.arange(first, first + 3)[:, None].repeat(1, 2)))
    backgrounds, masks = (torch.cat([getattr(part, name) for part in layers]) for name in ("background", "masks"))
    latents, rows, weights = pool.sample(64)
    assert set(rows[:, 0].tolist()) == {2, 3, 4, 5}  # the oldest two made room
    assert (latents - backgrounds[rows[:, 0], :, :4, :4]).abs().max() < 0.01
    assert (weights - text2layer.thing_weights(masks)[rows[:, 0]]).abs().max() < 0.02


def test_prompts_name_things_in_the_order_of_the_foregrounds() -> None:
    told = SimpleNamespace(rows=lambda prompt: np.array([*map(int, re.findall(r"thing(\d)", prompt)), -1, -1][:2]), end=-2)
    every = torch.arange(len(PLACES)).repeat_interleave(3), torch.arange(3).repeat(len(PLACES))
    batch = next(iter(text2layer.FixedScenes(discs(8, 16), *every, told, foregrounds=2, count=20)))
    assert torch.equal(batch.global_rows, batch.foregrounds[..., 0])
