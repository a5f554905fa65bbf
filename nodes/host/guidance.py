"""Self-Mask Guidance as a patch of the host's sampling."""

from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ...layerdiff_core import guidance
from .model import LAYERS_KEY, layered


def mask_ends(model: Any, vae: Any) -> tuple[Tensor, Tensor]:
    """The latents of a black and of a white mask, as the model sees them: two vectors [C]."""
    single = layered(model).latent_format.single
    side = 8 * vae.spacial_compression_encode()
    ends = []
    for grey in (0.0, 1.0):
        latent = vae.encode(torch.full((1, side, side, 3), grey))
        if latent.shape[1] != single.latent_channels:
            raise ValueError(f"The VAE has {latent.shape[1]} latent channels, and the model needs {single.latent_channels}. "
                             "Connect the VAE of the same checkpoint.")
        ends.append(single.process_in(latent.float())[0].mean((1, 2)))
    return ends[0], ends[1]


def self_mask_guidance(model: Any, vae: Any, scale: float, blur_sigma: float, start: float, end: float) -> Any:
    """A copy of a layered MODEL that samples with Self-Mask Guidance.

    scale 0 changes nothing; blur_sigma in latent pixels; start and end: the part of sampling, 0 its start and 1 its
    end, in which it steers. One prediction more a step there.
    """
    black, white = mask_ends(model, vae)
    sampling = layered(model).model_sampling
    highest, lowest = sampling.percent_to_sigma(start), sampling.percent_to_sigma(end)

    def steer(args: dict[str, Any]) -> Tensor:
        x0, sigma = args["denoised"], args["sigma"]
        if scale == 0 or not lowest <= float(sigma[0]) <= highest:
            return x0
        # Without a guidance pass (BasicGuider) the prompt itself takes the place of no prompt.
        conds = args["uncond"] or args["cond"]
        coverage = guidance.coverage_of_latent(x0.chunk(2, dim=1)[1], black, white)
        degraded = guidance.degrade(x0, guidance.guided_region(coverage, conds[0][LAYERS_KEY]), blur_sigma)
        noised = degraded + args["input"] - x0
        (predicted,) = comfy.samplers.calc_cond_batch(args["model"], [conds], noised, sigma, args["model_options"])
        return x0 + scale * (degraded - predicted)

    patched = model.clone()
    patched.set_model_sampler_post_cfg_function(steer, disable_cfg1_optimization=True)
    return patched
