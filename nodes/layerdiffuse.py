"""Nodes that use LayerDiffuse's published files with an SD 1.5 or SDXL checkpoint."""

from typing import Any

from comfy_api.latest import io

from ..layerdiff_core.layerdiffuse import BACKGROUND, FOREGROUND
from ..layerdiff_core.transparent_decoder import VIEWS
from .host import folders
from .host.frame_codec import check_vae, control_image, given_layer, with_blended, with_frames, with_transparency
from .host.layerdiffuse import apply_layerdiffuse
from .host.layerdiffuse_xl import apply_to_sdxl, is_for_sdxl
from .host.transparency import load_transparency

BEST, FAST = "best (8 passes)", "fast (1 pass)"


class LayerDiffApplyLayerDiffuse(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffApplyLayerDiffuse",
            display_name="Apply LayerDiffuse",
            category="LayerDiff/load",
            description="Applies one of LayerDiffuse's files to an SD 1.5 or SDXL model, which then generates a foreground and a "
            "background together, one of them for the other, or transparent images. Download the files yourself and put them "
            "into models/layer_model or models/layered_models.",
            search_aliases=["layerdiffuse", "layer diffuse", "layered diffusion", "transparent image", "foreground background",
                            "layer_sd15_joint", "layer_sd15_fg2bg", "layer_sd15_bg2fg", "layer_sd15_transparent_attn",
                            "layer_xl_transparent_attn", "layer_xl_transparent_conv", "layer_xl_fg2ble", "layer_xl_bg2ble",
                            "layer_xl_fgble2bg", "layer_xl_bgble2fg"],
            inputs=[
                io.Model.Input("model", tooltip="An SD 1.5 or SDXL model, from Load Checkpoint. LoRAs can be loaded before or "
                               "after this node."),
                io.Vae.Input("vae", tooltip="The VAE of the checkpoint."),
                io.Combo.Input("model_name", options=folders.layerdiffuse_names(),
                               tooltip="The LayerDiffuse file. For SD 1.5: joint generates a background and a foreground, "
                               "fg2bg a background for a foreground, bg2fg a foreground for a background, transparent_attn one "
                               "cut-out per prompt. For SDXL: transparent_attn or transparent_conv one cut-out per prompt, "
                               "fg2ble or bg2ble the whole image around a given layer, then fgble2bg or bgble2fg the other layer "
                               "of that image."),
                io.Image.Input("foreground", optional=True, tooltip="The given foreground, for fg2bg, fg2ble and fgble2bg. With "
                               "4 channels, the fourth is its coverage."),
                io.Mask.Input("coverage", optional=True, tooltip="The mask of the foreground. 1 means covered, as in Decode "
                              "Layers. Load Image's MASK is the inverse: add Invert Mask."),
                io.Image.Input("background", optional=True, tooltip="The given background, for bg2fg, bg2ble and bgble2fg."),
                io.Image.Input("blended", optional=True, tooltip="The whole image that fgble2bg and bgble2fg separate a layer "
                               "from, for example the blended output of Decode Layers with fg2ble or bg2ble."),
            ],
            outputs=[
                io.Model.Output(tooltip="The model that generates layers. Works with any sampler."),
                io.Vae.Output(tooltip="The same VAE, which makes Empty Layered Latent and Decode Layers work with this "
                                   "model."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, vae: Any, model_name: str, foreground: Any = None, coverage: Any = None,
                background: Any = None, blended: Any = None) -> io.NodeOutput:
        check_vae(vae)
        if foreground is not None and background is not None:
            raise ValueError("A foreground and a background are connected. LayerDiffuse generates one for the other: connect a "
                             "foreground with a file such as fg2bg or fg2ble, or a background with bg2fg or bg2ble.")
        if coverage is not None and foreground is None:
            raise ValueError("Coverage is connected without a foreground. Connect the foreground too, or disconnect the "
                             "coverage.")
        name = FOREGROUND if foreground is not None else BACKGROUND if background is not None else None
        given = None if name is None else given_layer(foreground if name == FOREGROUND else background, coverage, name)
        path = folders.layerdiffuse_path(model_name)
        for_sdxl = is_for_sdxl(path)
        if blended is not None:
            if given is None or name is None or not for_sdxl:
                raise ValueError("A blended image is connected, which only layer_xl_fgble2bg, with a foreground, and "
                                 "layer_xl_bgble2fg, with a background, can use. Choose one of them, or disconnect it.")
            given = with_blended(given, blended, name)
        if for_sdxl:
            patched, kind = apply_to_sdxl(model, vae, path, name, given)
        else:
            shown = None if given is None else control_image(vae, given)
            patched, kind = apply_layerdiffuse(model, path, name, shown)
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
                               tooltip="The decoder file: layer_sd15_vae_transparent_decoder for SD 1.5, "
                               "vae_transparent_decoder for SDXL."),
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
