"""Adapters, which hold what LayerDiff adds to an SD 1.5 MODEL: applying one, and creating a new one."""

import uuid
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_base
import comfy.model_management
import comfy.supported_models
import torch
from comfy.quant_ops import QuantizedTensor
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS
from torch import Tensor

from ...layerdiff_core import checkpoint
from ...layerdiff_core.enhancer import PromptEnhancer
from . import networks
from .latent import LayeredLatent, StackedLatent
from .loading import build_enhancer, damage_explained
from .model import LayeredModel, over_latents, ready_layers
from .unet import LayerCollaborativeUNet, added_dtype, is_added

UNET = "diffusion_model."
HEADS = 12
"""Attention heads of a new adapter's prompt enhancer: as many as CLIP-L, whose tokens it reads, has."""


def apply_adapter(base: Any, path: Path) -> tuple[Any, PromptEnhancer]:
    """Applies an adapter to an SD 1.5 MODEL. Returns the layered MODEL and its enhancer.

    Everything on the MODEL is kept: LoRAs, object patches, hooks, wrappers and options. With DynamicVRAM the base's weights
    are shared. Without it they are copied, so that ComfyUI can move each model independently. ValueError if the MODEL is not
    SD 1.5, has other widths than the adapter, or has something on it that cannot be kept.
    """
    header = checkpoint.read_header(path, family="layerdiff", kind="adapter")
    parts = checkpoint.read_tensors(path, header)
    check_base(base)
    check_weights(path, base, header, parts["unet"])
    patcher = on_base(base, header, parts["unet"])
    if base.cached_patcher_init is not None:
        patcher.cached_patcher_init = (reload_layered, (base.cached_patcher_init, path))
    if parts["lora"]:
        add_low_rank(patcher, path.name, parts["lora"])
    with damage_explained(path.name):
        return patcher, build_enhancer(path.name, header.architecture["enhancer"], parts["enhancer"])


def reload_layered(base_init: tuple, path: Path, disable_dynamic: bool = False) -> Any:
    """Loads the layered MODEL again, with the base loaded again by its own loader. ComfyUI calls this for a second GPU, Torch
    Compile and LoRA hooks. The result has no patches: ComfyUI adds those of the MODEL it copies."""
    factory, arguments, *place = base_init
    base = factory(*arguments, disable_dynamic=disable_dynamic)
    for index in place:
        base = base[index]
    header = checkpoint.read_header(path, family="layerdiff", kind="adapter")
    return on_base(base, header, checkpoint.read_tensors(path, header, ("unet",))["unet"])


def check_base(base: Any) -> None:
    """ValueError if an adapter cannot be applied to a MODEL: not plain SD 1.5, or with patches that must be applied later."""
    model, config = base.model, base.model.model_config
    found = ("a Text2Layer model" if isinstance(model.latent_format, StackedLatent) else
             f"layered already ({type(model).__name__})" if isinstance(model, LayeredModel) else
             f"{type(model).__name__} of {type(config).__name__}")
    if type(model) is not comfy.model_base.BaseModel or not isinstance(config, comfy.supported_models.SD15) \
            or isinstance(model.latent_format, StackedLatent) or config.unet_config["in_channels"] != 4:
        raise ValueError(f"An adapter requires an ordinary SD 1.5 MODEL, not an inpainting model or another architecture. This "
                         f"one is {found}. Load an SD 1.5 checkpoint.")
    swapped = [name for name in base.object_patches if name == "diffusion_model" or name.startswith(UNET)]
    if swapped:
        raise ValueError(f"A node before this one replaced parts of the MODEL's UNet ({', '.join(swapped[:3])}), which the "
                         "adapter needs. Move that node after Apply LayerDiff Adapter.")
    if base.get_additional_models_with_key("multigpu"):
        raise ValueError("The MODEL was already distributed to several GPUs without the adapter. Move MultiGPU CFG Split after "
                         "Apply LayerDiff Adapter.")


def layered_config(base: Any, architecture: dict) -> comfy.supported_models.SD15:
    """The configuration of an SD 1.5 MODEL, changed to layered latents. Its dtypes, quantization and sampling settings stay.
    architecture: the adapter's, which says whether the model has position features."""
    config = over_latents(base.model.model_config, LayeredLatent(base.model.latent_format))
    config.unet_config["position"] = architecture.get("position", False)
    return config


def reference_unet(base: Any, architecture: dict) -> LayerCollaborativeUNet:
    """The layered UNet for an SD 1.5 MODEL and an adapter's architecture, without weights."""
    facts = {**layered_config(base, architecture).unet_config, "dtype": torch.float32}
    with torch.device("meta"):
        return LayerCollaborativeUNet(**facts, operations=networks.PLAIN)


