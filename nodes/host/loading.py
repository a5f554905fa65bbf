"""Makes the host's MODEL, CLIP and VAE out of the pack's files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import folder_paths
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch import Tensor

from ...layerdiff_core import checkpoint
from ...layerdiff_core.enhancer import PromptEnhancer
from ...layerdiff_core.training.text import full_embedding
from . import networks
from .latent import MeasuredLatent, StackedLatent
from .model import LayeredModel, copy_patches, make_config, patcher_for
from .unet import LayerCollaborativeUNet, is_added

PREDICTIONS = {"eps": comfy.model_base.ModelType.EPS, "v": comfy.model_base.ModelType.V_PREDICTION}
CLIP_VOCABULARY = 49408
EMBEDDING = "text_model.embeddings.token_embedding.weight"
TOKEN_IDS = "token_ids"
STAND_IN: dict[str, Any] = {"embed_dim": 1, "ddconfig": {
    "double_z": True, "resolution": 8, "in_channels": 3, "out_ch": 3, "z_channels": 1, "ch": 32, "ch_mult": [1],
    "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}}


def load_complete(path: Path, header: checkpoint.Header) -> tuple[Any, Any, Any, PromptEnhancer]:
    """Read a complete LayerDiff model. Returns MODEL, CLIP, VAE and the enhancer; ValueError where it is not sound."""
    parts = checkpoint.read_tensors(path, header)
    architecture = header.architecture
    with damage_explained(path.name):
        model = build_model(path.name, header, parts["unet"])
        return (model, build_clip(path.name, architecture, parts["text"]),
                build_vae(path.name, architecture, parts["vae"]),
                build_enhancer(path.name, architecture["enhancer"], parts["enhancer"]))


@contextmanager
def damage_explained(name: str) -> Iterator[None]:
    """Turns what network classes raise for an architecture that makes no sense into a ValueError that says so."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{name}: no model can be built as its architecture says ({type(error).__name__}: {error}). "
                         "The file is damaged, or needs a newer version of this pack.") from error


def build_model(name: str, header: checkpoint.Header, tensors: dict[str, Tensor]) -> Any:
    """The MODEL of a complete file."""
    architecture = header.architecture
    config = make_config(networks.unet_config(architecture), MeasuredLatent(architecture["latent"]), *unet_types(tensors))
    model = LayeredModel(config, PREDICTIONS[architecture["prediction"]], header.layers,
                         comfy.model_management.unet_offload_device())
    checkpoint.check_tensors(f"{name}, UNet", tensors, shapes(model.diffusion_model))
    model.diffusion_model.load_state_dict(tensors)
    return patcher_for(model)


def unet_types(tensors: dict[str, Tensor]) -> tuple[torch.dtype, torch.dtype | None]:
    """The type in which the host keeps a UNet of these weights, and the one that it computes in where that differs."""
    size = sum(tensor.numel() for tensor in tensors.values())
    dtype = comfy.model_management.unet_dtype(model_params=size, supported_dtypes=[torch.float16, torch.bfloat16, torch.float32])
    return dtype, comfy.model_management.unet_manual_cast(dtype, comfy.model_management.get_torch_device())


def build_clip(name: str, architecture: dict, tensors: dict[str, Tensor]) -> Any:
    """The CLIP of a complete file: the host's own class, small, its vocabulary spread over CLIP's."""
    config, token_ids = dict(architecture["text"]), tensors.pop(TOKEN_IDS, None)
    if token_ids is None or token_ids.ndim != 1 or token_ids.is_floating_point() \
            or not all(0 <= token < CLIP_VOCABULARY for token in token_ids.tolist()):
        raise ValueError(f"{name} lacks text.{TOKEN_IDS} or holds there what are no tokens of CLIP's, so its words are "
                         "unknown. The file is damaged: use another one.")
    reference = networks.trainable_text_model(architecture, len(token_ids) + 1)
    checkpoint.check_tensors(f"{name}, text encoder", tensors, shapes(reference))
    tensors[EMBEDDING] = full_embedding(tensors[EMBEDDING], token_ids, CLIP_VOCABULARY)
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    return comfy.sd.CLIP(target, embedding_directory=folder_paths.get_folder_paths("embeddings"),
                         tokenizer_data={"clip_l_max_length": config["max_position_embeddings"]},
                         state_dict={f"clip_l.transformer.{key}": tensor for key, tensor in tensors.items()},
                         model_options={"clip_l_model_config": config})


def build_vae(name: str, architecture: dict, tensors: dict[str, Tensor]) -> Any:
    """The VAE of a complete file: the host's, around the starter's network over patches."""
    network = networks.autoencoder(architecture)
    checkpoint.check_tensors(f"{name}, VAE", tensors, shapes(network))
    network.load_state_dict(tensors)
    return host_vae(network, architecture["latent"]["channels"], network.ratio)


