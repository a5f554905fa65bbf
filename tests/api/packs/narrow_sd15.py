"""A pack for the tests' server alone: ComfyUI's loaders then know SD 1.5 at a tenth of its width, by its checkpoint's shapes."""

from typing import Any

import comfy.sd1_clip
import comfy.supported_models
from comfy.supported_models_base import ClipTarget

WIDTH, CONTEXT = 32, 96
TEXT = {"hidden_size": CONTEXT, "num_attention_heads": 2, "intermediate_size": 2 * CONTEXT, "num_hidden_layers": 2}
NODE_CLASS_MAPPINGS: dict[str, Any] = {}


class NarrowText(comfy.sd1_clip.SD1ClipModel):
    """SD 1.5's text model, narrow."""

    def __init__(self, *args: Any, model_options: dict[str, Any], **kwargs: Any):
        super().__init__(*args, model_options={**model_options, "clip_l_model_config": TEXT}, **kwargs)


class NarrowSD15(comfy.supported_models.SD15):
    """SD 1.5, narrow."""

    unet_config = {**comfy.supported_models.SD15.unet_config, "model_channels": WIDTH, "context_dim": CONTEXT}

    def clip_target(self, state_dict: Any = None) -> ClipTarget:
        return ClipTarget(comfy.sd1_clip.SD1Tokenizer, NarrowText)


comfy.supported_models.models.insert(0, NarrowSD15)
