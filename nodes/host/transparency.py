"""LayerDiffuse's transparent decoder, loaded and run as ComfyUI manages memory."""

from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...layerdiff_core import published
from ...layerdiff_core.transparent_decoder import LATENT_CHANNELS, RATIO, TransparentDecoder, decode_transparency
from . import networks

TILE, OVERLAP = 512, 128
BYTES_PER_PIXEL = 1500
"""Memory that the network takes for each pixel in float32, beside its weights. 1,400 were measured on a CPU (`dev.py bench`)."""


class Transparency(NamedTuple):
    """A loaded transparent decoder: its model patcher, the dtype it computes in, and the number of views it averages."""

    patcher: Any
    dtype: torch.dtype
    views: int

    def decode(self, pictures: Tensor, latents: Tensor) -> Tensor:
        """Coverage and colours [N, 4, H, W] of images [N, 3, H, W] and latents [N, 4, H / 8, W / 8]. Shows its progress. If
        memory is short, the rest is decoded in tiles."""
        progress, tiles = comfy.utils.ProgressBar(len(pictures) * self.views), False
        device = self.patcher.load_device
        need = BYTES_PER_PIXEL * pictures[0, 0].numel() * self.dtype.itemsize // 4
        comfy.model_management.load_models_gpu([self.patcher], memory_required=need)

        def network(picture: Tensor, latent: Tensor) -> Tensor:
            return self.patcher.model(*(part.to(device, self.dtype) for part in (picture, latent))).float().cpu()

        def in_tiles(picture: Tensor, latent: Tensor) -> Tensor:
            both = torch.cat([picture, interpolate(latent, scale_factor=RATIO, mode="nearest")], dim=1)
            return comfy.utils.tiled_scale(both, lambda tile: network(tile[:, :3], tile[:, 3:, ::RATIO, ::RATIO]), TILE, TILE,
                                           OVERLAP, 1, LATENT_CHANNELS)

        def whole_or_tiles(picture: Tensor, latent: Tensor) -> Tensor:
            nonlocal tiles
            if not tiles:
                try:
                    return network(picture, latent)
                except Exception as error:
                    comfy.model_management.raise_non_oom(error)
                    tiles = True
                # Outside of the exception, which holds the tensors that did not fit.
                comfy.model_management.soft_empty_cache()
            return in_tiles(picture, latent)

        def after_view() -> None:
            progress.update(1)
            comfy.model_management.throw_exception_if_processing_interrupted()

        return torch.cat([decode_transparency(whole_or_tiles, picture[None], latent[None], self.views, after_view)
                          for picture, latent in zip(pictures.cpu().float(), latents.cpu().float())])


def load_transparency(path: Path, views: int, device: torch.device) -> Transparency:
    """Loads the transparent decoder of a file for a device. ValueError if the file is not one."""
    outline = published.outline(path)
    if "latent_conv_in.weight" not in outline:
        raise ValueError(f"{path.name} is not a transparent decoder. Choose layer_sd15_vae_transparent_decoder.safetensors.")
    what = f"{path.name}, transparent decoder"
    networks.check_weights(what, lambda: TransparentDecoder(networks.PLAIN), outline)
    # Half precision takes 19 times as long on a CPU.
    on_cpu = comfy.model_management.is_device_cpu(device)
    dtype = torch.float32 if on_cpu else comfy.model_management.vae_dtype(device, [torch.float16])
    network = networks.build(what, lambda: TransparentDecoder(networks.PLAIN), published.read(path), dtype)
    patcher = comfy.model_patcher.CoreModelPatcher(network, device, comfy.model_management.vae_offload_device())
    return Transparency(patcher, dtype, views)
