"""ComfyUI's own latent nodes on layered latents: the right layers, or a clear error."""

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_extras import nodes_latent, nodes_mask, nodes_rebatch

import nodes as host

MEMORY_MODES = ("plain", "dynamic")

NAMES = "meadow\nballoon\nfox"


@pytest.fixture(autouse=True)
def as_in_comfyui():
    # oneDNN sums in another order for another batch size; here batches are compared to the last digits.
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.fixture(scope="module")
def of(pack: ModuleType, either: SimpleNamespace) -> SimpleNamespace:
    """A model of either family, with two sampled scenes of three layers at 128 pixels."""
    with torch.inference_mode():
        latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(either.vae, 128, 128, either.layers, 2).args[0]
        found = SimpleNamespace(**{**vars(either), "pack": pack})
        found.latent = again(found, latent, 1.0)
    return found


@pytest.fixture
def layerdiff(of: SimpleNamespace) -> SimpleNamespace:
    """The LayerDiff model of the two."""
    if not of.is_layered:
        pytest.skip("of LayerDiff alone")
    return of


@pytest.fixture
def stacked(of: SimpleNamespace) -> SimpleNamespace:
    """The Text2Layer model of the two."""
    if of.is_layered:
        pytest.skip("of Text2Layer alone")
    return of


def again(of: SimpleNamespace, latent: dict[str, Any], denoise: float) -> dict[str, Any]:
    return host.KSampler().sample(of.model, 7, 3, 2.0, "euler", "normal", of.positive, of.negative, latent, denoise)[0]


def decode(of: SimpleNamespace, latent: dict[str, Any], names: str = NAMES) -> SimpleNamespace:
    layers, images, coverage, composites, _ = of.pack.nodes.decode.LayerDiffDecodeLayers.execute(
        latent, of.vae, names, 0.5, 0.4, -1).args
    return SimpleNamespace(layers=layers, images=images, coverage=coverage, composites=composites)


@pytest.mark.parametrize("size", [192, 256])
@pytest.mark.parametrize("node", ["LatentUpscale", "LatentUpscaleBy"])
def test_upscaled_and_sampled_again(of: SimpleNamespace, size: int, node: str) -> None:
    if node == "LatentUpscale":
        larger = host.LatentUpscale().upscale(of.latent, "bilinear", size, size, "disabled")[0]
    else:
        larger = host.LatentUpscaleBy().upscale(of.latent, "bilinear", size / 128)[0]
    assert larger["size"] == (128, 128), "ComfyUI no longer keeps what it does not know: nothing can go stale"
    second = again(of, larger, 0.5)
    drawn = decode(of, second)
    assert drawn.images.shape == (2 * of.layers, size, size, 3)
    assert [document["canvas"] for document in drawn.layers] == [(size, size)] * 2
    assert [layer["name"] for layer in drawn.layers[1]["layers"]] == NAMES.splitlines()
    # Each latent stands where it stood: it is most like itself before.
    before = torch.nn.functional.interpolate(of.latent["samples"], size=second["samples"].shape[-2:], mode="bilinear")
    likeness = torch.corrcoef(torch.cat([before.flatten(1), second["samples"].flatten(1)]))[: len(before), len(before) :]
    assert likeness.argmax(0).tolist() == list(range(len(before)))
    # And layers come out scene by scene.
    rows = len(before) // 2
    alone = decode(of, host.LatentFromBatch().frombatch(second, rows, rows)[0])
    assert torch.allclose(alone.images, drawn.images[of.layers :], atol=1e-4)


def test_crop(of: SimpleNamespace) -> None:
    part = host.LatentCrop().crop(of.latent, 64, 96, 32, 16)[0]
    assert decode(of, part).images.shape == (2 * of.layers, 96, 64, 3)
    assert torch.equal(part["samples"], of.latent["samples"][:, :, 2:14, 4:12])


@pytest.mark.parametrize("rotation", ["90 degrees", "180 degrees", "270 degrees"])
def test_rotate_a_size_that_is_rounded_up(of: SimpleNamespace, rotation: str) -> None:
    latent = of.pack.nodes.latents.LayerDiffEmptyLatent.execute(of.vae, 100, 68, of.layers, 1).args[0]
    torch.manual_seed(1)
    latent = {**latent, "samples": torch.randn_like(latent["samples"])}
    shape = decode(of, host.LatentRotate().rotate(latent, rotation)[0]).images.shape
    assert shape[1:3] == ((68, 100) if rotation == "180 degrees" else (100, 68))


@pytest.mark.parametrize("method", ["x-axis: vertically", "y-axis: horizontally"])
def test_flip_a_size_that_is_rounded_up(of: SimpleNamespace, method: str) -> None:
    """Padding is on both sides, so a flipped latent is cropped to the flipped image."""
    code = of.pack.nodes.host.codecs.codec_for(of.vae)
    picture = torch.arange(12.0).view(1, 1, 12, 1).expand(1, 12, 12, 3)  # rounded up to 16: two columns to each side
    filled = code.fill_up(picture)
    axis = 1 if method.startswith("x") else 2
    assert torch.equal(code.cut_back(filled.flip(axis), (12, 12)), picture.flip(axis))
    flipped = host.LatentFlip().flip(of.latent, method)[0]
    assert decode(of, flipped).images.shape == (2 * of.layers, 128, 128, 3)


