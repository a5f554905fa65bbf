"""A layered model as an ordinary MODEL of ComfyUI: its class, and the one wrapper that layers need."""

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

from .control import PictureControl
from .unet import LayerCollaborativeUNet
from .words import ENCODER_KEY, TextEncoder, check_words

LAYERS_KEY = "layers"
WRAPPER_KEY = "layerdiff"


class LayeredModel(comfy.model_base.BaseModel):
    """ComfyUI's model with the layer-collaborative UNet. `layers_trained`: 0 where nothing was trained. `text_encoder`: the
    one of its file, None where it is for the base's."""

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
    """ComfyUI's configuration of an SD 1.5 model with a UNet of these arguments, over latents of this format."""
    config = comfy.supported_models.SD15(unet_config)
    # SD 1.5 would set its own number of attention heads.
    config.unet_config = unet_config
    return over_latents(config, latent)


def over_latents(config: comfy.supported_models.SD15, latent: comfy.latent_formats.LatentFormat) -> Any:
    """A copy of a model's configuration, all else as it is, for latents of another format."""
    changed = type(config)(config.unet_config)
    vars(changed).update(vars(config))
    channels = latent.latent_channels
    changed.unet_config = {**config.unet_config, "in_channels": channels, "out_channels": channels}
    changed.latent_format = latent
    return changed


def patcher_for(model: comfy.model_base.BaseModel, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The MODEL socket's object; disable_dynamic: without DynamicVRAM even where ComfyUI has it on."""
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    return kind(model, load_device=comfy.model_management.get_torch_device(),
                offload_device=comfy.model_management.unet_offload_device())


def ready_layers(patcher: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Put the wrapper on a MODEL that readies conditioning for layers."""
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, sample_layers)
    return patcher


def load_weights(patcher: comfy.model_patcher.ModelPatcher, weights: dict[str, Tensor]) -> None:
    """Give a MODEL's UNet all its weights.

    A dynamic patcher takes them as they are, without a copy, and casts them on the way to the GPU. For every other one
    they are copied in the model's own type: ComfyUI's lazy layers would keep the type of the file. RuntimeError where a
    key is missing or left over.
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
    """The number of layers that the conditioning of a sampling of `count` latents speaks of.

    Prompts that say nothing of layers are for one layer. ValueError where parts of the conditioning disagree, and where
    plain prompts meet several latents: they would be drawn as unrelated pictures.
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
    """Runs around ComfyUI's sampling: readies conditioning for layers, and hands back what the noise mask keeps."""
    ready_conditioning(executor.class_obj, noise)
    # Asked before: ComfyUI's uni_pc writes into the sigmas.
    unfinished = bool(sigmas[-1] > 0)
    drawn = executor(noise, latent, sampler, sigmas, denoise_mask, *args, **kwargs)
    if denoise_mask is None or unfinished:
        return drawn
    # The way through the latent format and back rounds; layers that stay are to come out exactly as they went in.
    return torch.where(denoise_mask.to(drawn.device) == 0, latent.to(drawn), drawn)


def ready_conditioning(guider: Any, noise: Tensor) -> None:
    """Checks that prompts and latent have the same layers, tells conditioning that came from other nodes (a plain
    negative prompt) their number, and hands controls the picture channels alone."""
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
    stand_ins: dict[int, PictureControl] = {}
    for group in guider.conds.values():
        for cond in group:
            cond[LAYERS_KEY] = layers
            tokens = cond.get("cross_attn")
            if tokens is not None and tokens.shape[-1] != width:
                raise ValueError(f"The prompts were encoded with width {tokens.shape[-1]}, but this MODEL needs {width}. Encode "
                                 "them with the CLIP of the same model.")
            check_words(cond.get(ENCODER_KEY), model.text_encoder, "this MODEL")
            check_areas(cond, noise)
            if "control" in cond:
                control = cond["control"]
                cond["control"] = stand_ins.setdefault(id(control), PictureControl(control, channels))


def check_pictures(noise: Tensor) -> None:
    """ValueError for a LATENT of video or sound, and for one of nothing."""
    if noise.ndim != 4:
        raise ValueError(f"The latent has the shape {list(noise.shape)}, like one of video or audio, but a layered MODEL "
                         "generates images. Connect Empty Layered Latent or Encode Layers.")
    if 0 in noise.shape:
        raise ValueError(f"The latent is empty. Its shape is {list(noise.shape)}. Check the node that scaled or cropped it.")


def check_areas(cond: dict[str, Any], noise: Tensor) -> None:
    """ValueError for a prompt whose area lies outside the image, or whose mask has no pixels."""
    if "mask" in cond and 0 in cond["mask"].shape:
        raise ValueError("The mask of a prompt has no pixels. Check the node that created or cropped it.")
    area = cond.get("area")
    if area is None or isinstance(area[0], str) and not any(start >= 1 for start in area[-2:]):
        return
    if isinstance(area[0], str) or any(start >= side for start, side in zip(area[-2:], noise.shape[2:])):
        raise ValueError("The area of a prompt is outside the image. Check x and y in Conditioning (Set Area), or use a larger "
                         "image.")


def check_windows(options: dict[str, Any], count: int, layers: int) -> None:
    """ValueError for context windows that would cut a batch of `count` latents apart: a scene's layers belong together."""
    handler = options.get("context_handler")
    # Handlers of other packs are no less welcome to leave scenes whole; the UNet notices where they do not.
    if isinstance(handler, comfy.context_windows.IndexListContextHandler) and handler.dim == 0 and handler.context_length < count:
        raise ValueError(f"Context windows of {handler.context_length} would split this batch of {count}, but the {layers} "
                         "layers of a scene must be sampled together. Remove the context windows from the MODEL, or sample "
                         "fewer scenes at once.")
