"""A layered model as an ordinary ComfyUI MODEL: its class, and the one sampling wrapper that layers need."""

import logging
from typing import Any

import comfy.conds
import comfy.context_windows
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models
import torch
from torch import Tensor

from .conditioning import LAYERS_KEY, OPTIONS_KEY, place_layers
from .control import PictureControl, as_stacked
from .unet import LayerCollaborativeUNet
from .words import ENCODER_KEY, TextEncoder, check_words

WHOLE_KEY = "whole_prompt"
"""Key in a CONDITIONING: the tokens [1, T, dim] of a global prompt that no enhancer has put into the layers' prompts."""
WRAPPER_KEY = "layerdiff"


class LayeredModel(comfy.model_base.BaseModel):
    """ComfyUI's base model with the layer-collaborative UNet. `layers_trained`: 0 if untrained. `text_encoder`: the one in the
    model's file, None if it uses the base checkpoint's."""

    text_encoder: TextEncoder | None = None

    def __init__(self, config: comfy.supported_models.SD15, model_type: comfy.model_base.ModelType, layers_trained: int,
                 device: Any):
        super().__init__(config, model_type, device=device, unet_model=LayerCollaborativeUNet)
        self.layers_trained = layers_trained

    def extra_conds(self, **kwargs: Any) -> dict:
        out = super().extra_conds(**kwargs)
        out[LAYERS_KEY] = comfy.conds.CONDConstant(kwargs.get(LAYERS_KEY, 1))
        return out


def sd15_config(unet_config: dict, latent: comfy.latent_formats.LatentFormat) -> comfy.supported_models.SD15:
    """ComfyUI's configuration of an SD 1.5 model with these UNet arguments and this latent format."""
    config = comfy.supported_models.SD15(unet_config)
    # The SD15 class overwrites the number of attention heads with its own.
    config.unet_config = unet_config
    return over_latents(config, latent)


def over_latents(config: comfy.supported_models.SD15, latent: comfy.latent_formats.LatentFormat) -> Any:
    """A copy of a model's configuration, changed only in its latent format."""
    changed = type(config)(config.unet_config)
    vars(changed).update(vars(config))
    channels = latent.latent_channels
    changed.unet_config = {**config.unet_config, "in_channels": channels, "out_channels": channels}
    changed.latent_format = latent
    return changed


def patcher_for(model: comfy.model_base.BaseModel, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The model patcher that a MODEL socket carries. disable_dynamic: do not use DynamicVRAM even if ComfyUI has enabled it."""
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    return kind(model, load_device=comfy.model_management.get_torch_device(),
                offload_device=comfy.model_management.unet_offload_device())


def ready_layers(patcher: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Adds the sampling wrapper that prepares the conditioning for layers to a MODEL. Returns the same patcher."""
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, sample_layers)
    return patcher


def load_weights(patcher: comfy.model_patcher.ModelPatcher, weights: dict[str, Tensor]) -> None:
    """Loads all weights of a MODEL's UNet.

    A dynamic patcher takes them without a copy and casts them on the way to the GPU. Any other patcher gets a copy in the
    model's own dtype, because ComfyUI's lazy layers would keep the dtype of the file. RuntimeError if a key is missing or
    unexpected.
    """
    network, dynamic = patcher.model.diffusion_model, patcher.is_dynamic()
    if not dynamic:
        wanted = network.dtype
        weights = {key: value.to(wanted) if value.is_floating_point() else value for key, value in weights.items()}
    network.load_state_dict(weights, assign=dynamic)


def layered(patcher: Any) -> LayeredModel:
    """The layered model inside a MODEL. ValueError for any other model."""
    model = getattr(patcher, "model", None)
    if not isinstance(model, LayeredModel):
        raise ValueError(f"This MODEL is {type(model).__name__}, not a layered one. Load one with Load Layered Model, or "
                         "put Apply LayerDiff Adapter after the checkpoint.")
    return model


def layers_of(conds: dict[str, list[dict]], count: int) -> int:
    """The number of layers that the conditioning is for, when `count` latents are sampled.

    Conditioning without a number of layers is for one layer. ValueError if the conditionings disagree, or if plain
    conditioning is used with several latents, which would become unrelated images.
    """
    counts = {cond[LAYERS_KEY] for group in conds.values() for cond in group if LAYERS_KEY in cond}
    if len(counts) > 1:
        raise ValueError(f"The sampler got conditionings for {' and '.join(map(str, sorted(counts)))} layers. All of them must "
                         "have the same number of layers.")
    if not counts and count > 1:
        raise ValueError(f"The prompts are for a single image, but the latent holds {count} layers, which would become {count} "
                         "unrelated images. Encode the prompts with Encode Layer Prompts, one per layer, or add Stack Layer "
                         "Conditioning after CLIP Text Encode.")
    return counts.pop() if counts else 1


