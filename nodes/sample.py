"""Nodes that sample with Self-Mask Guidance."""

from typing import Any

import comfy.samplers
from comfy_api.latest import io

import nodes as host_nodes

from .host.guidance import self_mask_guidance


def guidance_inputs() -> list[Any]:
    """What steers Self-Mask Guidance, in both nodes."""
    return [
        io.Float.Input("smg_scale", default=0.5, min=0.0, max=5.0, step=0.05,
                       tooltip="Strength of Self-Mask Guidance. 0 turns it off, 0.3 to 1 is usual; too much over-sharpens."),
        io.Float.Input("blur_sigma", default=1.0, min=0.1, max=10.0, step=0.1, advanced=True,
                       tooltip="How far the picture inside a mask is blurred to steer away from, in latent pixels."),
        io.Float.Input("smg_start", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                       tooltip="Part of sampling at which it begins: 0 is the first step."),
        io.Float.Input("smg_end", default=0.9, min=0.0, max=1.0, step=0.01, advanced=True,
                       tooltip="Part of sampling at which it ends: 1 is the last step."),
    ]


class LayerDiffSelfMaskGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffSelfMaskGuidance",
            display_name="Self-Mask Guidance",
            category="LayerDiff/sample",
            description="Patches a layered model, of either family, so that any sampler steers by the masks that it predicts "
            "itself: crisper objects and cleaner backgrounds behind them, for one more prediction a step.",
            search_aliases=["SMG", "SAG layers", "guidance patch"],
            inputs=[
                io.Model.Input("model", tooltip="A layered model."),
                io.Vae.Input("vae", tooltip="The model's VAE, which shows what black and white masks are as latents."),
                *guidance_inputs(),
            ],
            outputs=[io.Model.Output(tooltip="The model with the guidance on it.")],
        )

    @classmethod
    def execute(cls, model: Any, vae: Any, smg_scale: float, blur_sigma: float, smg_start: float,
                smg_end: float) -> io.NodeOutput:
        return io.NodeOutput(self_mask_guidance(model, vae, smg_scale, blur_sigma, smg_start, smg_end))


class LayerDiffSMGKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffSMGKSampler",
            display_name="SMG KSampler",
            category="LayerDiff/sample",
            description="The host's KSampler with Self-Mask Guidance on the model: all layers of a scene are drawn together.",
            search_aliases=["text to layers", "layered ksampler", "SMG", "sample layers", "layer generation"],
            inputs=[
                io.Model.Input("model", tooltip="A layered model."),
                io.Conditioning.Input("positive", tooltip="The prompts of all layers."),
                io.Conditioning.Input("negative", tooltip="What no layer should show."),
                io.Latent.Input("latent_image", tooltip="An empty layered latent, or one to draw over."),
                io.Vae.Input("vae", tooltip="The model's VAE, which shows what black and white masks are as latents."),
                io.Int.Input("seed", default=1, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="The noise. The same seed and settings give the same layers."),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Steps of denoising. 20 is enough for most."),
                io.Float.Input("cfg", default=2.5, min=0.0, max=100.0, step=0.1,
                               tooltip="Guidance scale: how much the prompts count. 2 to 4 for the starter, 5 to 8 for SD 1.5."),
                io.Combo.Input("sampler_name", options=comfy.samplers.SAMPLER_NAMES, default="euler_ancestral",
                               tooltip="Any of the host's samplers. Those that add noise at each step (ancestral, sde) "
                               "draw firmer shapes."),
                io.Combo.Input("scheduler", options=comfy.samplers.SCHEDULER_NAMES, default="normal",
                               tooltip="How the noise falls from step to step."),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                               tooltip="1 draws anew; less keeps the more of the latent that comes in."),
                *guidance_inputs(),
            ],
            outputs=[io.Latent.Output(tooltip="The layers, for Decode Layers.")],
        )

    @classmethod
    def execute(cls, model: Any, positive: Any, negative: Any, latent_image: dict[str, Any], vae: Any, seed: int,
                steps: int, cfg: float, sampler_name: str, scheduler: str, denoise: float, smg_scale: float,
                blur_sigma: float, smg_start: float, smg_end: float) -> io.NodeOutput:
        guided = self_mask_guidance(model, vae, smg_scale, blur_sigma, smg_start, smg_end)
        return io.NodeOutput(*host_nodes.common_ksampler(guided, seed, steps, cfg, sampler_name, scheduler, positive,
                                                         negative, latent_image, denoise=denoise))


NODES = [LayerDiffSelfMaskGuidance, LayerDiffSMGKSampler]
