"""Trains a ControlNet of a layered model: a white box on black shows where a layer's object should be."""

from typing import Any

import torch
from torch import Tensor, nn

from . import diffusion
from .layerdiff import Batch, LayerDiff, channel_weight, context_with_drops, plain_attention

HINTED = 0.7
GLOBAL_DROPPED = 0.6
PROMPTS_DROPPED = 0.1
PURE_NOISE = 0.4


def begin_from(control: nn.Module, unet: nn.Module) -> None:
    """Initialise a ControlNet of ComfyUI's class as in the paper (Zhang et al. 2023): with the UNet's weights for the parts that
    both have, and with an output of zero."""
    own = control.state_dict()
    fitting = {key: value for key, value in unet.state_dict().items() if key in own and own[key].shape == value.shape}
    control.load_state_dict(fitting, strict=False)
    ends = [part for name, part in control.named_modules() if name.startswith(("zero_convs.", "middle_block_out."))]
    for part in (*ends, list(control.get_submodule("input_hint_block").children())[-1]):
        if isinstance(part, nn.Conv2d):
            for values in part.parameters():
                nn.init.zeros_(values)


def box_hints(boxes: Tensor, side: int) -> Tensor:
    """Boxes [N, 4], left, top, right and bottom in 0..1 -> images [N, 3, side, side], white inside on black."""
    middle = (torch.arange(side, device=boxes.device) + 0.5) / side
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    across, down = (middle >= left) & (middle < right), (middle >= top) & (middle < bottom)
    return (down[:, :, None] & across[:, None, :]).float()[:, None].expand(-1, 3, -1, -1)


def draw_hinted(count: int, layers: int, device: torch.device) -> Tensor:
    """The layers of a batch of scenes that get a hint, [count * layers]: never the background, and at least one per batch."""
    chosen = torch.rand(count, layers, device=device) < HINTED
    chosen[:, 0] = False
    chosen[0, layers - 1] = layers > 1
    return chosen.flatten()


def control_loss(model: LayerDiff, control: nn.Module, x0: Tensor, coverage: Tensor, hints: Tensor, chosen: Tensor,
                 batch: Batch, empty: Tensor, alphas: Tensor, prediction: str) -> Tensor:
    """The denoising loss of the frozen model over scenes in which some layers have a hint (ControlNet, Zhang et al. 2023).

    x0 [N, 2C, h, w] normalised, layers innermost; coverage [N, 1, h, w]; hints [N, 3, H, W]; chosen [N], the layers whose hint
    counts: the control runs on their rows alone, as in ComfyUI. The global prompt, which also says where objects are, is
    dropped more often than not, and the loss counts the hinted rows, since no others can change (ours). empty [T]: the rows of
    the empty prompt.
    """
    layers = batch.layers
    with torch.no_grad():
        context = context_with_drops(model, batch, empty, PROMPTS_DROPPED, GLOBAL_DROPPED)
        timestep, alpha_bar = (each.repeat_interleave(layers)
                               for each in diffusion.draw_timesteps(len(batch.place), alphas, PURE_NOISE))
        noise = torch.randn_like(x0)
        noisy = diffusion.add_noise(x0, noise, alpha_bar)
    added = control(noisy.chunk(2, dim=1)[0][chosen], hints[chosen], timestep[chosen].float(), context[chosen])
    predicted = model.unet(noisy, timestep.float(), context, control=spread(added, chosen), layers=layers,
                           transformer_options={"optimized_attention_override": plain_attention})
    wanted = diffusion.target(x0, noise, alpha_bar, prediction)
    weight = channel_weight(x0, coverage)
    rows = diffusion.loss((predicted.float() * weight)[chosen], (wanted * weight)[chosen], alpha_bar[chosen], prediction)
    return rows.mean()


def spread(added: dict[str, list[Tensor]], chosen: Tensor) -> dict[str, list[Any]]:
    """Expands what a control adds to the chosen rows to all rows, with zeros in the others."""
    return {place: [part.new_zeros(len(chosen), *part.shape[1:]).index_put((chosen.nonzero()[:, 0],), part) for part in parts]
            for place, parts in added.items()}
