"""Nodes that use LayerDiffuse's published files with an SD 1.5 checkpoint."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.layerdiffuse import BACKGROUND, FOREGROUND
from ..layerdiff_core.transparent_decoder import VIEWS
from .host import folders
from .host.frame_codec import check_vae, control_image, given_layer, with_frames, with_transparency
from .host.layerdiffuse import apply_layerdiffuse
from .host.transparency import load_transparency

BEST, FAST = "best (8 passes)", "fast (1 pass)"


class LayerDiffApplyLayerDiffuse(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffApplyLayerDiffuse",
            display_name="Apply LayerDiffuse",
            category="LayerDiff/load",
            description="Applies one of LayerDiffuse's SD 1.5 files to an SD 1.5 model, which then generates a foreground and a "
            "background together, one of them for the other, or a transparent image. Download the files yourself and put them "
            "into models/layer_model or models/layered_models.",
            search_aliases=["layerdiffuse", "layer diffuse", "layered diffusion", "transparent image", "foreground background",
                            "layer_sd15_joint", "layer_sd15_fg2bg", "layer_sd15_bg2fg", "layer_sd15_transparent_attn"],
            inputs=[
                io.Model.Input("model", tooltip="An SD 1.5 model, from Load Checkpoint. LoRAs can be loaded before or after this "
                               "node."),
                io.Vae.Input("vae", tooltip="The VAE of the checkpoint."),
                io.Combo.Input("model_name", options=folders.layerdiffuse_names(),
                               tooltip="The LayerDiffuse file: layer_sd15_joint generates a background and a foreground, "
                               "layer_sd15_fg2bg a background for a foreground, layer_sd15_bg2fg a foreground for a background, "
                               "layer_sd15_transparent_attn a foreground alone."),
                io.Image.Input("foreground", optional=True, tooltip="The foreground that layer_sd15_fg2bg generates a background "
                               "for. With 4 channels, the fourth is its coverage."),
                io.Mask.Input("coverage", optional=True, tooltip="The mask of the foreground. 1 means covered, as in Decode "
                              "Layers. Load Image's MASK is the inverse: add Invert Mask."),
                io.Image.Input("background", optional=True, tooltip="The background that layer_sd15_bg2fg generates a foreground "
                               "for."),
            ],
            outputs=[
                io.Model.Output(tooltip="The model with shared attention. Works with any sampler."),
                io.Vae.Output(tooltip="The same VAE, which makes Empty Layered Latent and Decode Layers work with this "
                                   "model."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, vae: Any, model_name: str, foreground: Any = None, coverage: Any = None,
                background: Any = None) -> io.NodeOutput:
        check_vae(vae)
        if foreground is not None and background is not None:
            raise ValueError("A foreground and a background are connected. LayerDiffuse generates one for the other: connect a "
                             "foreground with layer_sd15_fg2bg, or a background with layer_sd15_bg2fg.")
        if coverage is not None and foreground is None:
            raise ValueError("Coverage is connected without a foreground. Connect the foreground too, or disconnect the "
                             "coverage.")
        name = FOREGROUND if foreground is not None else BACKGROUND if background is not None else None
        image = foreground if foreground is not None else background
        given = None if name is None else given_layer(image, coverage, name)
        shown = None if given is None else control_image(vae, given)
        patched, kind = apply_layerdiffuse(model, folders.layerdiffuse_path(model_name), name, shown)
        return io.NodeOutput(patched, with_frames(vae, kind, given))


class LayerDiffLoadTransparentDecoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffLoadTransparentDecoder",
            display_name="Load Transparent Decoder",
            category="LayerDiff/load",
            description="Adds LayerDiffuse's transparent decoder to a VAE, so that Decode Layers finds the coverage and colours "
            "of foregrounds. Download the file yourself and put it into models/layer_model or models/layered_models.",
            search_aliases=["layerdiffuse decode", "layer diffuse decode rgba", "alpha decoder", "vae_transparent_decoder",
                            "layer_sd15_vae_transparent_decoder"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE from Apply LayerDiffuse. With any other VAE, every latent is decoded as "
                             "one transparent layer."),
                io.Combo.Input("decoder_name", options=folders.layerdiffuse_names(),
                               tooltip="The decoder file: layer_sd15_vae_transparent_decoder for SD 1.5."),
                io.Combo.Input("quality", options=[BEST, FAST], default=BEST,
                               tooltip="best: the median of eight mirrored and turned passes, as published. fast: one pass, with "
                               "rougher edges."),
            ],
            outputs=[io.Vae.Output(tooltip="The VAE with the transparent decoder, for Decode Layers.")],
        )

    @classmethod
    def execute(cls, vae: Any, decoder_name: str, quality: str) -> io.NodeOutput:
        check_vae(vae)
        views = len(VIEWS) if quality == BEST else 1
        transparency = load_transparency(folders.layerdiffuse_path(decoder_name), views, vae.device)
        return io.NodeOutput(with_transparency(vae, transparency))


NODES = [LayerDiffApplyLayerDiffuse, LayerDiffLoadTransparentDecoder]
