"""Self-Mask Guidance and keeping given layers, as patches of ComfyUI's sampling."""

from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ...layerdiff_core import guidance
from ...layerdiff_core.autoencoder import Layers
from ...layerdiff_core.keep import keep_known
from .codecs import LayerCodec, StackCodec, codec_for
from .conditioning import LAYERS_KEY
from .latent import StackedLatent
from .model import layered


def mask_ends(model: Any, vae: Any) -> tuple[Tensor, Tensor]:
    """The latents of a black and a white mask as the model sees them: two vectors [C]."""
    single = layered(model).latent_format.single
    unstacked(vae)
    side = 8 * vae.spacial_compression_encode()
    ends = []
    for grey in (0.0, 1.0):
        latent = vae.encode(torch.full((1, side, side, 3), grey))
        if latent.shape[1] != single.latent_channels:
            raise ValueError(f"The VAE has {latent.shape[1]} latent channels, but the model needs {single.latent_channels}. "
                             "Connect the VAE of the same checkpoint.")
        ends.append(single.process_in(latent.float())[0].mean((1, 2)))
    return ends[0], ends[1]


def self_mask_guidance(model: Any, vae: Any, scale: float, blur_sigma: float, start: float, end: float) -> Any:
    """A copy of a layered MODEL, of either family, that samples with Self-Mask Guidance.

    scale: 0 changes nothing. blur_sigma: in latent pixels. start, end: the part of sampling in which it is active, from 0, the
    start, to 1, the end. There it needs one more prediction per step.
    """
    degrade = (stacked_degrader if latent_of(model) else layered_degrader)(model, vae, blur_sigma)
    steers = steering_range(model, start, end)

    def steer(args: dict[str, Any]) -> Tensor:
        x0, sigma = args["denoised"], args["sigma"]
        if scale == 0 or not steers(sigma):
            return x0
        # Without a negative conditioning (BasicGuider), the positive one is used instead.
        conds = args["uncond"] or args["cond"]
        degraded = degrade(x0, conds)
        noised = degraded + args["input"] - x0
        (predicted,) = comfy.samplers.calc_cond_batch(args["model"], [conds], noised, sigma, args["model_options"])
        return x0 + scale * (degraded - predicted)

    patched = model.clone()
    patched.set_model_sampler_post_cfg_function(steer, disable_cfg1_optimization=True)
    return patched


Degrader = Callable[[Tensor, list[dict[str, Any]]], Tensor]


def layered_degrader(model: Any, vae: Any, blur_sigma: float) -> Degrader:
    """Blurs each layer's image inside the layer's own predicted mask."""
    black, white = mask_ends(model, vae)

    def degrade(x0: Tensor, conds: list[dict[str, Any]]) -> Tensor:
        coverage = guidance.coverage_of_latent(x0.chunk(2, dim=1)[1], black, white)
        return guidance.degrade(x0, guidance.guided_region(coverage, conds[0][LAYERS_KEY]), blur_sigma)

    return degrade


def stacked_degrader(model: Any, vae: Any, blur_sigma: float) -> Degrader:
    """Blurs a Text2Layer latent inside the union of its foregrounds, found by the projection to masks stored in the file."""
    stacked(model, vae)
    latent = model.model.latent_format

    def degrade(x0: Tensor, conds: list[dict[str, Any]]) -> Tensor:
        region = guidance.union_of_masks(x0, latent.mask_factors, latent.mask_bias)
        return guidance.blur_inside(x0, region, blur_sigma)

    return degrade


def keep_layers(model: Any, codec: StackCodec, known: Layers, keep: str, start: float, end: float) -> Any:
    """A copy of a Text2Layer MODEL that keeps given layers and generates the others to match.

    codec: that of the MODEL's VAE. known: the layers of one scene, 0..1, padded to a size that it encodes. keep: which of them
    to keep in every generated scene, "background" or "foregrounds". start, end: as in `self_mask_guidance`. It needs one more
    decode and two more encodes per step.
    """
    vae, latent = codec.vae, model.model.latent_format
    network = vae.first_stage_model
    steers = steering_range(model, start, end)
    size = known.background.shape[-2:]

    def decode(z: Tensor) -> Tensor:
        return network.decode(z.to(vae.vae_dtype), all_layers=True).float()

    def encode(x: Tensor) -> Tensor:
        return network.encode(x.to(vae.vae_dtype)).float()

    def steer(args: dict[str, Any]) -> Tensor:
        x0 = args["denoised"]
        drawn = tuple(side * codec.ratio for side in x0.shape[-2:])
        if drawn != tuple(size):
            raise ValueError(f"The layers to keep are {size[1]} x {size[0]} pixels (rounded up to what the model needs), but "
                             f"the latent is for {drawn[1]} x {drawn[0]}. Set Empty Layered Latent to the size of the layers' "
                             "canvas.")
        if not steers(args["sigma"]):
            return x0
        z = latent.process_out(x0.float()).to(vae.device)
        return latent.process_in(z + keep_known(decode, encode, z, known.to(vae.device), keep)).to(x0)

    patched = model.clone()
    patched.set_model_sampler_post_cfg_function(steer)
    patched.set_additional_models("layerdiff_keep", [vae.patcher])  # makes ComfyUI load the VAE along with the model
    return patched


def steering_range(model: Any, start: float, end: float) -> Callable[[Tensor], bool]:
    """A function that tells whether a sigma lies in a part of sampling, from 0, the start, to 1, the end."""
    sampling = model.get_model_object("model_sampling")
    highest, lowest = sampling.percent_to_sigma(start), sampling.percent_to_sigma(end)
    return lambda sigma: lowest <= float(sigma[0]) <= highest


def latent_of(model: Any) -> StackedLatent | None:
    """The latent format of a Text2Layer MODEL; None for any other MODEL."""
    latent = getattr(getattr(model, "model", None), "latent_format", None)
    return latent if isinstance(latent, StackedLatent) else None


def unstacked(vae: Any) -> LayerCodec:
    """The codec of a VAE beside a LayerDiff MODEL. ValueError for a VAE of the other family."""
    codec = codec_for(vae)
    if isinstance(codec, StackCodec):
        raise ValueError("The VAE is from a Text2Layer model, but the MODEL is a LayerDiff model. Connect the VAE of the same "
                         "model.")
    return codec


def stacked(model: Any, vae: Any) -> StackCodec:
    """The codec of a Text2Layer MODEL's VAE. ValueError if the MODEL is not Text2Layer or the VAE is not that model's."""
    latent, codec = latent_of(model), codec_for(vae)
    if latent is None:
        raise ValueError("This MODEL is not a Text2Layer model. Load one with Load Layered Model. For a LayerDiff model, use "
                         "Free Layers instead.")
    wanted = (latent.foregrounds, latent.latent_channels)
    if not isinstance(codec, StackCodec) or (codec.foregrounds, vae.latent_channels) != wanted:
        raise ValueError(f"The VAE does not belong to this Text2Layer MODEL, which needs a VAE with {latent.latent_channels} "
                         f"channels and {latent.foregrounds} foregrounds. Connect the VAE of the same model.")
    return codec
