"""Text2Layer in ComfyUI: CaT2I-AE as the network of a VAE, and the wrapper around its MODEL's sampling."""

from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
from torch import Tensor

from ...layerdiff_core.autoencoder import CompositionAutoencoder
from .conditioning import LAYERS_KEY
from .model import check_areas, check_pictures
from .words import ENCODER_KEY, check_words

STACKED_KEY = "stacked_layers"
"""Key in a LATENT of this family: the number of layers in each latent."""

WRAPPER_KEY = "text2layer"


class ComposedAutoencoder(CompositionAutoencoder):
    """CaT2I-AE as the network of a ComfyUI VAE. `decode` returns the composed image of the I head, so that ComfyUI's own nodes
    can decode; with all_layers it returns the outputs of all heads."""

    def encode(self, x: Tensor) -> Tensor:
        channels = 3 + 4 * self.foregrounds
        if x.shape[1] != channels:
            raise ValueError(f"A Text2Layer VAE encodes layers ({channels} channels in total), but got an image with "
                             f"{x.shape[1]} channels. Use Encode Layers.")
        return super().encode(x)

    def decode(self, z: Tensor, all_layers: bool = False) -> Tensor:
        channels = self.post_quant_conv.in_channels
        if z.shape[1] != channels:
            raise ValueError(f"This Text2Layer VAE decodes latents with {channels} channels, but got one with {z.shape[1]}. "
                             "Connect a latent of the same model.")
        found = super().decode(z)
        return found if all_layers else found[:, -3:]


def ready_scenes(patcher: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Adds the sampling wrapper that checks conditioning and latent to a MODEL. Returns the same patcher."""
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, check_sampling)
    return patcher


def check_sampling(executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Wraps ComfyUI's sampling: ValueError for latents and conditioning that are for LayerDiff or for plain images."""
    model = executor.class_obj.model_patcher.model
    channels, width = model.latent_format.latent_channels, model.model_config.unet_config["context_dim"]
    check_pictures(noise)
    if noise.shape[1] != channels:
        raise ValueError(f"The latent has {noise.shape[1]} channels, but this Text2Layer MODEL needs {channels}. Connect Empty "
                         "Layered Latent or Encode Layers, with the VAE of the same model.")
    for cond in (cond for group in executor.class_obj.conds.values() for cond in group):
        tokens = cond.get("cross_attn")
        if LAYERS_KEY in cond:
            raise ValueError("These prompts are for single layers, as LayerDiff needs them. A Text2Layer MODEL takes one prompt "
                             "for the whole image. Encode it with CLIP Text Encode.")
        if tokens is not None and tokens.shape[-1] != width:
            raise ValueError(f"The prompt was encoded with width {tokens.shape[-1]}, but this MODEL needs {width}. Encode it "
                             "with the CLIP of the same model.")
        check_words(cond.get(ENCODER_KEY), getattr(model, "text_encoder", None), "this MODEL")
        check_areas(cond, noise)
        if "control" in cond:
            raise ValueError("ControlNet does not work with a Text2Layer MODEL, whose latent holds all layers of a scene. Use a "
                             "LayerDiff MODEL instead.")
    return executor(noise, *args, **kwargs)