def sample_layers(executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor,
                  denoise_mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """Wraps ComfyUI's sampling: prepares the conditioning for layers, and restores what the noise mask protects."""
    ready_conditioning(executor.class_obj, noise)
    # Asked before: ComfyUI's uni_pc writes into the sigmas.
    unfinished = bool(sigmas[-1] > 0)
    drawn = executor(noise, latent, sampler, sigmas, denoise_mask, *args, **kwargs)
    if denoise_mask is None or unfinished:
        return drawn
    # Converting to the latent format and back rounds, but protected layers must come out exactly as they went in.
    return torch.where(denoise_mask.to(drawn.device) == 0, latent.to(drawn), drawn)


def ready_conditioning(guider: Any, noise: Tensor) -> None:
    """Checks that prompts and latent have the same number of layers, adds that number to conditioning from other nodes (such
    as a plain negative prompt), converts the options of single layers to ComfyUI's, and wraps ControlNets so that they see only
    the image channels."""
    model = guider.model_patcher.model
    check_pictures(noise)
    layers = layers_of(guider.conds, noise.shape[0])
    if noise.shape[0] % layers:
        raise ValueError(f"The prompts are for {layers} layers, but the latent holds {noise.shape[0]}, which is not a whole "
                         "number of such scenes. Connect the same number of layers to Empty Layered Latent.")
    if noise.shape[1] != model.latent_format.latent_channels:
        raise ValueError(f"The latent has {noise.shape[1]} channels, but this layered MODEL needs "
                         f"{model.latent_format.latent_channels}: image and mask of each layer. Connect Empty Layered "
                         "Latent or Encode Layers, with the VAE of the same model.")
    check_windows(guider.model_options, noise.shape[0], layers)
    if model.layers_trained == 0:
        logging.warning("LayerDiff: this adapter is untrained. The layers are independent of each other and have no masks.")
    elif layers > model.layers_trained:
        logging.warning("LayerDiff: sampling %d layers, but the model was trained with up to %d.",
                        layers, model.layers_trained)
    channels = model.latent_format.single.latent_channels
    width = model.model_config.unet_config["context_dim"]
    stacked = [cond["control"] for group in guider.conds.values() for cond in group if LAYERS_KEY in cond and "control" in cond]
    stand_ins: dict[int, PictureControl] = {}
    for group in guider.conds.values():
        for cond in group:
            tokens = cond.get("cross_attn")
            if tokens is not None and tokens.shape[-1] != width:
                raise ValueError(f"The prompts were encoded with width {tokens.shape[-1]}, but this MODEL needs {width}. Encode "
                                 "them with the CLIP of the same model.")
            for options in (cond, *cond.get(OPTIONS_KEY, [])):
                check_words(options.get(ENCODER_KEY), model.text_encoder, "this MODEL")
                check_areas(options, noise)
            if WHOLE_KEY in cond:
                raise ValueError("The global prompt was encoded without an enhancer, but this MODEL needs one to use it. Connect "
                                 "the enhancer to Encode Layer Prompts, or leave the global prompt empty.")
            place_layers(cond, noise)
            if "control" in cond:
                control = cond["control"] if LAYERS_KEY in cond else as_stacked(cond["control"], stacked, layers)
                cond["control"] = stand_ins.setdefault(id(control), PictureControl(control, channels, layers))
            cond[LAYERS_KEY] = layers


def check_pictures(noise: Tensor) -> None:
    """ValueError if the latent is for video or audio, or empty."""
    if noise.ndim != 4:
        raise ValueError(f"The latent has the shape {list(noise.shape)}, like one of video or audio, but a layered MODEL "
                         "generates images. Connect Empty Layered Latent or Encode Layers.")
    if 0 in noise.shape:
        raise ValueError(f"The latent is empty. Its shape is {list(noise.shape)}. Check the node that scaled or cropped it.")


def check_areas(cond: dict[str, Any], noise: Tensor) -> None:
    """ValueError if the prompt's area lies outside the image or its mask has no pixels."""
    if "mask" in cond and 0 in cond["mask"].shape:
        raise ValueError("The mask of a prompt has no pixels. Check the node that created or cropped it.")
    area = cond.get("area")
    if area is None or isinstance(area[0], str) and not any(start >= 1 for start in area[-2:]):
        return
    if isinstance(area[0], str) or any(start >= side for start, side in zip(area[-2:], noise.shape[2:])):
        raise ValueError("The area of a prompt is outside the image. Check x and y in Conditioning (Set Area), or use a larger "
                         "image.")


def check_windows(options: dict[str, Any], count: int, layers: int) -> None:
    """ValueError if context windows would split a batch of `count` latents: a scene's layers must be sampled together."""
    handler = options.get("context_handler")
    # Other packs' handlers may keep scenes whole. If they do not, the UNet raises an error.
    if isinstance(handler, comfy.context_windows.IndexListContextHandler) and handler.dim == 0 and handler.context_length < count:
        raise ValueError(f"Context windows of {handler.context_length} would split this batch of {count}, but the {layers} "
                         "layers of a scene must be sampled together. Remove the context windows from the MODEL, or sample "
                         "fewer scenes at once.")
