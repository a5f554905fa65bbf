"""Sampling with Self-Mask Guidance, compared with plain CFG and ComfyUI's Self-Attention Guidance on the same layered model."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from . import models

CANVAS = 128
CFG = 4.0


def sides(pack: ModuleType, steps: int) -> dict[str, Callable[[], Any]]:
    """Three ways to sample one scene of four layers, with the guidance nodes' default settings."""
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    import nodes as host_nodes

    model, vae = models.model_and_vae(pack)
    described = models.architecture(pack)
    side = CANVAS // 8
    latent = {"samples": torch.zeros(models.LAYERS, 2 * described["latent"]["channels"], side, side),
              "layers": models.LAYERS}
    positive = [[models.prompts(described, models.LAYERS), {"layers": models.LAYERS}]]
    negative = [[models.prompts(described, 1), {"layers": models.LAYERS}]]
    sampler = {"seed": 1, "steps": steps, "cfg": CFG, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}

    def sample(of: Any) -> Any:
        return host_nodes.common_ksampler(of, positive=positive, negative=negative, latent=latent, **sampler)

    def cfg() -> Any:
        return sample(model)

    def smg() -> Any:
        node = pack.nodes.sample.LayerDiffSMGKSampler
        defaults = {entry.id: entry.default for entry in pack.nodes.sample.guidance_inputs()}
        return node.execute(model, positive, negative, latent, vae, **sampler, **defaults)

    def sag() -> Any:
        defaults = {entry.id: entry.default for entry in SelfAttentionGuidance.define_schema().inputs[1:]}
        return sample(SelfAttentionGuidance.execute(model, **defaults)[0])

    def quietly(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return work()
        return run

    return {"smg": quietly(smg), "cfg": quietly(cfg), "sag": quietly(sag)}
