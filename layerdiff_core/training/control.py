"""Trains a ControlNet of a layered model: a white box on black shows where a layer's object should be."""

from typing import Any

from torch import Tensor, nn

from .layerdiff import Batch, LayerDiff, plain_attention
from .steer import steered_loss

GLOBAL_DROPPED = 0.6
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


def control_loss(model: LayerDiff, control: nn.Module, x0: Tensor, coverage: Tensor, hints: Tensor, chosen: Tensor,
                 batch: Batch, empty: Tensor, alphas: Tensor, prediction: str) -> Tensor:
    """`steered_loss` with hints for the chosen layers (ControlNet, Zhang et al. 2023). hints [N, 3, H, W], one per layer.

    The control runs on the rows of the chosen layers alone, as in ComfyUI. The global prompt, which also says where objects are,
    is dropped more often than not (ours).
    """

    def predict(noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        added = control(noisy.chunk(2, dim=1)[0][chosen], hints[chosen], timestep[chosen], context[chosen])
        return model.unet(noisy, timestep, context, control=spread(added, chosen), layers=batch.layers,
                          transformer_options={"optimized_attention_override": plain_attention})

    return steered_loss(predict, model, x0, coverage, chosen, batch, empty, alphas, prediction, GLOBAL_DROPPED, PURE_NOISE)


def spread(added: dict[str, list[Tensor]], chosen: Tensor) -> dict[str, list[Any]]:
    """Expands what a control adds to the chosen rows to all rows, with zeros in the others."""
    return {place: [part.new_zeros(len(chosen), *part.shape[1:]).index_put((chosen.nonzero()[:, 0],), part) for part in parts]
            for place, parts in added.items()}