def host_vae(network: torch.nn.Module, channels: int, ratio: int = 8) -> Any:
    """The host's VAE around a network of ours, whose latents are `ratio` times smaller than pictures. The host builds one of
    its own kinds only, so it gets a tiny one first."""
    vae = comfy.sd.VAE(sd=AutoencoderKL(**STAND_IN).state_dict(), config={"params": STAND_IN})
    vae.first_stage_model = network.eval().requires_grad_(False).to(vae.vae_dtype)
    vae.patcher = comfy.model_patcher.CoreModelPatcher(network, load_device=vae.device,
                                                       offload_device=comfy.model_management.vae_offload_device())
    vae.downscale_ratio = vae.upscale_ratio = ratio
    vae.size, vae.latent_channels = comfy.model_management.module_size(network), channels
    return vae


def build_enhancer(name: str, sizes: dict, tensors: dict[str, Tensor]) -> PromptEnhancer:
    """The enhancer of a file, in float32 on the CPU: it is small and runs once a prompt."""
    enhancer = PromptEnhancer(**sizes)
    checkpoint.check_tensors(f"{name}, enhancer", tensors, shapes(enhancer))
    enhancer.load_state_dict(tensors)
    return enhancer.eval().requires_grad_(False)


def apply_adapter(base: Any, path: Path) -> tuple[Any, PromptEnhancer]:
    """Put an adapter on an SD 1.5 MODEL. Returns the layered MODEL and its enhancer.

    The base's weights are shared, not copied, and its LoRA patches and options go along. ValueError for a MODEL that
    is not SD 1.5 or whose widths are not the adapter's.
    """
    header = checkpoint.read_header(path, family="layerdiff", kind="adapter")
    parts = checkpoint.read_tensors(path, header)
    model = layered_base(base, header.layers, header.architecture.get("position", False))
    unet = model.diffusion_model
    wanted = {key: shape for key, shape in shapes(unet).items() if is_added(key)}
    checkpoint.check_tensors(f"{path.name} on this MODEL", parts["unet"], wanted)
    unet.load_state_dict(parts["unet"], strict=False)
    patcher = patcher_for(model)
    copy_patches(base, patcher)
    if parts["lora"]:
        keys = comfy.lora.model_lora_keys_unet(model, {})
        strange = [key for key in parts["lora"]
                   if key.rpartition(".lora_")[0] not in keys and key.removesuffix(".alpha") not in keys]
        if strange:
            raise ValueError(f"{path.name} changes weights that this MODEL does not have: {', '.join(strange[:5])}. The file "
                             "is damaged or was made for another model: use another one.")
        patcher.add_patches(comfy.lora.load_lora(parts["lora"], keys))
    with damage_explained(path.name):
        return patcher, build_enhancer(path.name, header.architecture["enhancer"], parts["enhancer"])


def layered_base(base: Any, layers_trained: int = 0, position: bool = False) -> LayeredModel:
    """A layered model with the weights of an SD 1.5 MODEL and nothing added yet that was trained; `position`: with features
    of the position."""
    old = base.model
    if type(old) is not comfy.model_base.BaseModel or not isinstance(old.model_config, comfy.supported_models.SD15) \
            or isinstance(old.latent_format, StackedLatent) or old.model_config.unet_config["in_channels"] != 4:
        raise ValueError(f"An adapter goes on an ordinary SD 1.5 MODEL, and this one is {type(old).__name__} of "
                         f"{type(old.model_config).__name__} (an inpainting model, another family, or already "
                         "layered). Load an SD 1.5 checkpoint.")
    config = make_config({**old.model_config.unet_config, "position": position}, old.latent_format, old.get_dtype(),
                         old.manual_cast_dtype)
    config.sampling_settings = old.model_config.sampling_settings
    model = LayeredModel(config, old.model_type, layers_trained, comfy.model_management.unet_offload_device())
    prefix = "diffusion_model."
    weights = {key[len(prefix):]: patches[0][0] for key, patches in base.get_key_patches(prefix).items()}
    unet = model.diffusion_model
    unet.load_state_dict(weights, strict=False, assign=True)
    unet.reset_added_parameters()
    return model.requires_grad_(False)


def new_adapter(base: Any, heads: int, context_dim: int, seed: int) -> tuple[checkpoint.Header, dict[str, Tensor]]:
    """A fresh adapter for an SD 1.5 MODEL: it changes nothing until it is trained. For checkpoint.write."""
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    unet: LayerCollaborativeUNet = layered_base(base, position=True).diffusion_model
    sizes: dict[str, Any] = {"dim": context_dim, "heads": heads, "both_ways": True}
    enhancer = PromptEnhancer(**sizes)
    torch.random.set_rng_state(generator_state)
    tensors = {f"unet.{key}": value.half() for key, value in unet.state_dict().items() if is_added(key)}
    tensors |= {f"enhancer.{key}": value.half() for key, value in enhancer.state_dict().items()}
    header = checkpoint.Header("layerdiff", "adapter", {"enhancer": sizes, "position": True}, 0, "SD 1.5",
                               "CC0-1.0: random numbers and zeros", "fresh, untrained")
    return header, tensors


def shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
    """Keys and shapes of a network's weights."""
    return {key: value.shape for key, value in network.state_dict().items()}