def check_weights(path: Path, base: Any, header: checkpoint.Header, weights: dict[str, Tensor]) -> None:
    """ValueError if an adapter's weights do not fit this MODEL."""
    unet = reference_unet(base, header.architecture)
    wanted = {key: shape for key, shape in networks.shapes(unet).items() if is_added(key)}
    checkpoint.check_tensors(f"{path.name} on this MODEL", weights, wanted)


def on_base(base: Any, header: checkpoint.Header, added: dict[str, Tensor]) -> Any:
    """A layered MODEL with the weights of an SD 1.5 MODEL and an adapter, and everything that is on the SD 1.5 MODEL."""
    model = LayeredModel(layered_config(base, header.architecture), base.model.model_type, header.layers,
                         comfy.model_management.unet_offload_device())
    added_type = added_dtype(model.get_dtype())
    weights = base_weights(base) | {key: value.to(added_type) for key, value in added.items()}
    model.diffusion_model.load_state_dict(weights, assign=True)
    patcher = base.clone(model_override=(model.requires_grad_(False), ({}, {}, {}, set())))
    patcher.size = 0  # makes ComfyUI measure it again
    patcher.clone_base_uuid = uuid.uuid4()
    # Backups and hook patches that ComfyUI recorded for the base's weights do not apply to these.
    patcher.hook_backup, patcher.cached_hook_patches, patcher.current_hooks, patcher.is_injected = {}, {}, None, False
    patcher.cached_patcher_init = None
    compile_options = patcher.model_options.get(TORCH_COMPILE_KWARGS)
    if compile_options is not None:  # these hold the compiled UNet of the base
        set_torch_compile_wrapper(patcher, **compile_options)
    return ready_layers(patcher)


def base_weights(base: Any) -> dict[str, Tensor]:
    """The weights of an SD 1.5 MODEL's UNet by key, without patches.

    With DynamicVRAM the weights stay in place while the model is used, so they are shared. Without it ComfyUI moves them, and
    shared weights would keep GPU memory in use after ComfyUI unloaded the base, so they are copied.
    """
    weights = base.model_state_dict(UNET)
    for key, backup in base.backup.items():
        weights |= pieces(key, backup.weight)
    for key, (weight, _) in base.hook_backup.items():
        weights |= pieces(key, weight)
    if not base.is_dynamic():
        device = comfy.model_management.unet_offload_device()
        weights = {key: weight.to(device, copy=True) for key, weight in weights.items()}
    return {key.removeprefix(UNET): weight for key, weight in weights.items() if key.startswith(UNET)}


def pieces(key: str, weight: Tensor) -> dict[str, Tensor]:
    """A weight's entries in a state dict: several if it is quantized."""
    return weight.state_dict(key) if isinstance(weight, QuantizedTensor) else {key: weight}


def add_low_rank(patcher: Any, name: str, tensors: dict[str, Tensor]) -> None:
    """Adds an adapter's low-rank change of the base weights to the MODEL. ValueError if the MODEL lacks those weights."""
    keys = comfy.lora.model_lora_keys_unet(patcher.model, {})
    strange = [key for key in tensors
               if key.rpartition(".lora_")[0] not in keys and key.removesuffix(".alpha") not in keys]
    if strange:
        raise ValueError(f"{name} changes weights that this MODEL does not have: {', '.join(strange[:5])}. The file is damaged "
                         "or was made for another model. Use another file.")
    patcher.add_patches(comfy.lora.load_lora(tensors, keys))


def new_adapter(base: Any, seed: int) -> tuple[checkpoint.Header, dict[str, Tensor]]:
    """A new adapter for an SD 1.5 MODEL, for checkpoint.write. It changes nothing until it is trained.

    Allocates memory only for the added weights. ValueError if the MODEL is not SD 1.5.
    """
    check_base(base)
    context = base.model.model_config.unet_config["context_dim"]
    architecture: dict[str, Any] = {"enhancer": {"dim": context, "heads": HEADS, "both_ways": True}, "position": True}
    unet = reference_unet(base, architecture)
    for name, module in unet.named_modules():
        if is_added(f"{name}."):
            module.to_empty(device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.reset_added_parameters()
        enhancer = PromptEnhancer(**architecture["enhancer"])
    tensors = {f"unet.{key}": value.half() for key, value in unet.state_dict().items() if is_added(key)}
    tensors |= {f"enhancer.{key}": value.half() for key, value in enhancer.state_dict().items()}
    header = checkpoint.Header("layerdiff", "adapter", architecture, 0, "SD 1.5",
                               "CC0-1.0: random numbers and zeros", "fresh, untrained")
    return header, tensors
