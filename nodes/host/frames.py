"""Prepares prompts, latents and previews for sampling the frames of LayerDiffuse."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...layerdiff_core.layerdiffuse import BLENDED, Kind
from ...layerdiff_core.prompts import same_length
from ...layerdiff_core.transparent_decoder import LATENT_CHANNELS, RATIO
from .conditioning import LAYERS_KEY, OPTIONS_KEY
from .latent import frames_grid
from .model import WHOLE_KEY, check_areas, check_pictures, check_windows
from .words import ENCODER_KEY, check_words

Callback = Callable[[int, Tensor, Tensor, int], Any]
"""What ComfyUI calls after each step: the step, the prediction, the noisy latents, and the number of steps."""


class FrameSampling:
    """Wrapper around ComfyUI's sampling: gives each frame its prompt, shows all frames in the preview, and restores what the
    noise mask protects.

    image: the given layer's, [1, 3, H, W], None if there is none.
    """

    def __init__(self, kind: Kind, image: Tensor | None):
        self.kind, self.image = kind, image

    def __call__(self, executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor,
                 denoise_mask: Tensor | None = None, callback: Callback | None = None, *args: Any, **kwargs: Any) -> Tensor:
        guider = executor.class_obj
        self.check_latent(noise)
        check_windows(guider.model_options, len(noise), len(self.kind.frames))
        config = guider.model_patcher.model.model_config.unet_config
        for cond in (cond for group in guider.conds.values() for cond in group):
            if cond.get(OPTIONS_KEY):
                raise ValueError("Masks, areas, strengths and timestep ranges of single layers do not work with LayerDiffuse. "
                                 "Use the same ones on all layers, after Stack Layer Conditioning.")
            self.ready_prompts(cond, config["context_dim"], len(noise))
            if config.get("adm_in_channels") is not None and cond.get("pooled_output") is None:
                raise ValueError("A prompt has no pooled output, which SDXL needs. Encode it with the CLIP of the checkpoint, in "
                                 "CLIP Text Encode or Encode Layer Prompts.")
            check_words(cond.get(ENCODER_KEY), None, "this MODEL")
            check_areas(cond, noise)
            if self.image is not None and "area" in cond:
                raise ValueError("Conditioning (Set Area) does not work together with a given layer. Use Conditioning (Set "
                                 "Mask).")
        if callback is not None:
            callback = with_all_frames(callback, len(self.kind.frames))
        drawn = executor(noise, latent, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        if denoise_mask is None or sigmas[-1] > 0:
            return drawn
        # Converting to the latent format and back rounds, but protected parts must come out exactly as they went in.
        return torch.where(denoise_mask.to(drawn.device) == 0, latent.to(drawn), drawn)

    def check_latent(self, noise: Tensor) -> None:
        """ValueError if the latents are not whole scenes of images, or differ in size from the given layer."""
        frames = self.kind.frames
        check_pictures(noise)
        if noise.shape[1] != LATENT_CHANNELS:
            raise ValueError(f"The latent has {noise.shape[1]} channels, but LayerDiffuse needs {LATENT_CHANNELS}. Connect Empty "
                             "Layered Latent with the VAE from Apply LayerDiffuse.")
        if len(noise) % len(frames):
            raise ValueError(f"This MODEL generates {len(frames)} frames at once ({', '.join(frames)}), but the latent holds "
                             f"{len(noise)}. Connect Empty Layered Latent with the VAE from Apply LayerDiffuse, or set a batch "
                             f"size that is a multiple of {len(frames)}.")
        if self.image is not None and tuple(self.image.shape[2:]) != tuple(side * RATIO for side in noise.shape[2:]):
            size = " x ".join(str(side * RATIO) for side in reversed(noise.shape[2:]))
            raise ValueError(f"The given {self.kind.given} has {self.image.shape[3]} x {self.image.shape[2]} pixels, but the "
                             f"latent is for {size}. Use the same size: leave width and height of Empty Layered Latent at 0.")

    def ready_prompts(self, cond: dict[str, Any], width: int, rows: int) -> None:
        """Gives a conditioning one prompt per frame, in the frames' order. A single prompt applies to all frames. ValueError if
        there are too many or too few for `rows` latents, or they are for another model."""
        frames, tokens, whole = self.kind.frames, cond.get("cross_attn"), cond.pop(WHOLE_KEY, None)
        if tokens is None:
            return
        if tokens.shape[-1] != width:
            raise ValueError(f"The prompts were encoded with width {tokens.shape[-1]}, but this MODEL needs {width}. Encode them "
                             "with the CLIP of the same checkpoint.")
        layers = cond.get(LAYERS_KEY)
        found = max(len(tokens), layers or 0) + (whole is not None)
        if self.kind.free and whole is None:
            if rows % found:
                raise ValueError(f"The sampler got {found} prompts, but the latent holds {rows} images. Use one prompt for each "
                                 "layer: connect layers to Empty Layered Latent.")
            return
        if len(tokens) == 1 and whole is None and layers in (None, len(self.kind.drawn), len(frames)):
            return
        if found != len(frames):
            hint = " The prompt of the blended frame is the global prompt of Encode Layer Prompts, or the last conditioning of " \
                   "Stack Layer Conditioning." if BLENDED in frames[1:] else " Leave the global prompt empty."
            raise ValueError(f"The sampler got {found} prompts, but this MODEL generates {len(frames)} frames: "
                             f"{', '.join(frames)}. Encode one prompt for each.{hint}")
        if whole is not None:
            cond["cross_attn"] = torch.cat(same_length([tokens, whole.to(tokens)]))


def with_all_frames(callback: Callback, frames: int) -> Callback:
    """A callback that shows all frames of all scenes, where ComfyUI's preview shows the first latent of a batch."""

    def called(step: int, x0: Tensor, x: Tensor, steps: int) -> Any:
        shown = frames_grid(x0, frames)
        result = callback(step, shown, x, steps)
        # SamplerCustomAdvanced keeps this tensor as its denoised output, which has to be the frames themselves.
        shown.data = x0
        return result

    return called
