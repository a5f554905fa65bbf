"""The training of a ControlNet that reads boxes: its parts."""

import torch
from torch import nn

from layerdiff_core.training.control import begin_from, spread
from layerdiff_core.training.steer import draw_chosen
from layerdiff_core.world.boxes import box_hints, box_of


def test_boxes_of_what_is_covered_and_back() -> None:
    coverage = torch.zeros(2, 1, 16, 24)
    coverage[0, :, 4:10, 3:20] = 1.0
    coverage[0, :, 3, 3:20] = 0.4
    coverage[1, :, 15, 0] = 0.6
    boxes = box_of(coverage)
    assert torch.allclose(boxes * torch.tensor([24, 16, 24, 16]), torch.tensor([[3.0, 4, 20, 10], [0, 15, 1, 16]]))
    hints = box_hints(boxes, 48)
    assert hints.shape == (2, 3, 48, 48)
    assert (hints[0, :, 12:30, 6:40] == 1).all() and hints[0].sum() == 3 * 18 * 34


def test_the_background_is_never_steered() -> None:
    torch.manual_seed(0)
    chosen = torch.stack([draw_chosen(8, 3, torch.device("cpu")).view(8, 3) for _ in range(20)])
    assert not chosen[..., 0].any() and chosen[..., 1:].any() and not chosen[..., 1:].all()
    assert chosen.flatten(1).any(1).all(), "a batch without a steered layer"


def test_what_a_control_adds_is_spread_over_its_rows() -> None:
    part = torch.randn(2, 3, 4, 4, requires_grad=True)
    (every,) = spread({"output": [part]}, torch.tensor([False, True, False, True]))["output"]
    assert torch.equal(every[[1, 3]], part) and not every[[0, 2]].any()
    every.sum().backward()
    assert part.grad is not None and (part.grad == 1).all()


def test_it_begins_with_the_unets_weights_and_adds_nothing() -> None:
    def network() -> nn.Module:
        parts = nn.Module()
        parts.input_blocks = nn.Sequential(nn.Conv2d(2, 3, 1))
        parts.zero_convs, parts.middle_block_out = nn.Sequential(nn.Conv2d(3, 3, 1)), nn.Sequential(nn.Conv2d(3, 3, 1))
        parts.input_hint_block = nn.Sequential(nn.Conv2d(3, 2, 1), nn.SiLU(), nn.Conv2d(2, 3, 1))
        return parts

    control, unet = network(), nn.Module()
    unet.input_blocks = nn.Sequential(nn.Conv2d(2, 3, 1))
    begin_from(control, unet)
    assert torch.equal(control.input_blocks[0].weight, unet.input_blocks[0].weight)
    for part in (control.zero_convs[0], control.middle_block_out[0], control.input_hint_block[2]):
        assert not part.weight.any() and not part.bias.any()
    assert control.input_hint_block[0].weight.any()
