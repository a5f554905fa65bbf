"""Muon, the optimiser for matrices (Jordan et al. 2024), in the precision that is fast on the device."""

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
MOMENTUM, WEIGHT_DECAY, EPSILON = 0.95, 0.01, 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum steps with all singular values at about 1, scaled to AdamW's step (Liu et al. 2025).

    Used instead of torch's own, which always works in bfloat16. On a CPU that has to emulate bfloat16 this took three quarters
    of a training step. dtype: that of the iteration. All parameters must be matrices.
    """

    def __init__(self, parameters: Iterable[Tensor], rate: float, dtype: torch.dtype):
        super().__init__(parameters, {"lr": rate})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one optimisation step. Parameters without a gradient are unchanged."""
        for group in self.param_groups:
            rate = group["lr"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - MOMENTUM)
                direction = orthogonal(parameter.grad.lerp(momentum, MOMENTUM).to(self.dtype)).to(parameter.dtype)
                parameter.mul_(1 - rate * WEIGHT_DECAY)
                parameter.add_(direction, alpha=-rate * 0.2 * max(parameter.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought to about 0.7 to 1.2, by five Newton-Schulz steps."""
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp_min(EPSILON)
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x
