"""Warnings of nodes: words that a small model does not know, and sizes and numbers of layers beyond its training."""

from types import ModuleType, SimpleNamespace

import pytest
import torch

MEMORY_MODES = ("plain", "dynamic")


def encode(pack: ModuleType, of: SimpleNamespace, overall: str, layers: str) -> list[str]:
    done = pack.nodes.prompts.LayerDiffEncodePrompts.execute(of.clip, of.enhancer, overall, layers, "", 1.0)
    (texts,) = done.ui["warnings"]
    return list(texts)


def empty(pack: ModuleType, of: SimpleNamespace, width: int, height: int, layers: int) -> SimpleNamespace:
    done = pack.nodes.latents.LayerDiffEmptyLatent.execute(of.vae, width, height, layers, 1)
    (texts,) = done.ui["warnings"]
    return SimpleNamespace(texts=texts, samples=done.args[0]["samples"], size=done.args[0]["size"])


def test_unknown_words_are_named(pack: ModuleType, starter: SimpleNamespace) -> None:
    assert encode(pack, starter, "a fox on the left", "meadow: a meadow\nfox: a fox") == []
    (said,) = encode(pack, starter, "a giraffe on the left", "meadow: a meadow\nfox: a spaceship, a (giraffe:1.2)")
    assert '"giraffe", "spaceship"' in said and said.count("giraffe") == 1 and "meadow" not in said and "README" in said


def test_many_unknown_words_are_cut_short(pack: ModuleType, starter: SimpleNamespace) -> None:
    words = "xylophone zeppelin quartz lobster anchor violin pyramid walrus igloo kayak"
    (said,) = encode(pack, starter, words, "meadow: a meadow")
    assert said.count('"') == 16 and "and more" in said


def test_zero_is_the_models_own_size(pack: ModuleType, starter: SimpleNamespace, text2layer: SimpleNamespace) -> None:
    assert empty(pack, starter, 0, 0, 3).size == (128, 128)
    assert empty(pack, starter, 0, 96, 3).size == (96, 128)
    assert empty(pack, text2layer, 0, 0, text2layer.foregrounds + 1).size == (128, 128)


def test_zero_is_512_for_sd15(pack: ModuleType, starter: SimpleNamespace) -> None:
    # Any VAE that does not come from a complete model.
    plain = SimpleNamespace(first_stage_model=object(), latent_channels=4, spacial_compression_encode=lambda: 8)
    found = empty(pack, SimpleNamespace(vae=plain), 0, 0, 5)
    assert found.size == (512, 512) and found.texts == []


@pytest.mark.parametrize("size, layers, told", [((128, 128), 4, []), ((96, 160), 3, []), ((256, 256), 3, ["128 x 128"]),
                                                ((512, 128), 3, ["512 x 128"]), ((64, 64), 3, ["64 x 64"]),
                                                ((0, 0), 6, ["up to 4 layers"]), ((256, 256), 6, ["128 x 128", "up to 4"])])
def test_what_goes_beyond_the_training_is_said(pack: ModuleType, starter: SimpleNamespace, size: tuple[int, int], layers: int,
                                               told: list[str]) -> None:
    texts = empty(pack, starter, *size, layers).texts
    assert len(texts) == len(told) and all(part in text for part, text in zip(told, texts))


def test_layers_that_are_not_seen_are_named(pack: ModuleType, starter: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    latent = pack.nodes.latents.LayerDiffEmptyLatent.execute(starter.vae, 64, 64, 3, 1).args[0]
    coverage = torch.ones(3, 64, 64)
    coverage[1, :, 8:] = 0
    decoded = (torch.full((3, 64, 64, 3), 0.5), coverage)
    monkeypatch.setattr(pack.nodes.decode, "finish_layers", lambda *_: decoded)
    decode = pack.nodes.decode.LayerDiffDecodeLayers.execute
    with torch.inference_mode():
        (texts,) = decode(latent, starter.vae, "meadow\nfox\nwall", 0.5, 0.4, 0).ui["warnings"]
        assert len(texts) == 1 and '"fox" is hidden' in texts[0]
        coverage[1] = 0
        (texts,) = decode(latent, starter.vae, "meadow\nfox\nwall", 0.5, 0.4, 0).ui["warnings"]
        assert len(texts) == 1 and '"fox" is empty' in texts[0]
