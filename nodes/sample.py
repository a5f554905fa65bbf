"""Nodes that sample with Self-Mask Guidance."""

from typing import Any

from comfy_api.latest import io

import nodes as host_nodes

from .host.guidance import self_mask_guidance
from .inputs import check_limits, sampling_inputs


def guidance_inputs() -> list[Any]:
    """The inputs for Self-Mask Guidance, used by both nodes."""
    return [
        io.Float.Input("smg_scale", default=0.5, min=0.0, max=5.0, step=0.05,
                       tooltip="Strength of Self-Mask Guidance. 0 turns it off. Typical values are 0.3 to 1; high values "
                       "over-sharpen."),
        io.Float.Input("blur_sigma", default=1.0, min=0.1, max=10.0, step=0.1, advanced=True,
                       tooltip="Strength of the blur that the guidance steers away from, in latent pixels."),
        io.Float.Input("smg_start", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                       tooltip="When to start the guidance, as a fraction of the sampling steps. 0 is the first step."),
        io.Float.Input("smg_end", default=0.9, min=0.0, max=1.0, step=0.01, advanced=True,
                       tooltip="When to stop the guidance, as a fraction of the sampling steps. 1 is the last step."),
    ]


class LayerDiffSelfMaskGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffSelfMaskGuidance",
            display_name="Self-Mask Guidance",
            category="LayerDiff/sample",
            description="Patches a LayerDiff or Text2Layer model to guide sampling by the masks it predicts itself. Objects "
            "get crisper and the background behind them cleaner, at the cost of one more model evaluation per step.",
            search_aliases=["SMG", "SAG layers", "guidance patch"],
            inputs=[
                io.Model.Input("model", tooltip="A layered model."),
                io.Vae.Input("vae", tooltip="The model's VAE, to encode a black and a white mask."),
                *guidance_inputs(),
            ],
            outputs=[io.Model.Output(tooltip="The patched model.")],
        )

    @classmethod
    def execute(cls, model: Any, vae: Any, smg_scale: float, blur_sigma: float, smg_start: float,
                smg_end: float) -> io.NodeOutput:
        check_limits(cls, smg_scale=smg_scale, blur_sigma=blur_sigma, smg_start=smg_start, smg_end=smg_end)
        return io.NodeOutput(self_mask_guidance(model, vae, smg_scale, blur_sigma, smg_start, smg_end))


class LayerDiffSMGKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffSMGKSampler",
            display_name="SMG KSampler",
            category="LayerDiff/sample",
            description="KSampler with Self-Mask Guidance. Samples all layers of a scene together.",
            search_aliases=["text to layers", "layered ksampler", "SMG", "sample layers", "layer generation"],
            inputs=[
                io.Model.Input("model", tooltip="A layered model."),
                io.Conditioning.Input("positive", tooltip="The conditioning of all layers."),
                io.Conditioning.Input("negative", tooltip="The negative conditioning: what no layer should show."),
                io.Latent.Input("latent_image", tooltip="The layered latent to denoise."),
                io.Vae.Input("vae", tooltip="The model's VAE, to encode a black and a white mask."),
                *sampling_inputs("The amount of denoising. 1 ignores the input latent; lower values keep more of it."),
                *guidance_inputs(),
            ],
            outputs=[io.Latent.Output(tooltip="The denoised layered latent, for Decode Layers.")],
        )

    @classmethod
    def execute(cls, model: Any, positive: Any, negative: Any, latent_image: dict[str, Any], vae: Any, seed: int,
                steps: int, cfg: float, sampler_name: str, scheduler: str, denoise: float, smg_scale: float,
                blur_sigma: float, smg_start: float, smg_end: float) -> io.NodeOutput:
        check_limits(cls, steps=steps, cfg=cfg, denoise=denoise, smg_scale=smg_scale, blur_sigma=blur_sigma, smg_start=smg_start,
                     smg_end=smg_end)
        guided = self_mask_guidance(model, vae, smg_scale, blur_sigma, smg_start, smg_end)
        return io.NodeOutput(*host_nodes.common_ksampler(guided, seed, steps, cfg, sampler_name, scheduler, positive,
                                                         negative, latent_image, denoise=denoise))


NODES = [LayerDiffSelfMaskGuidance, LayerDiffSMGKSampler]
