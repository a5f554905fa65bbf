"""What LayerDiffuse's nodes refuse, and what they say."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import models
from tests.layerdiffuse import CONTEXT, DECODER, WIDTH, apply, draw, image, narrow_vae, noise, prompts

MEMORY_MODES = ("plain",)


@pytest.fixture(scope="module")
def base(memory: str) -> Any:
    return models.sd15(WIDTH, CONTEXT, mode=memory)


@pytest.fixture(scope="module")
def vae(memory: str) -> Any:
    return narrow_vae()


def changed(files: Any, source: str, change: Any, name: str) -> str:
    """A file made from another one. change: works on its tensors in place."""
    tensors = dict(files[source])
    change(tensors)
    save_file(tensors, Path(folder_paths.get_folder_paths("layer_model")[0]) / name)
    return name


def without(*keys: str) -> Any:
    return lambda tensors: [tensors.pop(key) for key in keys]


def with_value(key: str, value: Tensor) -> Any:
    return lambda tensors: tensors.update({key: value})


JOINT, TRANSPARENT = "layer_sd15_joint.safetensors", "layer_sd15_transparent_attn.safetensors"
UP = "hookers.layers.4.to_q_lora.0.up.weight"
BAD_FILES: dict[str, tuple[str, Any, str]] = {
    "a key is missing": (TRANSPARENT, without("hookers.layers.31.temporal_o.bias"), "missing: hookers.layers.31.temporal_o.bias"),
    "many keys are missing": (TRANSPARENT, lambda t: [t.pop(k) for k in list(t) if "layers.7." in k], "missing: .* and 15 more"),
    "a key too many": (TRANSPARENT, with_value("extra", torch.zeros(2)), "unexpected: extra"),
    "another shape": (TRANSPARENT, with_value(UP, torch.zeros(3, 256)), r"wrong shape: .*layers.4.* \[3, 256\]"),
    "integers": (TRANSPARENT, with_value(UP, torch.zeros(2 * WIDTH, 256, dtype=torch.int32)), "not a 16 or 32 bit float"),
    "64 bits": (TRANSPARENT, with_value(UP, torch.zeros(2 * WIDTH, 256).double()), "not a 16 or 32 bit float"),
    "no file of LayerDiffuse's": (TRANSPARENT, lambda t: (t.clear(), t.update(a=torch.zeros(1))), "not a LayerDiffuse file"),
    "four frames": (JOINT, with_value("hookers.layers.0.to_q_lora.3.down.weight", torch.zeros(256, WIDTH)), "not a LayerDiffuse"),
    "for SDXL": (TRANSPARENT, lambda t: (t.clear(), t.update({"a::lora::0": torch.zeros(1)})), "requires an ordinary SDXL MODEL"),
    "the decoder": (TRANSPARENT, with_value("latent_conv_in.weight", torch.zeros(1)), "transparent decoder"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(pack: ModuleType, files: Any, base: Any, vae: Any, case: str) -> None:
    source, change, words = BAD_FILES[case]
    name = changed(files, source, change, "bad_transparent_attn.safetensors")
    with pytest.raises(ValueError, match=f"(?s){name}.*{words}"):
        pack.nodes.layerdiffuse.LayerDiffApplyLayerDiffuse.execute(base, vae, name)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", b"\xff" * 64, b"cut"])
def test_no_safetensors_file(pack: ModuleType, files: Any, base: Any, vae: Any, content: bytes) -> None:
    folder = Path(folder_paths.get_folder_paths("layer_model")[0])
    if content == b"cut":
        content = (folder / TRANSPARENT).read_bytes()[:-1000]
    (folder / "no.safetensors").write_bytes(content)
    nodes = pack.nodes.layerdiffuse
    for load in (lambda: nodes.LayerDiffApplyLayerDiffuse.execute(base, vae, "no.safetensors"),
                 lambda: nodes.LayerDiffLoadTransparentDecoder.execute(vae, "no.safetensors", "fast (1 pass)")):
        with pytest.raises(ValueError, match="no.safetensors cannot be read as a safetensors file.*Download it again"):
            load()


def wide(seed: int = 0) -> Any:
    return models.sd15(2 * WIDTH, CONTEXT, seed)


@pytest.mark.parametrize(("name", "inputs", "words"), [
    ("joint", {"background": image(1)}, "generates all layers by itself.*cannot take a background.*bg2fg"),
    ("transparent_attn", {"foreground": image(1)}, "cannot take a foreground.*fg2bg"),
    ("fg2bg", {"background": image(1)}, "needs a foreground, but a background is connected.*bg2fg"),
    ("bg2fg", {"foreground": image(1)}, "needs a background, but a foreground is connected.*fg2bg"),
    ("fg2bg", {"foreground": image(1), "background": image(1)}, "A foreground and a background are connected"),
    ("bg2fg", {"background": image(1), "coverage": image(1)[..., 0]}, "Coverage is connected without a foreground"),
    ("fg2bg", {"foreground": None}, "adds a layer to a given one. Connect a foreground"),
    ("fg2bg", {"foreground": image(1), "coverage": image(1, 32, 32)[..., 0]}, "coverage has the shape .*1, 32, 32"),
    ("fg2bg", {"foreground": image(1).repeat(2, 1, 1, 1)}, "batch of 2 images"),
    ("fg2bg", {"foreground": image(1)[..., :1]}, "3 or 4 channels was expected"),
    ("bg2fg", {"background": image(1) * torch.nan}, "NaN"),
    ("lost", {"background": image(1)}, "no file called 'layer_sd15_lost.safetensors'.*models/layer_model"),
])
def test_given_layers_that_do_not_fit(pack: ModuleType, files: Any, base: Any, vae: Any, name: str, inputs: Any,
                                      words: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){words}"):
        apply(pack, base, vae, name, **inputs)


def test_models_that_do_not_fit(pack: ModuleType, files: Any, base: Any, vae: Any, starter: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="on this MODEL does not fit.*wrong shape"):
        apply(pack, wide(), vae, "joint")
    with pytest.raises(ValueError, match="requires an ordinary SD 1.5 MODEL.*LayeredModel"):
        apply(pack, starter.model, vae, "joint")
    with pytest.raises(ValueError, match="already on this MODEL"):
        apply(pack, apply(pack, base, vae, "joint")[0], vae, "joint")
    with pytest.raises(ValueError, match="needs the VAE of an SD 1.5 or SDXL checkpoint"):
        apply(pack, base, starter.vae, "joint")


@pytest.mark.parametrize(("change", "words"), [
    (without("mid_block.resnets.0.conv1.bias"), "missing: mid_block.resnets.0.conv1.bias"),
    (with_value("conv_in.weight", torch.zeros(32, 4, 3, 3)), "wrong shape: conv_in.weight"),
    (lambda t: (t.clear(), t.update(a=torch.zeros(1))), "is not a transparent decoder"),
])
def test_bad_decoders(pack: ModuleType, files: Any, vae: Any, change: Any, words: str) -> None:
    name = changed(files, DECODER, change, "bad_decoder.safetensors")
    with pytest.raises(ValueError, match=words):
        pack.nodes.layerdiffuse.LayerDiffLoadTransparentDecoder.execute(vae, name, "fast (1 pass)")


@pytest.mark.parametrize(("rows", "positive", "words"), [
    (4, lambda p: [[p(1), {}]], r"generates 3 frames at once \(background, foreground, blended\), but the latent holds 4"),
    (3, lambda p: [[p(2), {"layers": 2}]], "got 2 prompts, but this MODEL generates 3 frames.*global prompt"),
    (3, lambda p: [[p(4), {"layers": 4}]], "got 4 prompts"),
    (3, lambda p: [[p(3), {"layers": 3, "whole_prompt": p(1)}]], "got 4 prompts"),
    (3, lambda p: [[p(1), {"layers": 5}]], "got 5 prompts"),
    (3, lambda p: [[torch.zeros(1, 77, CONTEXT + 1), {}]], f"width {CONTEXT + 1}, but this MODEL needs {CONTEXT}"),
])
def test_prompts_and_frames_that_disagree(pack: ModuleType, files: Any, base: Any, vae: Any, rows: int, positive: Any,
                                          words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw(apply(pack, base, vae, "joint")[0], noise(rows), positive(prompts))


def test_latents_that_do_not_fit(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    model, marked = apply(pack, base, vae, "joint")
    with pytest.raises(ValueError, match="8 channels, but LayerDiffuse needs 4"):
        draw(model, torch.zeros(3, 8, 8, 8), [[prompts(1), {}]])
    guided, of_given = apply(pack, base, vae, "bg2fg")
    with pytest.raises(ValueError, match="given background has 64 x 64 pixels, but the latent is for 96 x 96"):
        draw(guided, noise(2, side=12), [[prompts(1), {}]])
    with pytest.raises(ValueError, match="Set Area"):
        draw(guided, noise(2), [[prompts(1), {"area": (4, 4, 0, 0)}]])
    empty = pack.nodes.latents.LayerDiffEmptyLatent.execute
    with pytest.raises(ValueError, match=r"4 layers were requested, but this LayerDiffuse model generates 2"):
        empty(marked, 64, 64, 4, 1)
    with pytest.raises(ValueError, match="96 x 64 pixels were requested, but the given background has 64 x 64"):
        empty(of_given, 96, 64, 1, 1)
    decode = pack.nodes.decode.LayerDiffDecodeLayers.execute
    for latent, each, words in (
        ({"samples": noise(3)}, marked, "needs LayerDiffuse's transparent decoder. Add Load Transparent Decoder"),
        ({"samples": noise(3), "layers": 2}, marked, "scenes of 2 frames, but the VAE is for joint with 3"),
        ({"samples": noise(4)}, marked, "4"),
        ({"samples": noise(3) * torch.nan}, marked, "NaN"),
        ({"samples": torch.zeros(3, 8, 8, 8)}, marked, "8, 8, 8"),
        ({"samples": noise(2, side=12)}, of_given, "96 x 96 pixels, but the background has 64 x 64"),
    ):
        with pytest.raises(ValueError, match=words):
            decode(latent, each, "", 0.5, 0.4, 0)
    document = {"version": 1, "canvas": (64, 64), "layers": [{"image": image(1), "mask": torch.zeros(1, 64, 64), "name": "a"}]}
    with pytest.raises(ValueError, match="cannot be encoded for LayerDiffuse"):
        pack.nodes.latents.LayerDiffEncodeLayers.execute(document, marked)


def test_a_hostile_file_is_refused_at_once(pack: ModuleType, files: Any, base: Any, vae: Any) -> None:
    """The shapes are compared before a tensor is read or a network takes memory."""
    folder = Path(folder_paths.get_folder_paths("layer_model")[0])
    save_file({f"hookers.layers.{n}.to_q_lora.0.down.weight": torch.zeros(1) for n in range(20_000)}, folder / "much.safetensors")
    with pytest.raises(ValueError, match="unexpected: .* more"):
        pack.nodes.layerdiffuse.LayerDiffApplyLayerDiffuse.execute(base, vae, "much.safetensors")


def test_a_global_prompt_without_an_enhancer_is_not_for_layerdiff(pack: ModuleType, starter: SimpleNamespace) -> None:
    encode = pack.nodes.prompts.LayerDiffEncodePrompts.execute
    positive, negative, layers, _ = encode(starter.clip, global_prompt="a fox", layer_prompts="a meadow\na fox").args
    assert positive[0][1]["whole_prompt"].shape[0] == 1 and "whole_prompt" not in negative[0][1] and layers == 2
    sampled = pack.nodes.latents.LayerDiffEmptyLatent.execute(starter.vae, 64, 64, 2, 1).args[0]
    import nodes as host
    with pytest.raises(ValueError, match="encoded without an enhancer"):
        host.KSampler().sample(starter.model, 1, 1, 2.0, "euler", "normal", positive, negative, sampled, 1.0)


def test_the_lists_offer_none_of_the_packs_own_models(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = pack.nodes.host.folders
    assert not {path.name for path in folders.STARTERS.glob("*.safetensors")} & set(folders.layerdiffuse_names())
    monkeypatch.setattr(folders.folder_paths, "get_filename_list", lambda key: [])
    (only,) = folders.layerdiffuse_names()
    with pytest.raises(ValueError, match="No LayerDiffuse file is selected. Download one"):
        folders.layerdiffuse_path(only)
