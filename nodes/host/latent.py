"""The layered latent formats: image and mask channels, with the same scaling, and a live preview that shows every layer."""

import torch
from comfy import latent_formats
from torch import Tensor

COLUMNS = 8


class LayeredLatent(latent_formats.LatentFormat):
    """Wraps the VAE's latent format: twice as many channels, with the VAE's scaling applied to each half."""

    def __init__(self, single: latent_formats.LatentFormat):
        self.single = single
        self.latent_channels = 2 * single.latent_channels
        self.latent_rgb_factors = single.latent_rgb_factors
        self.latent_rgb_factors_bias = single.latent_rgb_factors_bias
        self.latent_rgb_factors_reshape = preview_grid

    def process_in(self, latent: Tensor) -> Tensor:
        return torch.cat([self.single.process_in(half) for half in latent.chunk(2, dim=1)], dim=1)

    def process_out(self, latent: Tensor) -> Tensor:
        return torch.cat([self.single.process_out(half) for half in latent.chunk(2, dim=1)], dim=1)


class MeasuredLatent(latent_formats.LatentFormat):
    """The latent format of a starter's VAE: the mean and standard deviation of each channel, measured and stored in the file."""

    def __init__(self, facts: dict):
        self.latent_channels = facts["channels"]
        self.mean = torch.tensor(facts["mean"]).view(1, self.latent_channels, 1, 1)
        self.std = torch.tensor(facts["std"]).view(1, self.latent_channels, 1, 1)
        self.latent_rgb_factors = facts["rgb_factors"]
        self.latent_rgb_factors_bias = facts["rgb_bias"]

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent - self.mean.to(latent)) / self.std.to(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        return latent * self.std.to(latent) + self.mean.to(latent)


class StackedLatent(MeasuredLatent):
    """The latent format of Text2Layer: one latent holds all layers of a scene. The file also stores a linear map to the
    foregrounds' masks, fitted like the one to the preview's colours: factors [C, N] and bias [N]."""

    def __init__(self, facts: dict, foregrounds: int):
        super().__init__(facts)
        self.foregrounds = foregrounds
        self.mask_factors = torch.tensor(facts["mask_factors"]).view(self.latent_channels, foregrounds)
        self.mask_bias = torch.tensor(facts["mask_bias"]).view(foregrounds)


def preview_grid(x0: Tensor) -> Tensor:
    """All layers side by side with their masks below: [N, 2C, h, w] -> [1, C, rows, columns], for ComfyUI's preview."""
    picture, mask = x0.chunk(2, dim=1)
    rows = []
    for start in range(0, len(x0), COLUMNS):
        for half in (picture, mask):
            part = half[start : start + COLUMNS]
            row = torch.cat(list(part), dim=2)
            rows.append(torch.nn.functional.pad(row, (0, (min(COLUMNS, len(x0)) - len(part)) * x0.shape[-1])))
    return torch.cat(rows, dim=1)[None]


def frames_grid(x0: Tensor, frames: int) -> Tensor:
    """The frames of each scene side by side, and small scenes beside each other: [N, C, h, w] -> [1, C, rows, columns], for
    ComfyUI's preview."""
    columns = frames * max(1, min(COLUMNS // frames, len(x0) // frames))
    rows = [torch.cat(list(row), dim=2) for row in x0.split(columns)]
    return torch.cat([torch.nn.functional.pad(row, (0, rows[0].shape[2] - row.shape[2])) for row in rows], dim=1)[None]
