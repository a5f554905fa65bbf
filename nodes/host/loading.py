"""Builds ComfyUI's MODEL, CLIP and VAE from the pack's complete model files, of either family."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import folder_paths
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ...layerdiff_core import checkpoint
from ...layerdiff_core.enhancer import PromptEnhancer
from ...layerdiff_core.layers import MAX_LAYERS
from . import networks, text2layer, words
from .codecs import Trained
from .latent import LayeredLatent, MeasuredLatent, StackedLatent
from .model import LayeredModel, load_weights, patcher_for, ready_layers, sd15_config

PREDICTIONS = {"eps": comfy.model_base.ModelType.EPS, "v": comfy.model_base.ModelType.V_PREDICTION}
CLIP_VOCABULARY = 49408
EMBEDDING = "text_model.embeddings.token_embedding.weight"
TOKEN_IDS = "token_ids"
STAND_IN: dict[str, Any] = {"embed_dim": 1, "ddconfig": {
    "double_z": True, "resolution": 8, "in_channels": 3, "out_ch": 3, "z_channels": 1, "ch": 32, "ch_mult": [1],
    "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}}


def load_complete(path: Path) -> tuple[Any, Any, Any, PromptEnhancer | None]:
    """Loads a complete model of either family. Returns MODEL, CLIP, VAE and the enhancer, which is None for Text2Layer.

    ComfyUI can load each of the first three again from the file, for another GPU or without DynamicVRAM. ValueError if the
    file is damaged.
    """
    header = checkpoint.read_header(path, kind="complete")
    parts = checkpoint.read_tensors(path, header)
    with damage_explained(path.name):
        model, clip, vae = (build(path.name, header, parts) for build in (build_model, build_clip, build_vae))
        model.cached_patcher_init = (reload_model, (path,))
        clip.patcher.cached_patcher_init = (reload_clip, (path,))
        vae.patcher.cached_patcher_init = (reload_vae, (path,))
        vae.trained = Trained(header.architecture["unet"]["image_size"] * vae.spacial_compression_encode(), header.layers)
        mark = words.text_encoder(path.name, parts["text"])
        model.model.text_encoder = clip.cond_stage_model.text_encoder = mark
        clip.cond_stage_model.known_tokens = frozenset(parts["text"][TOKEN_IDS].tolist())
        if header.family == "text2layer":
            return model, clip, vae, None
        enhancer = build_enhancer(path.name, header.architecture["enhancer"], parts["enhancer"])
        enhancer.text_encoder = mark
        return model, clip, vae, enhancer


def reload_model(path: Path, disable_dynamic: bool = False) -> Any:
    """Loads the MODEL of a complete file again. ComfyUI calls this for a second GPU, Torch Compile and LoRA hooks."""
    header, parts = reread(path, "unet", "text")
    patcher = build_model(path.name, header, parts, disable_dynamic)
    patcher.model.text_encoder = words.text_encoder(path.name, parts["text"])
    return patcher


def reload_clip(path: Path, disable_dynamic: bool = False) -> Any:
    """Loads the CLIP of a complete file again. Returns its patcher."""
    header, parts = reread(path, "text")
    patcher = build_clip(path.name, header, parts, disable_dynamic).patcher
    patcher.model.text_encoder = words.text_encoder(path.name, parts["text"])
    return patcher


def reload_vae(path: Path, disable_dynamic: bool = False) -> Any:
    """Loads the VAE of a complete file again. Returns its patcher."""
    return build_vae(path.name, *reread(path, "vae"), disable_dynamic).patcher


def reread(path: Path, *parts: str) -> tuple[checkpoint.Header, dict[str, dict[str, Tensor]]]:
    """Reads the header and some parts of a file again."""
    header = checkpoint.read_header(path, kind="complete")
    return header, checkpoint.read_tensors(path, header, parts)


@contextmanager
def damage_explained(name: str) -> Iterator[None]:
    """Turns the errors that network classes raise for an invalid architecture into a ValueError that says so."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{name}: no model can be built from its architecture ({type(error).__name__}: {error}). "
                         "The file is damaged, or needs a newer version of this pack.") from error


def build_model(name: str, header: checkpoint.Header, parts: dict[str, dict[str, Tensor]],
                disable_dynamic: bool = False) -> Any:
    """The MODEL of a complete file."""
    architecture, weights, device = header.architecture, parts["unet"], comfy.model_management.unet_offload_device()
    prediction = PREDICTIONS[architecture["prediction"]]
    model: comfy.model_base.BaseModel
    if header.family == "text2layer":
        latent = StackedLatent(architecture["latent"], foregrounds(name, architecture))
        config = sd15_config(architecture["unet"], latent)
        networks.check_weights(f"{name}, UNet", lambda: UNetModel(**config.unet_config, operations=networks.PLAIN), weights)
        config.set_inference_dtype(*unet_types(weights))
        model = comfy.model_base.BaseModel(config, prediction, device)
        return text2layer.ready_scenes(loaded(model, weights, disable_dynamic))
    config = sd15_config(networks.unet_config(architecture), LayeredLatent(MeasuredLatent(architecture["latent"])))
    networks.check_weights(f"{name}, UNet", lambda: networks.unet(architecture), weights)
    config.set_inference_dtype(*unet_types(weights))
    model = LayeredModel(config, prediction, header.layers, device)
    return ready_layers(loaded(model, weights, disable_dynamic))


