"""Boxes around the objects of layers, and images of such boxes."""

import torch
from torch import Tensor


def box_of(coverage: Tensor) -> Tensor:
    """[N, 1, H, W] in 0..1 -> the boxes [N, 4] around all pixels with a coverage of 0.5 or more: left, top, right, bottom."""
    there = coverage[:, 0] >= 0.5
    edges = []
    for axis, side in ((1, there.shape[2]), (2, there.shape[1])):
        line = there.any(axis)
        first = line.float().argmax(-1)
        last = side - line.flip(-1).float().argmax(-1)
        edges.append((first / side, last / side))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], dim=-1)


def box_hints(boxes: Tensor, side: int) -> Tensor:
    """Boxes [N, 4], left, top, right and bottom in 0..1 -> images [N, 3, side, side], white inside on black."""
    middle = (torch.arange(side, device=boxes.device) + 0.5) / side
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    across, down = (middle >= left) & (middle < right), (middle >= top) & (middle < bottom)
    return (down[:, :, None] & across[:, None, :]).float()[:, None].expand(-1, 3, -1, -1)
