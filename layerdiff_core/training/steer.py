"""The training of small networks that steer some layers of a frozen layered model: ControlNets and LoRAs."""

from collections.abc import Callable

import torch
from torch import Tensor

from . import diffusion
from .layerdiff import Batch, LayerDiff, channel_weight, context_with_drops

CHOSEN = 0.7
PROMPTS_DROPPED = 0.1


def draw_chosen(count: int, layers: int, device: torch.device) -> Tensor:
    """The layers of a batch of scenes that are steered, [count * layers]: never the background, and at least one per batch."""
    chosen = torch.rand(count, layers, device=device) < CHOSEN
    chosen[:, 0] = False
    chosen[0, layers - 1] = layers > 1
    return chosen.flatten()


def steered_loss(predict: Callable[[Tensor, Tensor, Tensor], Tensor], model: LayerDiff, x0: Tensor, coverage: Tensor,
                 chosen: Tensor, batch: Batch, empty: Tensor, alphas: Tensor, prediction: str, global_dropped: float,
                 pure_noise: float) -> Tensor:
    """The ordinary denoising loss over scenes in which some layers are steered. Only these count, since no others can change
    (ours).

    predict: from noisy latents [N, 2C, h, w], timesteps [N] and context [N, T, dim] to the frozen model's steered prediction.
    x0 [N, 2C, h, w] normalised, layers innermost; coverage [N, 1, h, w]; chosen [N], the steered layers. empty [T]: the rows of
    the empty prompt. global_dropped: the share of scenes without the global prompt. pure_noise: the share from pure noise.
    """
    with torch.no_grad():
        context = context_with_drops(model, batch, empty, PROMPTS_DROPPED, global_dropped)
        timestep, alpha_bar = (each.repeat_interleave(batch.layers)
                               for each in diffusion.draw_timesteps(len(batch.place), alphas, pure_noise))
        noise = torch.randn_like(x0)
        noisy = diffusion.add_noise(x0, noise, alpha_bar)
    predicted = predict(noisy, timestep.float(), context)
    wanted = diffusion.target(x0, noise, alpha_bar, prediction)
    weight = channel_weight(x0, coverage)
    return diffusion.loss((predicted.float() * weight)[chosen], (wanted * weight)[chosen], alpha_bar[chosen], prediction).mean()
