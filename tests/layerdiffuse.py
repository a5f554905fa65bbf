"""What the tests of LayerDiffuse on an SD 1.5 MODEL share: files, inputs of the node, and a short sampling."""

from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.ops
import comfy.samplers
import comfy.sd
import folder_paths
import torch
from comfy.clip_model import CLIPTextModel
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD
from comfy_extras import nodes_custom_sampler as custom
from safetensors.torch import save_file
from torch import Tensor

from tests import models, published
from tests.memory_modes import eager

WIDTH, CONTEXT, SIDE = 32, 96, 8
KINDS = {"joint": ("background", "foreground", "blended"), "fg2bg": ("background", "blended"),
         "bg2fg": ("foreground", "blended"), "transparent_attn": ("foreground",)}
"""The frames of each file, in the order of our layers."""
IN_FILE = {**KINDS, "joint": ("foreground", "background", "blended")}
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
DECODER = "layer_sd15_vae_transparent_decoder.safetensors"


def write_checkpoint(path: Path) -> None:
    """Writes a checkpoint that ComfyUI's loader knows in the tests' server: SD 1.5's UNet and text model, narrow, and a small VAE
    with as many channels, all with random weights."""
    text = {"hidden_size": CONTEXT, "num_attention_heads": 2, "intermediate_size": 2 * CONTEXT, "num_hidden_layers": 2,
            "hidden_act": "quick_gelu", "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 49407}
    networks = {"model.diffusion_model": UNetModel(**models.sd15_config(WIDTH, CONTEXT).unet_config, dtype=torch.float32,
                                                   operations=comfy.ops.disable_weight_init),
                "first_stage_model": TAESD(),
                "cond_stage_model.transformer": CLIPTextModel(text, torch.float32, "cpu", comfy.ops.disable_weight_init)}
    tensors = {}
    with torch.random.fork_rng():
        torch.manual_seed(6)
        for prefix, network in networks.items():
            models.randomise(network)
            tensors |= {f"{prefix}.{key}": value.clone() for key, value in network.state_dict().items()}
    tensors = {key: value for key, value in tensors.items() if "text_projection" not in key}
    tensors["first_stage_model.vae_scale"], tensors["first_stage_model.vae_shift"] = torch.tensor(1.0), torch.tensor(0.0)
    save_file(tensors, path)


SERVED = {"layer_sd15_joint.safetensors": "narrow_joint.safetensors", "layer_sd15_bg2fg.safetensors": "narrow_bg2fg.safetensors",
          DECODER: "narrow_decoder.safetensors", CHECKPOINT: "narrow_sd15.safetensors"}
"""Names of stand-ins by those of the files that the templates need."""


def write_served(folder: Path) -> None:
    """Writes these stand-ins to a folder of the server's."""
    for kind in ("joint", "bg2fg"):
        published.write(folder / f"narrow_{kind}.safetensors", published.shapes(kind, WIDTH, CONTEXT), scale=0.5)
    published.write(folder / SERVED[DECODER], published.decoder_shapes(), scale=0.5)
    write_checkpoint(folder / SERVED[CHECKPOINT])


def write_files(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Writes each file for a narrow UNet, and the decoder, where the pack finds them. Returns their tensors."""
    folder_paths.add_model_folder_path("layer_model", str(folder), is_default=True)
    wanted = {f"layer_sd15_{name}.safetensors": published.shapes(name, WIDTH, CONTEXT) for name in KINDS}
    wanted[DECODER] = published.decoder_shapes()
    return {name: published.write(folder / name, each, scale=0.5) for name, each in wanted.items()}


def narrow_vae() -> comfy.sd.VAE:
    """SD 1.5's VAE in structure, narrow, with random weights."""
    facts = {"double_z": True, "resolution": 64, "in_channels": 3, "out_ch": 3, "z_channels": 4, "ch": 32,
             "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    config = {"embed_dim": 4, "ddconfig": facts}
    with eager(), torch.random.fork_rng():
        torch.manual_seed(3)
        network = AutoencoderKL(**config)
        models.randomise(network)
    return comfy.sd.VAE(sd=network.state_dict(), config={"params": config})


def image(seed: int, height: int = 8 * SIDE, width: int = 8 * SIDE, channels: int = 3) -> Tensor:
    return torch.rand(1, height, width, channels, generator=torch.Generator().manual_seed(seed))


def given(name: str, **size: int) -> dict[str, Tensor]:
    """What the node needs beside a file."""
    if name == "fg2bg":
        picture = image(1, **size)
        return {"foreground": picture, "coverage": image(2, **size)[..., 0]}
    return {"background": image(3, **size)} if name == "bg2fg" else {}


def apply(pack: ModuleType, base: Any, vae: Any, name: str, **inputs: Any) -> tuple[Any, Any]:
    return pack.nodes.layerdiffuse.LayerDiffApplyLayerDiffuse.execute(
        base, vae, f"layer_sd15_{name}.safetensors", **(inputs or given(name))).args


def prompts(count: int, seed: int = 4) -> Tensor:
    return torch.randn(count, 77, CONTEXT, generator=torch.Generator().manual_seed(seed))


def noise(count: int, seed: int = 5, side: int = SIDE) -> Tensor:
    return torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(seed))


def stacked(pack: ModuleType, tokens: Tensor) -> Any:
    """One conditioning a frame, through Stack Layer Conditioning."""
    sockets = {f"layer{number}": [[each[None], {}]] for number, each in enumerate(tokens)}
    return pack.nodes.prompts.LayerDiffStackConditioning.execute(sockets).args[0]


def draw(model: Any, noise: Tensor, positive: Any, latent: dict[str, Any] | None = None, steps: int = 2,
         negative: Any = None) -> Tensor:
    """Two steps of SamplerCustomAdvanced, with a plain negative prompt."""
    guider = custom.CFGGuider.execute(model, positive, negative or [[torch.zeros(1, 77, CONTEXT), {}]], 2.0).args[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", steps, 1.0).args[0]
    with torch.inference_mode():
        return custom.SamplerCustomAdvanced.execute(models.Noise(noise), guider, comfy.samplers.sampler_object("euler"), sigmas,
                                                    latent or {"samples": torch.zeros_like(noise)}).args[0]["samples"]


def close(found: Tensor, wanted: Tensor, share: float = 1e-4) -> bool:
    return bool((found - wanted).abs().max() <= share * wanted.abs().max())
