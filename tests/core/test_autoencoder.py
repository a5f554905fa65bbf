"""CaT2I-AE: its stack of layers, its sizes, SD's weights in it, and the linear maps that are measured on it."""

import pytest
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.model import Decoder, Encoder
from torch import Tensor

from layerdiff_core.autoencoder import CompositionAutoencoder, Layers, unstack
from layerdiff_core.training import cat2i

SD = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4],
      "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
SMALL = {**SD, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1}


def scenes(count: int, foregrounds: int, side: int = 32) -> Layers:
    generator = torch.Generator().manual_seed(3)
    parts = [torch.rand(count, *shape, side, side, generator=generator) for shape in ((foregrounds, 3), (3,), (foregrounds, 1))]
    return Layers(*parts)


def build(config: dict, foregrounds: int = 1, patch: int = 1) -> CompositionAutoencoder:
    torch.manual_seed(0)
    model = CompositionAutoencoder(Encoder, Decoder, config, foregrounds, patch)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    return model.eval()


def test_a_stack_comes_apart_as_it_was_put_together() -> None:
    layers = scenes(2, 3)
    stack = layers.stack()
    assert stack.shape == (2, 15, 32, 32)
    found, rest = unstack(torch.cat([stack, torch.ones(2, 3, 32, 32)], dim=1))
    assert torch.equal(found.foregrounds, layers.foregrounds) and torch.equal(found.background, layers.background)
    assert torch.equal(found.masks, layers.masks) and torch.equal(rest, torch.ones(2, 3, 32, 32))
    assert torch.equal(stack[:, 3:6], layers.foregrounds[:, 1]) and torch.equal(stack[:, 9:12], layers.background)


def test_the_composite_lays_the_farthest_first() -> None:
    def flat(value: float) -> Tensor:
        return torch.full((1, 1, 3, 2, 2), value)

    def mask(value: float) -> Tensor:
        return torch.full((1, 1, 1, 2, 2), value)

    layers = Layers(torch.cat([flat(1.0), flat(0.5)], 1), flat(0.2)[:, 0], torch.cat([mask(0.5), mask(0.25)], 1))
    # 0.5 * 1 + 0.5 * 0.2 = 0.6; 0.25 * 0.5 + 0.75 * 0.6 = 0.575
    assert layers.composite().flatten().tolist() == pytest.approx([0.575] * 12)


@pytest.mark.parametrize("foregrounds, patch", [(1, 1), (2, 1), (1, 4), (3, 2)])
def test_sizes(foregrounds: int, patch: int) -> None:
    model = build(SMALL, foregrounds, patch)
    x = scenes(2, foregrounds).stack() * 2 - 1
    with torch.no_grad():
        z = model.encode(x)
        found = model.decode(z)
    side = 32 // (2 * patch)
    assert z.shape == (2, 4, side, side) and found.shape == (2, 4 * foregrounds + 6, 32, 32)


def test_at_sds_widths_all_of_sds_weights_fit_but_the_first_convolution() -> None:
    with torch.device("meta"):
        plain = {name: value.shape for name, value in AutoencoderKL(embed_dim=4, ddconfig=SD).state_dict().items()}
        own = {name: value.shape for name, value in CompositionAutoencoder(Encoder, Decoder, SD, 1).state_dict().items()}
    fits = {name for name, shape in plain.items() if own.get(name) == shape}
    dropped = {"encoder.conv_in.weight", *(f"decoder.{layer}.{part}" for layer in ("norm_out", "conv_out")
                                           for part in ("weight", "bias"))}
    assert plain.keys() - fits == dropped
    assert own["encoder.conv_in.weight"] == (128, 7, 3, 3)
    # what is left to learn: that convolution and the four heads
    assert {name.split(".")[0] for name in own.keys() - fits} == {"encoder", "heads"}
    assert [name for name in own.keys() - fits if name.startswith("encoder")] == ["encoder.conv_in.weight"]


def test_starting_from_sds_weights_takes_what_fits_and_leaves_the_rest() -> None:
    model, before = build(SMALL), build(SMALL).state_dict()
    torch.manual_seed(9)
    other = {name: torch.randn(value.shape) for name, value in AutoencoderKL(embed_dim=4, ddconfig=SMALL).state_dict().items()}
    taken = cat2i.start_from(model, other)
    after = model.state_dict()
    assert "encoder.mid.block_1.conv1.weight" in taken and "post_quant_conv.bias" in taken
    assert "encoder.conv_in.weight" not in taken and "decoder.conv_out.weight" not in taken
    for name, value in after.items():
        assert torch.equal(value, other[name] if name in taken else before[name]), name


def test_a_file_holds_no_counters() -> None:
    model = build(SMALL)
    left_out = model.state_dict().keys() - model.weights().keys()
    assert left_out == {f"heads.{head}.1.num_batches_tracked" for head in ("foreground", "background", "mask", "composed")}


class Pooled(CompositionAutoencoder):
    """Its latent is the mean colour of every channel over squares, so that the maps from it are known."""

    def encode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, 8)


def test_the_maps_to_colours_and_masks_are_found() -> None:
    model, layers = Pooled(Encoder, Decoder, SMALL, 1), scenes(4, 1)
    layers.masks[:] = 1.0  # then the composed image is F alone, which the latent holds, and one latent channel is always 1
    layers.masks[:2] = 0.5
    layers.background = layers.foregrounds[:, 0]
    mean, std = torch.arange(7.0), torch.full((7,), 2.0)
    found = cat2i.latent_maps(model, [layers, layers], mean, std)
    z = (model.encode(layers.stack() * 2 - 1) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)

    def predicted(name: str) -> Tensor:
        factors, bias = torch.tensor(found[f"{name}_factors"]), torch.tensor(found[f"{name}_bias"])
        return torch.einsum("nchw,cf->nfhw", z, factors) + bias.view(1, -1, 1, 1)

    pooled = torch.nn.functional.avg_pool2d
    assert (predicted("mask") - pooled(layers.masks[:, 0], 8)).abs().max() < 1e-3
    assert (predicted("rgb") - pooled(layers.composite() * 2 - 1, 8)).abs().max() < 1e-3
