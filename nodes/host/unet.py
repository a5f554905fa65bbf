"""The layer-collaborative UNet, an extension of ComfyUI's SD 1.5 UNet."""

from typing import Any

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ...layerdiff_core.attention import InterLayerAttention, index_features
from ...layerdiff_core.position import POSITION_DIM, position_features


def added_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """The dtype of the weights that LayerDiff adds: that of the base UNet, but 16 bits if that has 8, since they are small."""
    return torch.float16 if dtype is not None and dtype.itemsize == 1 else dtype


class LayerCollaborativeBlock(BasicTransformerBlock):
    """ComfyUI's block (self-attention, text-guided intra-layer attention, feed-forward), then inter-layer attention.

    LayerDiff, section 3. Inter-layer attention comes last, so that ComfyUI's block runs unchanged.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int, dtype: Any = None, device: Any = None,
                 operations: Any = None):
        super().__init__(dim, heads, head_dim, context_dim=context_dim, dtype=dtype, device=device, operations=operations)
        self.inter_layer = InterLayerAttention(dim, heads, operations=operations, dtype=added_dtype(dtype), device=device)

    def forward(self, x: Tensor, context: Tensor | None = None, transformer_options: dict = {}) -> Tensor:  # noqa: B006
        x = super().forward(x, context=context, transformer_options=transformer_options)
        return x + self.inter_layer(x, transformer_options["layer_index"])


class LayeredHead(nn.Sequential):
    """ComfyUI's output head (norm, SiLU, convolution) with a second, parallel convolution for the mask channels."""

    def __init__(self, head: nn.Sequential, mask: nn.Module):
        super().__init__(*head)
        self.add_module("mask", mask)

    def forward(self, h: Tensor) -> Tensor:
        norm, activation, picture, mask = self
        h = activation(norm(h))
        return torch.cat([picture(h), mask(h)], dim=1)


class LayerCollaborativeUNet(UNetModel):
    """ComfyUI's UNet over layers, each with an image latent and a mask latent: [scenes * layers, 2C, h, w].

    ComfyUI's own weights keep their names and shapes, so that checkpoints and LoRA files fit. LayerDiff adds `mask_in` and
    `out.mask` (the papers' widened first and last convolution, each written as a second convolution), `inter_layer` in every
    transformer block, and `position`, which adds features of x and y to the first hidden layer (ours; older files lack it).
    """

    def __init__(self, in_channels: int, out_channels: int, context_dim: int, dtype: Any = None, device: Any = None,
                 operations: Any = None, position: bool = False, **config: Any):
        channels = in_channels // 2
        super().__init__(in_channels=channels, out_channels=channels, context_dim=context_dim, dtype=dtype,
                         device=device, operations=operations, **config)
        width, added = self.model_channels, {"dtype": added_dtype(dtype), "device": device}
        self.mask_in = operations.conv_nd(2, channels, width, 3, padding=1, **added)
        self.position = operations.conv_nd(2, POSITION_DIM, width, 1, **added) if position else None
        self.out: LayeredHead = LayeredHead(self.out, operations.conv_nd(2, width, channels, 3, padding=1, **added))
        for transformer in [m for m in self.modules() if isinstance(m, SpatialTransformer)]:
            transformer.transformer_blocks = nn.ModuleList(
                LayerCollaborativeBlock(b.n_heads * b.d_head, b.n_heads, b.d_head, context_dim, dtype=dtype, device=device,
                                        operations=operations)
                for b in transformer.transformer_blocks
            )

    def reset_added_parameters(self) -> None:
        """Initialises LayerDiff's weights so that the base UNet's prediction of the image channels does not change."""
        for name in ("weight", "bias"):
            nn.init.zeros_(getattr(self.mask_in, name))
            nn.init.zeros_(getattr(self.out.mask, name))
            if self.position is not None:
                nn.init.zeros_(getattr(self.position, name))
        for module in self.modules():
            if isinstance(module, InterLayerAttention):
                module.reset_parameters()

    def _forward(self, x: Tensor, timesteps: Any = None, context: Any = None, y: Any = None, control: Any = None,
                 transformer_options: dict = {},  # noqa: B006
                 layers: int = 1, **kwargs: Any) -> Tensor:
        """Called by ComfyUI's `forward` inside the wrappers around the diffusion model, so that these see all channels.

        ValueError if the latents are not whole scenes.
        """
        if len(x) % layers:
            raise ValueError(f"{len(x)} latents reached the UNet at once, which is not a whole number of scenes of {layers} "
                             "layers. Something between the MODEL and the sampler splits the batch, but the layers of a scene "
                             "must be sampled together. Remove it, or sample fewer scenes at once.")
        picture, mask = x.chunk(2, dim=1)
        added = self.mask_in(mask)
        if self.position is not None:
            added = added + self.position(position_features(x.shape[-2], x.shape[-1], x.device, x.dtype))

        def add_features(h: Tensor, options: dict) -> Tensor:
            return h + added if options["block"] == ("input", 0) else h

        patches = dict(transformer_options.get("patches", {}))
        patches["input_block_patch"] = [add_features, *patches.get("input_block_patch", [])]
        index = index_features(layers, x.device, x.dtype)
        options = {**transformer_options, "patches": patches, "layer_index": index}
        return super()._forward(picture, timesteps, context, y, control, options, **kwargs)


def is_added(key: str) -> bool:
    """Whether a key of the UNet's state dict belongs to LayerDiff's weights rather than to the base UNet's."""
    return key.startswith(("mask_in.", "out.mask.", "position.")) or ".inter_layer." in key
