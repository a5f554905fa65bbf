"""What Apply LayerDiffuse refuses about SDXL's files, and what it says."""

from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.supported_models
import folder_paths
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import layerdiffuse, models
from tests import layerdiffuse_xl as xl
from tests.layerdiffuse import image, narrow_vae, noise
from tests.layerdiffuse_xl import apply, draw, prompts, stacked

MEMORY_MODES = ("plain",)
ATTN, CONV, FG2BLE, BG2BLE, FGBLE2BG, BGBLE2FG = xl.GIVEN
QUERY = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight::lora"
FIRST = "diffusion_model.input_blocks.0.0.weight::diff::0"
DIFF = f"{QUERY.removesuffix('lora')}diff::0"
BIAS = "diffusion_model.out.2.bias::diff"


@pytest.fixture(scope="module")
def xl_files(pack: ModuleType, memory: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    return xl.write_files(tmp_path_factory.mktemp("layer_model"))


@pytest.fixture(scope="module")
def base(memory: str) -> Any:
    return xl.base(memory)


@pytest.fixture(scope="module")
def vae(memory: str) -> Any:
    return narrow_vae()


def with_value(key: str, value: Tensor) -> Any:
    return lambda tensors: tensors.update({key: value})


def without(key: str) -> Any:
    return lambda tensors: tensors.pop(key)


BAD_FILES: dict[str, tuple[str, Any, str]] = {
    "half a LoRA": (ATTN, without(f"{QUERY}::1"), "incomplete: diffusion_model.middle_block"),
    "a middle tensor": (ATTN, with_value(f"{QUERY}::3", torch.zeros(1)), "incomplete: diffusion_model.middle_block"),
    "another rank": (ATTN, with_value(f"{QUERY}::1", torch.zeros(8, 4 * xl.WIDTH)), r"wrong shape: .*256\] and \[8, 128\]"),
    "another width": (ATTN, with_value(f"{QUERY}::0", torch.zeros(64, 256)), r"wrong shape: .*\[64, 256\].* for \[128, 128\]"),
    "an alpha of two": (ATTN, with_value(f"{QUERY}::2", torch.zeros(2)), "wrong shape"),
    "integers": (CONV, with_value(f"{BIAS}::0", torch.zeros(4, dtype=torch.int32)), "not a 16 or 32 bit float: diffusion_model"),
    "64 bits": (CONV, with_value(f"{BIAS}::0", torch.zeros(4).double()), "not a 16 or 32 bit float"),
    "two changes of a weight": (ATTN, with_value(DIFF, torch.zeros(128, 128)), "not a LayerDiffuse file"),
    "another type": (CONV, with_value("a::set::0", torch.zeros(1)), "not a LayerDiffuse file for SDXL: a::set::0 is not"),
    "no index": (CONV, with_value("a::diff", torch.zeros(1)), "not a LayerDiffuse file for SDXL: a::diff is not"),
    "a word for an index": (CONV, with_value("a::diff::one", torch.zeros(1)), "not a LayerDiffuse file"),
    "no LayerDiffuse key": (CONV, with_value("extra", torch.zeros(1)), "not a LayerDiffuse file for SDXL: extra is not"),
    "an unknown weight": (CONV, with_value("diffusion_model.a::diff::0", torch.zeros(1)), "not in the MODEL: diffusion_model.a"),
    "many unknown weights": (CONV, lambda t: t.update({f"a{n}::diff::0": torch.zeros(1) for n in range(20_000)}), "19995 more"),
    "5 channels more": (FG2BLE, with_value(FIRST, torch.zeros(xl.WIDTH, 9, 3, 3)), "takes 5 channels of given images"),
    "fewer channels": (FG2BLE, with_value(FIRST, torch.zeros(xl.WIDTH, 3, 3, 3)), "wrong shape"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(pack: ModuleType, xl_files: Any, base: Any, vae: Any, case: str) -> None:
    source, change, words = BAD_FILES[case]
    tensors = dict(xl_files[source])
    change(tensors)
    folder = Path(folder_paths.get_folder_paths("layer_model")[0])
    save_file(tensors, folder / "layer_xl_bad.safetensors")
    with pytest.raises(ValueError, match=f"(?s)layer_xl_bad.safetensors.*{words}"):
        apply(pack, base, vae, "bad")


def test_a_cut_file(pack: ModuleType, xl_files: Any, base: Any, vae: Any) -> None:
    folder = Path(folder_paths.get_folder_paths("layer_model")[0])
    (folder / "layer_xl_cut.safetensors").write_bytes((folder / f"layer_xl_{ATTN}.safetensors").read_bytes()[:-1000])
    with pytest.raises(ValueError, match="layer_xl_cut.safetensors cannot be read as a safetensors file.*Download it again"):
        apply(pack, base, vae, "cut")


@pytest.mark.parametrize(("name", "inputs", "words"), [
    (ATTN, {"background": image(1)}, "transparent image by itself, so it cannot take a background.*bg2ble"),
    (CONV, {"foreground": image(1)}, "cannot take a foreground.*fg2ble"),
    (ATTN, {"background": image(1), "blended": image(2)}, "cannot take a background"),
    (ATTN, {"blended": image(1)}, "A blended image is connected, which only layer_xl_fgble2bg"),
    (FG2BLE, {"blended": image(1)}, "A blended image is connected, which only layer_xl_fgble2bg"),
    (FG2BLE, {"foreground": None}, "starts from a given layer. Connect a foreground"),
    (FG2BLE, {"background": image(1)}, "needs a foreground, but a background is connected.*bg2ble"),
    (BG2BLE, {"foreground": image(1)}, "needs a background, but a foreground is connected.*fg2ble"),
    (FG2BLE, {"foreground": image(1), "blended": image(2)}, "generates the blended image, so it cannot take one.*fgble2bg"),
    (BG2BLE, {"background": image(1), "blended": image(2)}, "generates the blended image, so it cannot take one.*bgble2fg"),
    (FGBLE2BG, {"background": image(1), "blended": image(2)}, "needs a foreground, but a background is connected.*bgble2fg"),
    (FGBLE2BG, {"foreground": image(1)}, "separates a layer from a blended image. Connect blended.*fg2ble"),
    (BGBLE2FG, {"background": image(1)}, "separates a layer from a blended image. Connect blended.*bg2ble"),
    (BGBLE2FG, {"background": image(1), "blended": image(2, 32, 96)}, "blended image has 96 x 32 pixels, but the background has"),
    (BGBLE2FG, {"background": image(1), "blended": image(2).repeat(2, 1, 1, 1)}, "blended image is a batch of 2 images"),
    (BGBLE2FG, {"background": image(1), "blended": image(2) * torch.nan}, "blended image contains NaN"),
])
def test_given_images_that_do_not_fit(pack: ModuleType, xl_files: Any, base: Any, vae: Any, name: str, inputs: Any,
                                      words: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){words}"):
        apply(pack, base, vae, name, **inputs)


def test_a_renamed_file_is_told_apart_by_what_is_given(pack: ModuleType, xl_files: Any, base: Any, vae: Any) -> None:
    folder = Path(folder_paths.get_folder_paths("layer_model")[0])
    save_file(xl_files[FG2BLE], folder / "layer_xl_mine.safetensors")
    with pytest.raises(ValueError, match=r"Connect a foreground \(fg2ble\) or a background \(bg2ble\)"):
        apply(pack, base, vae, "mine", foreground=None)
    assert apply(pack, base, vae, "mine", background=image(1))[1].frames.kind.name == "bg2ble"


def test_models_that_do_not_fit(pack: ModuleType, xl_files: Any, files: Any, base: Any, vae: Any) -> None:
    small = models.sd15(layerdiffuse.WIDTH, layerdiffuse.CONTEXT)
    with pytest.raises(ValueError, match="layer_xl_.* requires an ordinary SDXL MODEL.*of SD15.*layer_sd15_joint"):
        apply(pack, small, vae, ATTN)
    with pytest.raises(ValueError, match="layer_sd15_joint.safetensors requires an ordinary SD 1.5 MODEL.*of SDXL.*layer_xl_"):
        layerdiffuse.apply(pack, base, vae, "joint")
    with pytest.raises(ValueError, match=r"(?s)on this MODEL does not fit.*wrong shape.*SDXL checkpoint"):
        apply(pack, models.sdxl(2 * xl.WIDTH, xl.CONTEXT, xl.POOLED), vae, ATTN)
    fewer = {"transformer_depth": [0, 0, 1, 1, 1, 1], "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1]}
    with pytest.raises(ValueError, match="not in the MODEL: .*transformer_blocks.1"):
        apply(pack, models.sdxl(xl.WIDTH, xl.CONTEXT, xl.POOLED, kind=comfy.supported_models.SSD1B, **fewer), vae, ATTN)
    with pytest.raises(ValueError, match="requires an ordinary SDXL MODEL, not an inpainting"):
        apply(pack, models.sdxl(xl.WIDTH, xl.CONTEXT, xl.POOLED, in_channels=9), vae, ATTN)
    with pytest.raises(ValueError, match="already on this MODEL"):
        apply(pack, apply(pack, base, vae, ATTN)[0], vae, CONV)


def test_prompts_and_latents_that_do_not_fit(pack: ModuleType, xl_files: Any, base: Any, vae: Any) -> None:
    model, _ = apply(pack, base, vae, ATTN)
    three, (one,) = stacked(pack, prompts(3)), prompts(1)
    with pytest.raises(ValueError, match="got 3 prompts, but the latent holds 4 images"):
        draw(model, noise(4), three)
    with pytest.raises(ValueError, match="got 2 prompts.*Leave the global prompt empty"):
        draw(model, noise(2), [[one[0][0], {**one[0][1], "whole_prompt": one[0][0]}]])
    with pytest.raises(ValueError, match="no pooled output, which SDXL needs"):
        draw(model, noise(1), [[one[0][0], {}]])
    with pytest.raises(ValueError, match="encoded with width 97, but this MODEL needs 96"):
        draw(model, noise(1), [[torch.zeros(1, 77, 97), one[0][1]]])
    guided, marked = apply(pack, base, vae, BG2BLE)
    with pytest.raises(ValueError, match=r"got 3 prompts, but this MODEL generates 1 frames: blended.*global prompt empty"):
        draw(guided, noise(3), three)
    with pytest.raises(ValueError, match="given background has 64 x 64 pixels, but the latent is for 96 x 96"):
        draw(guided, noise(1, side=12), one)
    with pytest.raises(ValueError, match="Set Area"):
        draw(guided, noise(1), [[one[0][0], {**one[0][1], "area": (4, 4, 0, 0)}]])
    with pytest.raises(ValueError, match="2 layers were requested, but .* generates 1: blended. Set layers to 1"):
        pack.nodes.latents.LayerDiffEmptyLatent.execute(marked, 0, 0, 2, 1)
    with pytest.raises(ValueError, match="scenes of 2 frames, but the VAE is for bg2ble with 1"):
        pack.nodes.decode.LayerDiffDecodeLayers.execute({"samples": noise(2), "layers": 2}, marked, "", 0.5, 0.4, 0)