def loaded(model: comfy.model_base.BaseModel, weights: dict[str, Tensor], disable_dynamic: bool) -> Any:
    """Loads a model's weights. Returns its patcher."""
    patcher = patcher_for(model, disable_dynamic)
    load_weights(patcher, weights)
    return patcher


def foregrounds(name: str, architecture: dict) -> int:
    """The number of foregrounds of a Text2Layer file. ValueError if a LAYERS document cannot hold that many."""
    count = architecture["foregrounds"]
    if not 1 <= count < MAX_LAYERS:
        raise ValueError(f"{name} has {count} foregrounds; 1 to {MAX_LAYERS - 1} are possible. The file is damaged. Use another "
                         "file.")
    return count


def unet_types(tensors: dict[str, Tensor]) -> tuple[torch.dtype, torch.dtype | None]:
    """The dtype in which ComfyUI stores a UNet with these weights, and the one it computes in if that differs."""
    size = sum(tensor.numel() for tensor in tensors.values())
    dtype = comfy.model_management.unet_dtype(model_params=size, supported_dtypes=[torch.float16, torch.bfloat16, torch.float32])
    return dtype, comfy.model_management.unet_manual_cast(dtype, comfy.model_management.get_torch_device())


def build_clip(name: str, header: checkpoint.Header, parts: dict[str, dict[str, Tensor]],
               disable_dynamic: bool = False) -> Any:
    """The CLIP of a complete file: ComfyUI's class at a small size, with the file's words placed in CLIP's vocabulary."""
    architecture, tensors = header.architecture, dict(parts["text"])
    config, token_ids = dict(architecture["text"]), tensors.pop(TOKEN_IDS, None)
    if token_ids is None or token_ids.ndim != 1 or token_ids.is_floating_point() \
            or not all(0 <= token < CLIP_VOCABULARY for token in token_ids.tolist()):
        raise ValueError(f"{name} lacks text.{TOKEN_IDS} or does not hold CLIP tokens there. The file is damaged. Use another "
                         "file.")
    networks.check_weights(f"{name}, text encoder", lambda: networks.text_model(architecture, len(token_ids) + 1), tensors)
    tensors[EMBEDDING] = checkpoint.full_embedding(tensors[EMBEDDING], token_ids, CLIP_VOCABULARY)
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, words.MarkedTextModel)
    return comfy.sd.CLIP(target, embedding_directory=folder_paths.get_folder_paths("embeddings"),
                         tokenizer_data={"clip_l_max_length": config["max_position_embeddings"]},
                         state_dict={f"clip_l.transformer.{key}": tensor for key, tensor in tensors.items()},
                         model_options={"clip_l_model_config": config}, disable_dynamic=disable_dynamic)


def build_vae(name: str, header: checkpoint.Header, parts: dict[str, dict[str, Tensor]],
              disable_dynamic: bool = False) -> Any:
    """The VAE of a complete file: ComfyUI's class around the starter's network over patches or around CaT2I-AE.

    ComfyUI can only build its own kinds of VAE, so it builds a tiny one, whose network is then replaced.
    """
    vae = comfy.sd.VAE(sd=AutoencoderKL(**STAND_IN).state_dict(), config={"params": STAND_IN})
    architecture, what = header.architecture, f"{name}, VAE"
    if header.family == "text2layer":
        foregrounds(name, architecture)
        kind = text2layer.ComposedAutoencoder
        network = networks.build(what, lambda: networks.composition_autoencoder(architecture, kind), parts["vae"], vae.vae_dtype)
        # The number of channels that ComfyUI passes on when it encodes an image.
        vae.output_channels = 3 + 4 * network.foregrounds
    else:
        network = networks.build(what, lambda: networks.autoencoder(architecture), parts["vae"], vae.vae_dtype)
        vae.downscale_ratio = vae.upscale_ratio = network.ratio
    comfy.model_management.archive_model_dtypes(network)
    patcher = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    vae.first_stage_model = network
    vae.patcher = patcher(network, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device())
    vae.size, vae.latent_channels = comfy.model_management.module_size(network), architecture["latent"]["channels"]
    return vae


def build_enhancer(name: str, sizes: dict, tensors: dict[str, Tensor]) -> PromptEnhancer:
    """The enhancer of a file, in float32 on the CPU, because it is small and runs only once per prompt."""
    return networks.build(f"{name}, enhancer", lambda: PromptEnhancer(**sizes), tensors)
