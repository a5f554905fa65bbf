"""LATENTs that none of the pack's nodes would create: nodes reject them with a clear message or use them correctly."""

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy.nested_tensor import NestedTensor

MEMORY_MODES = ("plain",)


@pytest.fixture(autouse=True)
def as_in_the_host():
    with torch.inference_mode():
        yield


def run(pack: ModuleType, of: SimpleNamespace, latent: Any, free: bool) -> Any:
    if free:
        return pack.nodes.latents.LayerDiffFreeLayers.execute(latent, "1").args
    return pack.nodes.decode.LayerDiffDecodeLayers.execute(latent, of.vae, "", 0.5, 0.4, 0).args


def key_of(either: SimpleNamespace) -> str:
    return "layers" if either.is_layered else "stacked_layers"


@pytest.mark.parametrize("value", [0, -3, "3", "many", 2.0, True, float("nan"), [3], 51, "9" * 5000])
@pytest.mark.parametrize("free", [False, True])
def test_a_number_of_layers_that_is_none(pack: ModuleType, either: SimpleNamespace, value: Any, free: bool) -> None:
    words = "number of layers per scene, but a whole number from 1 to 50" if either.is_layered or not free else "Text2Layer model"
    with pytest.raises(ValueError, match=words) as caught:
        run(pack, either, {**either.latent, key_of(either): value}, free)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("odd", ["nested", "nan in nested", "bool", "int", "complex", "meta", "scalar", "list", "none", "no key"])
@pytest.mark.parametrize("free", [False, True])
def test_what_is_no_batch_of_latents(pack: ModuleType, either: SimpleNamespace, odd: str, free: bool) -> None:
    samples = either.latent["samples"]
    found = {"nested": NestedTensor([samples, samples[:1]]), "nan in nested": NestedTensor([samples * torch.nan]),
             "bool": samples > 0, "int": samples.int(), "complex": samples.to(torch.complex64), "meta": samples.to("meta"),
             "scalar": torch.tensor(1.0), "list": samples.tolist(), "none": None}  # fmt: skip
    latent = {**either.latent, "samples": found.get(odd)}
    if odd == "no key":
        del latent["samples"]
    with pytest.raises(ValueError, match="The LATENT holds .*batch of image latents|Text2Layer model"):
        run(pack, either, latent, free)


@pytest.mark.parametrize("size", ["64", (64,), (0, -1), (64.5, 3), None, {"h": 1}, (9, 9)])
def test_a_size_that_another_pack_wrote_is_passed_over(pack: ModuleType, either: SimpleNamespace, size: Any) -> None:
    latent = {**either.latent, "size": size}
    pictures = run(pack, either, latent, False)[1]
    assert pictures.shape[1:3] == (64, 64)


def test_a_latent_of_a_text2layer_model_with_more_layers_is_named(pack: ModuleType, text2layer: SimpleNamespace) -> None:
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(text2layer.vae, 64, 64, text2layer.foregrounds + 1, 1).args[0]
    with pytest.raises(ValueError, match=r"holds 5 layers, but the VAE is from a Text2Layer model with \d"):
        run(pack, text2layer, {**latent, "stacked_layers": 5}, False)


def test_numbers_of_layers_with_thousands_of_digits_are_refused(pack: ModuleType, either: SimpleNamespace) -> None:
    if either.is_layered:
        with pytest.raises(ValueError, match="is not a layer number"):
            pack.nodes.latents.LayerDiffFreeLayers.execute(either.latent, "9" * 5000)
