"""The transparent decoder against a second, plain reference, written from the description of the file."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from layerdiff_core.edges import fill_colours
from layerdiff_core.transparent_decoder import TransparentDecoder, decode_transparency
from tests import published
from tests.published import HALF


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return {key: value.float() for key, value in published.random_tensors(published.decoder_shapes()).items()}


@pytest.fixture(scope="module")
def network(tensors: dict[str, Tensor]) -> TransparentDecoder:
    with torch.device("meta"):
        network = TransparentDecoder()
    network.load_state_dict(tensors, assign=True)
    return network.requires_grad_(False)


def test_the_published_keys_and_shapes() -> None:
    wanted = published.decoder_shapes()
    with torch.device("meta"):
        network = TransparentDecoder()
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == wanted
    assert round(sum(math.prod(shape) for shape in wanted.values()) * 2 / 1e6) == 208


def reference(t: dict[str, Tensor], picture: Tensor, latent: Tensor) -> Tensor:
    """The network for one image, layer after layer, with attention head by head."""

    def conv(key: str, x: Tensor, **options: int) -> Tensor:
        weight = t[f"{key}.weight"]
        return F.conv2d(x, weight, t[f"{key}.bias"], padding=weight.shape[-1] // 2, **options)

    def norm(key: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 4, t[f"{key}.weight"], t[f"{key}.bias"], 1e-5)

    def resnet(key: str, x: Tensor) -> Tensor:
        h = conv(f"{key}.conv1", F.silu(norm(f"{key}.norm1", x)))
        h = conv(f"{key}.conv2", F.silu(norm(f"{key}.norm2", h)))
        return h + (conv(f"{key}.conv_shortcut", x) if f"{key}.conv_shortcut.weight" in t else x)

    def attention(key: str, x: Tensor) -> Tensor:
        if f"{key}.to_q.weight" not in t:
            return x
        h = norm(f"{key}.group_norm", x)[0].flatten(1).T
        q, k, v = (F.linear(h, t[f"{key}.to_{n}.weight"], t[f"{key}.to_{n}.bias"]) for n in "qkv")
        heads = [(a @ b.T / 8**0.5).softmax(-1) @ c for a, b, c in zip(q.split(8, -1), k.split(8, -1), v.split(8, -1))]
        out = F.linear(torch.cat(heads, -1), t[f"{key}.to_out.0.weight"], t[f"{key}.to_out.0.bias"])
        return x + out.T.reshape(x.shape)

    h = conv("conv_in", picture)
    kept = [h]
    for level in range(7):
        if level == 3:
            h = h + conv("latent_conv_in", latent)
        for index in range(2):
            h = attention(f"down_blocks.{level}.attentions.{index}", resnet(f"down_blocks.{level}.resnets.{index}", h))
            kept.append(h)
        if level < 6:
            h = conv(f"down_blocks.{level}.downsamplers.0.conv", h, stride=2)
            kept.append(h)
    h = resnet("mid_block.resnets.1", attention("mid_block.attentions.0", resnet("mid_block.resnets.0", h)))
    for level in range(7):
        for index in range(3):
            h = resnet(f"up_blocks.{level}.resnets.{index}", torch.cat([h, kept.pop()], 1))
            h = attention(f"up_blocks.{level}.attentions.{index}", h)
        if level < 6:
            h = conv(f"up_blocks.{level}.upsamplers.0.conv", h.repeat_interleave(2, 2).repeat_interleave(2, 3))
    return conv("conv_out", F.silu(norm("conv_norm_out", h)))


def inputs(height: int, width: int, count: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return (torch.rand(count, 3, height, width, generator=generator),
            torch.randn(count, 4, height // 8, width // 8, generator=generator))


@torch.inference_mode()
def test_the_network_is_what_the_description_says(network: TransparentDecoder, tensors: dict[str, Tensor]) -> None:
    picture, latent = inputs(64, 128)
    wanted = reference(tensors, picture, latent)
    found = network(picture, latent)
    assert found.shape == (1, 4, 64, 128) and wanted.std() > 0.1
    assert (found - wanted).abs().max() < 1e-5 * max(1, wanted.abs().max())
    assert (network(picture, latent + 1) - found).abs().max() > 1e-3, "the latent makes no difference"


@pytest.mark.parametrize("kind", HALF, ids=str)
@torch.inference_mode()
def test_half_precision(network: TransparentDecoder, kind: torch.dtype) -> None:
    picture, latent = inputs(64, 64)
    wanted = network(picture, latent)
    found = copy.deepcopy(network).to(kind)(picture.to(kind), latent.to(kind)).float()
    assert (found - wanted).abs().max() < HALF[kind] * wanted.abs().max()


@torch.inference_mode()
def test_eight_views_and_their_median(network: TransparentDecoder, tensors: dict[str, Tensor]) -> None:
    picture, latent = inputs(64, 64)
    views = []
    for mirrored in (False, True):
        for turns in range(4):
            seen = [torch.rot90(part.flip(3) if mirrored else part, turns, (2, 3)) for part in (picture, latent)]
            back = torch.rot90(reference(tensors, *seen).clip(0, 1), -turns, (2, 3))
            views.append(back.flip(3) if mirrored else back)
    # Of eight, the fourth: the lower one of the two in the middle.
    wanted = torch.stack(views).sort(0).values[3]
    called = []
    found = decode_transparency(network, picture, latent, after_view=lambda: called.append(None))
    assert len(called) == 8 and (found - wanted).abs().max() < 1e-5
    once = decode_transparency(network, picture, latent, 1)
    assert (once - views[0]).abs().max() < 1e-5 and (once - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(64, 64), (72, 136), (8, 8), (120, 64)], ids=str)
@pytest.mark.parametrize("views", [1, 8])
def test_sides_of_any_length(size: tuple[int, int], views: int) -> None:
    """The network sees whole multiples of 64, picture and latent in the same place, and what comes out is cropped back."""
    seen = []

    def network(picture: Tensor, latent: Tensor) -> Tensor:
        seen.append(picture.shape[2:])
        assert picture.shape[2] % 64 == picture.shape[3] % 64 == 0
        assert torch.equal(F.interpolate(latent[:, :3], scale_factor=8), picture)
        return torch.cat([picture[:, :1], picture], 1)

    latent = torch.rand(2, 4, size[0] // 8, size[1] // 8)
    picture = F.interpolate(latent[:, :3], scale_factor=8)
    found = decode_transparency(network, picture, latent, views)
    assert torch.equal(found, torch.cat([picture[:, :1], picture], 1)) and len(seen) == views


def test_colours_are_filled_in_where_nothing_is_seen() -> None:
    image, coverage = torch.rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    coverage[0, :, 4:12, 4:12] = 0.5
    image[0, :, 4:12, 4:12] = 0.25
    found = fill_colours(image, coverage)
    assert torch.allclose(found[0], torch.full((3, 16, 16), 0.25), atol=1e-5)
    assert torch.equal(found[1], image[1]), "a layer without coverage"
