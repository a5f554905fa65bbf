"""Models with random weights for the tests: small files of the starter's format, and models of ComfyUI's SD 1.5 class."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.controlnet
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import torch
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.sd1_clip import SDTokenizer
from comfy.t2i_adapter.adapter import Adapter
from torch import Tensor, nn

from layerdiff_core import checkpoint
from layerdiff_core.training import text2layer
from layerdiff_core.training.starter import ARCHITECTURE
from tests.memory_modes import eager, types_of

WORDS = "a an the and with fox balloon red blue meadow green sky at sunset on left right ,"
WIDTH, CONTEXT, CHANNELS = 32, 64, 8
LENGTH = ARCHITECTURE["text"]["max_position_embeddings"]


def architecture(channels: int = CHANNELS) -> dict[str, Any]:
    """The starter's architecture, much narrower, so that tests are quick, with latents of 1/8 as the former starter's and
    Stable Diffusion's."""
    small = copy.deepcopy(ARCHITECTURE)
    small["unet"] |= {"model_channels": WIDTH, "context_dim": CONTEXT}
    small["text"] |= {"hidden_size": CONTEXT, "num_attention_heads": 2, "intermediate_size": 2 * CONTEXT}
    small["vae"] = {"patch": 4, "ddconfig": {"double_z": True, "resolution": 32, "ch": WIDTH, "ch_mult": [1, 2],
                                             "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}}
    small["enhancer"] |= {"dim": CONTEXT, "heads": 2}
    factors = [[0.1 * (c % 3 == colour) for colour in range(3)] for c in range(channels)]
    small["latent"] = {"channels": channels, "mean": [0.1] * channels, "std": [1.5] * channels, "rgb_factors": factors,
                       "rgb_bias": [0.0, 0.1, 0.2]}
    return small


def randomise(network: nn.Module) -> None:
    """Random weights everywhere, at scales that keep numbers moderate; zero is nowhere, so that every part counts."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=weight[0].numel() ** -0.5)
            else:
                weight.normal_(mean=float("norm" in name and name.endswith("weight")), std=0.1)


def starter_tensors(pack: ModuleType, facts: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a complete model with random weights, named as in its file."""
    networks = pack.nodes.host.networks
    return random_tensors(seed, unet=lambda words: networks.unet(facts), vae=lambda words: networks.autoencoder(facts),
                          text=lambda words: networks.trainable_text_model(facts, words),
                          enhancer=lambda words: pack.layerdiff_core.enhancer.PromptEnhancer(**facts["enhancer"]))


def random_tensors(seed: int, **parts: Callable[[int], nn.Module]) -> dict[str, Tensor]:
    """Random weights of the networks that these functions of the vocabulary's size make, and the tokens of WORDS."""
    tokenizer = SDTokenizer()
    known = sorted({token for word in WORDS.split() for token in tokenizer.tokenizer(word)["input_ids"]})
    tensors = {"text.token_ids": torch.tensor(known, dtype=torch.int32)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part, make in parts.items():
            network = make(len(known) + 1)
            randomise(network)
            tensors |= {f"{part}.{key}": value for key, value in network.state_dict().items()
                        if not key.endswith("num_batches_tracked")}
    return tensors


def stacked_architecture(foregrounds: int = 1) -> dict[str, Any]:
    """The architecture of the Text2Layer starter, much narrower."""
    small = copy.deepcopy(text2layer.architecture(foregrounds))
    layered, channels = architecture(small["latent"]["channels"]), small["latent"]["channels"]
    small["unet"] |= {"model_channels": WIDTH, "context_dim": CONTEXT}
    small["vae"]["ddconfig"]["ch"] = WIDTH
    masks = {"mask_factors": [[0.05 * (-1) ** c] * foregrounds for c in range(channels)], "mask_bias": [0.5] * foregrounds}
    return {**small, "text": layered["text"], "latent": {**layered["latent"], **masks}}


def stacked_tensors(pack: ModuleType, facts: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a Text2Layer model with random weights, named as in its file."""
    networks = pack.nodes.host.networks
    return random_tensors(seed, unet=lambda words: UNetModel(**facts["unet"], dtype=torch.float32, operations=networks.PLAIN),
                          vae=lambda words: networks.composition_autoencoder(facts),
                          text=lambda words: networks.trainable_text_model(facts, words))


def write_text2layer(pack: ModuleType, path: Path, foregrounds: int = 1) -> None:
    """Write a complete Text2Layer model with random weights."""
    facts = stacked_architecture(foregrounds)
    checkpoint.write(path, header(facts, family="text2layer", layers=foregrounds + 1), stacked_tensors(pack, facts))


def header(facts: dict[str, Any], **changes: Any) -> checkpoint.Header:
    """The header of such a file."""
    fields = {"family": "layerdiff", "kind": "complete", "architecture": facts, "layers": 4, "base": "none",
              "licence": "CC0-1.0", "provenance": "random numbers"}
    return checkpoint.Header(**{**fields, **changes})


def write_starter(pack: ModuleType, path: Path, channels: int = CHANNELS) -> None:
    """Write a complete model with random weights."""
    facts = architecture(channels)
    checkpoint.write(path, header(facts), starter_tensors(pack, facts))


def sd15_config(width: int, context: int) -> comfy.supported_models.SD15:
    """ComfyUI's configuration of SD 1.5, in full or at other widths."""
    return comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": width, "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
        "context_dim": context, "use_spatial_transformer": True, "use_linear_in_transformer": False, "legacy": False,
        "adm_in_channels": None, "use_temporal_attention": False,
    })


def sd15(width: int, context: int, seed: int = 0, mode: str = "plain", operations: Any = None,
         disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of ComfyUI's SD 1.5 class, with random weights, loaded as ComfyUI's loader does it in this mode."""
    patcher = with_unet(sd15_config(width, context), comfy.model_base.BaseModel, seed, mode, operations, disable_dynamic)
    patcher.cached_patcher_init = (sd15, (width, context, seed, mode, operations))
    return patcher


def with_unet(config: Any, kind: type, seed: int, mode: str, operations: Any = None,
              disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of a class of ComfyUI's, with random weights, loaded as ComfyUI's loader does it in this mode."""
    dtype, manual_cast = types_of(mode)
    with eager(), torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNetModel(**config.unet_config, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
        randomise(network)
    config.set_inference_dtype(dtype, manual_cast)
    config.custom_operations = operations
    model = kind(config, device=torch.device("cpu"))
    patcher_kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_kind(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
    weights = {key: value.to(dtype) for key, value in network.state_dict().items()}
    model.load_model_weights(weights, assign=patcher.is_dynamic())
    return patcher


def sdxl_config(width: int, context: int, pooled: int, kind: type = comfy.supported_models.SDXL, **changes: Any) -> Any:
    """ComfyUI's configuration of SDXL at these widths, shallower unless changed. pooled: width of the pooled prompt."""
    return kind({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": width, "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": 2,
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2], "context_dim": context, "num_heads": -1,
        "num_head_channels": width, "use_spatial_transformer": True, "use_linear_in_transformer": True, "legacy": False,
        # The pooled prompt, and six numbers of the image's size with 256 features each.
        "num_classes": "sequential", "adm_in_channels": pooled + 6 * 256, "use_temporal_attention": False, **changes,
    })


def sdxl(width: int, context: int, pooled: int, seed: int = 0, mode: str = "plain",
         **changes: Any) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of ComfyUI's SDXL class, with random weights."""
    return with_unet(sdxl_config(width, context, pooled, **changes), comfy.model_base.SDXL, seed, mode)


def control_net(unet: dict[str, Any], channels: int, seed: int = 0) -> comfy.controlnet.ControlNet:
    """A control model of ComfyUI's class, with random weights, for a UNet of these arguments over one image."""
    facts = {key: value for key, value in unet.items() if key not in ("out_channels", "transformer_depth_output")}
    with eager(), torch.random.fork_rng():
        model = ControlNet(**{**facts, "in_channels": channels}, hint_channels=3, dtype=torch.float32,
                           operations=comfy.ops.disable_weight_init)
        torch.manual_seed(seed)
        randomise(model)
    return comfy.controlnet.ControlNet(model.eval().requires_grad_(False), load_device=torch.device("cpu"))


def control_lora(unet: dict[str, Any], seed: int = 0) -> comfy.controlnet.ControlLora:
    """A ControlLora of random weights, for a UNet of these arguments, through ComfyUI's loader: the hint's own layers whole, a
    low-rank change of some attention."""
    with eager(), torch.random.fork_rng():
        facts = {key: value for key, value in unet.items() if key not in ("out_channels", "transformer_depth_output")}
        whole = ControlNet(**{**facts, "in_channels": 4}, hint_channels=3, dtype=torch.float32,
                           operations=comfy.ops.disable_weight_init)
        torch.manual_seed(seed)
        randomise(whole)
        weights = {key: value for key, value in whole.state_dict().items()
                   if key.startswith(("input_hint_block", "zero_convs", "middle_block_out"))}
        for key, value in whole.state_dict().items():
            if key.endswith("attn1.to_q.weight"):
                name = key.removesuffix(".weight")
                weights |= {f"{name}.up": torch.randn(len(value), 2), f"{name}.down": torch.randn(2, value.shape[1])}
    return comfy.controlnet.load_controlnet_state_dict({**weights, "lora_controlnet": torch.zeros(1)})


def t2i_adapter(width: int, seed: int = 0) -> comfy.controlnet.T2IAdapter:
    """A T2I-Adapter of random weights for a UNet of SD 1.5's structure at this width, through ComfyUI's loader."""
    with torch.random.fork_rng():
        model = Adapter(cin=192, channels=[width, 2 * width, 4 * width, 4 * width], nums_rb=2, ksize=1, sk=True, use_conv=False,
                        xl=False)
        torch.manual_seed(seed)
        randomise(model)
    return comfy.controlnet.load_t2i_adapter(model.state_dict())


def lora_for(network: nn.Module, rank: int = 2, scale: float = 0.3) -> dict[str, Tensor]:
    """A LoRA in the usual file format for the attention weights that a plain UNet of this build has too."""
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for key, weight in network.state_dict().items():
        if key.endswith(("attn1.to_q.weight", "attn2.to_v.weight")):
            name = "lora_unet_" + key.removesuffix(".weight").replace(".", "_")
            out, inputs = weight.shape
            tensors[f"{name}.lora_up.weight"] = torch.randn(out, rank, generator=generator) * scale
            tensors[f"{name}.lora_down.weight"] = torch.randn(rank, inputs, generator=generator) * scale
            tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    return tensors


class Noise:
    """A given noise, for SamplerCustomAdvanced."""

    seed = 0

    def __init__(self, noise: Tensor):
        self.noise = noise

    def generate_noise(self, latent: dict) -> Tensor:
        return self.noise
