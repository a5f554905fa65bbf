import pytest
import torch

from layerdiff_core.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_singular_values_are_brought_to_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.2 and values.max() < 1.3
    assert orthogonal(matrix).shape == shape


def test_steps_as_torchs_own_does_but_for_its_bfloat16():
    start = torch.randn(24, 16, generator=torch.Generator().manual_seed(1))
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    own = Muon([ours], 0.01, torch.float32)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    target = torch.randn(24, 16, generator=torch.Generator().manual_seed(2))
    for _ in range(3):
        for parameter, optimiser in ((ours, own), (theirs, reference)):
            parameter.grad = (parameter - target).detach()
            optimiser.step()
    assert (ours - theirs).abs().max() < 0.02 * (theirs - start).abs().max()
