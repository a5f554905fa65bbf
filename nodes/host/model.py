"""A layered model as an ordinary MODEL of the host: its classes, and the one wrapper that layers need."""

import copy
import logging
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models
import torch
from torch import Tensor

from .control import PictureControl
from .latent import LayeredLatent
from .unet import LayerCollaborativeUNet

LAYERS_KEY = "layers"


class LayeredSD15(comfy.supported_models.SD15):
    """The host's SD 1.5 model, over layers."""

    unet_extra_config: dict = {}

    def __init__(self, unet_config: dict, latent: comfy.latent_formats.LatentFormat):
        super().__init__(unet_config)
        self.latent_format = LayeredLatent(latent)


class LayeredModel(comfy.model_base.BaseModel):
    """The host's model with the layer-collaborative UNet. `layers_trained`: 0 where nothing was trained."""

    def __init__(self, config: LayeredSD15, model_type: comfy.model_base.ModelType, layers_trained: int, device: Any):
        super().__init__(config, model_type, device=device, unet_model=LayerCollaborativeUNet)
        self.layers_trained = layers_trained

    def extra_conds(self, **kwargs: Any) -> dict:
        out = super().extra_conds(**kwargs)
        out[LAYERS_KEY] = comfy.conds.CONDConstant(kwargs.get(LAYERS_KEY, 1))
        return out


def make_config(unet_config: dict, latent: comfy.latent_formats.LatentFormat, dtype: Any, manual_cast: Any) -> LayeredSD15:
    """The configuration from the UNet's arguments for one picture; layers have twice the channels."""
    channels = 2 * latent.latent_channels
    config = LayeredSD15({**unet_config, "in_channels": channels, "out_channels": channels}, latent)
    config.set_inference_dtype(dtype, manual_cast)
    return config


def patcher_for(model: LayeredModel) -> comfy.model_patcher.ModelPatcher:
    """The MODEL socket's object, with the wrapper that readies conditioning for layers."""
    patcher = comfy.model_patcher.CoreModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device())
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "layerdiff", sample_layers)
    return patcher


def layered(patcher: Any) -> LayeredModel:
    """The layered model inside a MODEL. ValueError for any other model."""
    model = getattr(patcher, "model", None)
    if not isinstance(model, LayeredModel):
        raise ValueError(f"This MODEL is {type(model).__name__}, not a layered one. Load one with Load Layered Model, or "
                         "put Apply LayerDiff Adapter after the checkpoint.")
    return model


def layers_of(conds: dict[str, list[dict]]) -> int:
    """The number of layers that the conditioning of a sampling speaks of; 1 where it says nothing. ValueError where
    parts of it disagree."""
    counts = {cond[LAYERS_KEY] for group in conds.values() for cond in group if LAYERS_KEY in cond}
    if len(counts) > 1:
        raise ValueError(f"Conditionings for {' and '.join(map(str, sorted(counts)))} layers meet in one sampling. Give "
                         "all of them the same number of layers.")
    return counts.pop() if counts else 1


def sample_layers(executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor,
                  denoise_mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """Runs around the host's sampling: readies conditioning for layers, and hands back what the noise mask keeps."""
    ready_conditioning(executor.class_obj, noise)
    drawn = executor(noise, latent, sampler, sigmas, denoise_mask, *args, **kwargs)
    if denoise_mask is None or sigmas[-1] > 0:
        return drawn
    # The way through the latent format and back rounds; layers that stay are to come out exactly as they went in.
    return torch.where(denoise_mask.to(drawn.device) == 0, latent.to(drawn), drawn)


def ready_conditioning(guider: Any, noise: Tensor) -> None:
    """Checks that prompts and latent have the same layers, tells conditioning that came from other nodes (a plain
    negative prompt) their number, and hands controls the picture channels alone."""
    model = guider.model_patcher.model
    layers = layers_of(guider.conds)
    if noise.shape[0] % layers:
        raise ValueError(f"The prompts are for {layers} layers, and the latent holds {noise.shape[0]}, which is not a "
                         "whole number of such scenes. Connect the same number of layers to Empty Layered Latent.")
    if noise.shape[1] != model.latent_format.latent_channels:
        raise ValueError(f"The latent has {noise.shape[1]} channels, and this layered MODEL needs "
                         f"{model.latent_format.latent_channels}: picture and mask of each layer. Connect Empty Layered "
                         "Latent or Encode Layers, with the VAE of the same model.")
    if model.layers_trained == 0:
        logging.warning("LayerDiff: this adapter is untrained; the layers will not know of each other and have no masks.")
    elif layers > model.layers_trained:
        logging.warning("LayerDiff: %d layers asked for, and the model was trained with up to %d. Going on.",
                        layers, model.layers_trained)
    channels = model.latent_format.single.latent_channels
    width = model.model_config.unet_config["context_dim"]
    stand_ins: dict[int, PictureControl] = {}
    for group in guider.conds.values():
        for cond in group:
            cond[LAYERS_KEY] = layers
            tokens = cond.get("cross_attn")
            if tokens is not None and tokens.shape[-1] != width:
                raise ValueError(f"The prompts were encoded {tokens.shape[-1]} wide, and this MODEL reads {width}. "
                                 "Encode them with the CLIP of the same model.")
            if "control" in cond:
                control = cond["control"]
                cond["control"] = stand_ins.setdefault(id(control), PictureControl(control, channels))


def copy_patches(source: comfy.model_patcher.ModelPatcher, target: comfy.model_patcher.ModelPatcher) -> None:
    """Carry LoRA patches and model options (attention patches, guidance functions) from one MODEL to another."""
    wrappers = target.wrappers
    target.model_options = copy.deepcopy(source.model_options)
    target.wrappers = {kind: {**source.wrappers.get(kind, {}), **wrappers.get(kind, {})}
                       for kind in source.wrappers.keys() | wrappers.keys()}
    for key, patches in source.patches.items():
        for strength, patch, strength_model, offset, function in patches:
            where = (key, offset, function) if function else (key, offset) if offset else key
            target.add_patches({where: patch}, strength, strength_model)