def test_repeat(of: SimpleNamespace) -> None:
    twice = decode(of, host.RepeatLatentBatch().repeat(of.latent, 2)[0])
    once = decode(of, of.latent)
    assert len(twice.layers) == 4 and torch.allclose(twice.images, torch.cat([once.images, once.images]), atol=1e-5)


def test_a_scene_from_the_batch(of: SimpleNamespace) -> None:
    rows = len(of.latent["samples"]) // 2
    second = host.LatentFromBatch().frombatch(of.latent, rows, rows)[0]
    assert torch.allclose(decode(of, second).images, decode(of, of.latent).images[of.layers :], atol=1e-5)


@pytest.mark.parametrize(("start", "length"), [(1, 3), (2, 3), (0, 2), (5, 1), (1, 5)])
def test_scenes_that_were_cut_apart(layerdiff: SimpleNamespace, start: int, length: int) -> None:
    torn = host.LatentFromBatch().frombatch(layerdiff.latent, start, length)[0]
    with pytest.raises(ValueError, match="whole scenes"):
        decode(layerdiff, torn)
    with pytest.raises(ValueError, match="whole scenes"):
        layerdiff.pack.nodes.latents.LayerDiffFreeLayers.execute(torn, "0")


def test_rebatch(layerdiff: SimpleNamespace) -> None:
    once = decode(layerdiff, layerdiff.latent)
    (whole,) = nodes_rebatch.LatentRebatch.execute([layerdiff.latent], [6]).args[0]
    assert "layers" not in whole, "ComfyUI now keeps it: the names are needed no longer"
    assert torch.allclose(decode(layerdiff, whole).images, once.images, atol=1e-5)
    assert len(decode(layerdiff, whole).layers) == 2, "the number of layers is that of the names"
    first, second = nodes_rebatch.LatentRebatch.execute([layerdiff.latent], [3]).args[0]
    assert torch.allclose(decode(layerdiff, second).images, once.images[3:], atol=1e-5)
    for torn in nodes_rebatch.LatentRebatch.execute([layerdiff.latent], [4]).args[0]:
        with pytest.raises(ValueError, match="whole"):
            decode(layerdiff, torn)
    with pytest.raises(ValueError, match="Move this node before Rebatch Latents"):
        layerdiff.pack.nodes.latents.LayerDiffFreeLayers.execute(first, "1")


def test_rebatch_a_text2layer_latent(stacked: SimpleNamespace) -> None:
    first, second = nodes_rebatch.LatentRebatch.execute([stacked.latent], [1]).args[0]
    assert torch.allclose(decode(stacked, second).images, decode(stacked, stacked.latent).images[stacked.layers :], atol=1e-5)


def test_composite(of: SimpleNamespace) -> None:
    other = {**of.latent, "samples": of.latent["samples"].flip(2)}
    pasted = host.LatentComposite().composite(of.latent, host.LatentCrop().crop(other, 64, 64, 0, 0)[0], 64, 64)[0]
    assert torch.equal(pasted["samples"][:, :, 8:, 8:], other["samples"][:, :, :8, :8])
    assert decode(of, pasted).images.shape == (2 * of.layers, 128, 128, 3)
    masked = nodes_mask.LatentCompositeMasked.execute(of.latent, other, 0, 0, False, torch.ones(1, 128, 128)).args[0]
    assert torch.allclose(masked["samples"], other["samples"])
    assert decode(of, masked).images.shape == (2 * of.layers, 128, 128, 3)


def test_batch_of_two_latents(of: SimpleNamespace) -> None:
    both = nodes_latent.LatentBatch.execute(of.latent, of.latent).args[0]
    assert len(decode(of, both).layers) == 4


def test_fixed_seed_for_all_of_the_batch(of: SimpleNamespace) -> None:
    fixed = nodes_latent.LatentBatchSeedBehavior.execute(of.latent, "fixed").args[0]
    assert len(decode(of, fixed).layers) == 2


def test_a_noise_mask_over_the_picture(of: SimpleNamespace) -> None:
    """Only what lies under the mask changes, in every layer."""
    mask = torch.zeros(1, 128, 128)
    mask[:, :, 64:] = 1
    drawn = again(of, host.SetLatentNoiseMask().set_mask(of.latent, mask)[0], 1.0)
    moved = (drawn["samples"] - of.latent["samples"]).abs().amax((0, 1, 2))
    # Converting to the latent format and back rounds a kept Text2Layer latent. A kept layer is bit-identical.
    assert moved[:7].max() <= (0 if "layers" in of.latent else 1e-4) and moved[8:].min() > 1e-2
    assert decode(of, drawn).images.shape == (2 * of.layers, 128, 128, 3)


def test_vae_decode(of: SimpleNamespace) -> None:
    if not of.is_layered:
        assert host.VAEDecode().decode(of.vae, of.latent)[0].shape == (2, 128, 128, 3)
        return
    with pytest.raises(ValueError, match="image and mask of each layer. Use Decode Layers"):
        host.VAEDecode().decode(of.vae, of.latent)


def test_saved_and_loaded(of: SimpleNamespace, tmp_path: Any) -> None:
    """Load Latent only returns the tensor. The number of layers comes from the names or the VAE."""
    from safetensors.torch import load_file, save_file

    save_file({"latent_tensor": of.latent["samples"].contiguous()}, tmp_path / "x.latent")
    loaded = {"samples": load_file(tmp_path / "x.latent")["latent_tensor"]}
    assert torch.allclose(decode(of, loaded).images, decode(of, of.latent).images, atol=1e-5)
