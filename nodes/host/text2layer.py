"""Text2Layer in the host: its file as MODEL, CLIP and VAE, and its latents, each of which holds all layers of a scene."""

from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models
import comfy.utils
import torch
from torch import Tensor

from ...layerdiff_core import checkpoint
from ...layerdiff_core.autoencoder import CompositionAutoencoder, Layers, unstack
from ...layerdiff_core.layers import MAX_LAYERS
from . import networks
from .latent import StackedLatent
from .loading import PREDICTIONS, build_clip, damage_explained, host_vae, shapes, unet_types
from .model import LAYERS_KEY

STACKED_KEY = "stacked_layers"
"""In a LATENT of this family: how many layers each of its latents holds."""

TILE, OVERLAP = 64, 16


class ComposedAutoencoder(CompositionAutoencoder):
    """CaT2I-AE as the host's VAE: `decode` gives the composed image of the I head, so that every node of the host's that
    decodes works; with all_layers what all heads give."""

    def encode(self, x: Tensor) -> Tensor:
        channels = 3 + 4 * self.foregrounds
        if x.shape[1] != channels:
            raise ValueError(f"A Text2Layer VAE encodes layers ({channels} channels in all), and got a picture of "
                             f"{x.shape[1]}. Use Encode Layers.")
        return super().encode(x)

    def decode(self, z: Tensor, all_layers: bool = False) -> Tensor:
        channels = self.post_quant_conv.in_channels
        if z.shape[1] != channels:
            raise ValueError(f"This Text2Layer VAE decodes latents of {channels} channels, and got one of {z.shape[1]}. Connect "
                             "a latent of the same model.")
        found = super().decode(z)
        return found if all_layers else found[:, -3:]


class Text2LayerSD15(comfy.supported_models.SD15):
    """The host's SD 1.5 model, over the latents of CaT2I-AE."""

    unet_extra_config: dict = {}

    def __init__(self, unet_config: dict, latent: StackedLatent):
        super().__init__(unet_config)
        self.latent_format = latent


def load_complete(path: Path, header: checkpoint.Header) -> tuple[Any, Any, Any, None]:
    """Read a complete Text2Layer model. Returns MODEL, CLIP, VAE, and None for the enhancer, which this family has not;
    ValueError where the file is not sound."""
    parts, architecture = checkpoint.read_tensors(path, header), header.architecture
    with damage_explained(path.name):
        if not 1 <= architecture["foregrounds"] < MAX_LAYERS:
            raise ValueError(f"{path.name} says that it draws {architecture['foregrounds']} foregrounds; 1 to "
                             f"{MAX_LAYERS - 1} are possible. The file is damaged: use another one.")
        return (build_model(path.name, architecture, parts["unet"]), build_clip(path.name, architecture, parts["text"]),
                build_vae(path.name, architecture, parts["vae"]), None)


def build_model(name: str, architecture: dict, tensors: dict[str, Tensor]) -> Any:
    """The MODEL of a complete file: the host's own class."""
    latent = StackedLatent(architecture["latent"], architecture["foregrounds"])
    channels = {"in_channels": latent.latent_channels, "out_channels": latent.latent_channels}
    config = Text2LayerSD15({**architecture["unet"], **channels}, latent)
    config.set_inference_dtype(*unet_types(tensors))
    model = comfy.model_base.BaseModel(config, PREDICTIONS[architecture["prediction"]],
                                       comfy.model_management.unet_offload_device())
    checkpoint.check_tensors(f"{name}, UNet", tensors, shapes(model.diffusion_model))
    model.diffusion_model.load_state_dict(tensors)
    patcher = comfy.model_patcher.CoreModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device())
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "text2layer", check_sampling)
    return patcher


def build_vae(name: str, architecture: dict, tensors: dict[str, Tensor]) -> Any:
    """The VAE of a complete file: the host's, around CaT2I-AE."""
    network = networks.composition_autoencoder(architecture, ComposedAutoencoder)
    wanted = {key: value.shape for key, value in network.weights().items()}
    checkpoint.check_tensors(f"{name}, VAE", tensors, wanted)
    network.load_state_dict(tensors, strict=False)  # the counters of batch norms, which are nobody's business here, stay 0
    vae = host_vae(network, architecture["latent"]["channels"])
    # what the host lets through of a picture that is to be encoded
    vae.output_channels = 3 + 4 * network.foregrounds
    return vae


def check_sampling(executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Runs around the host's sampling: refuses what belongs to LayerDiff or to one picture, in plain words."""
    model = executor.class_obj.model_patcher.model
    channels, width = model.latent_format.latent_channels, model.model_config.unet_config["context_dim"]
    if noise.shape[1] != channels:
        raise ValueError(f"The latent has {noise.shape[1]} channels, and this Text2Layer MODEL needs {channels}. Connect Empty "
                         "Layered Latent or Encode Layers, with the VAE of the same model.")
    for cond in (cond for group in executor.class_obj.conds.values() for cond in group):
        tokens = cond.get("cross_attn")
        if LAYERS_KEY in cond:
            raise ValueError("These prompts are for single layers, as LayerDiff takes them, and a Text2Layer MODEL takes one "
                             "prompt for the whole picture. Encode it with CLIP Text Encode.")
        if tokens is not None and tokens.shape[-1] != width:
            raise ValueError(f"The prompt was encoded {tokens.shape[-1]} wide, and this MODEL reads {width}. Encode it with "
                             "the CLIP of the same model.")
        if "control" in cond:
            raise ValueError("A ControlNet steers one picture, and a Text2Layer latent holds all layers of a scene mixed. Use a "
                             "LayerDiff MODEL with it.")
    return executor(noise, *args, **kwargs)


def foregrounds_of(vae: Any) -> int:
    """How many foregrounds a VAE's latents hold: 0 for every VAE that is not Text2Layer's."""
    network = vae.first_stage_model
    return network.foregrounds if isinstance(network, ComposedAutoencoder) else 0


def check_family(samples: dict[str, Any], vae: Any) -> None:
    """ValueError for a LATENT of one family with a VAE of the other; latents of the host's nodes say no family."""
    if foregrounds_of(vae) and LAYERS_KEY in samples:
        raise ValueError("This latent is of a LayerDiff model, with one latent for each layer, and the VAE is of a Text2Layer "
                         "model. Connect the VAE of the model that sampled.")
    if not foregrounds_of(vae) and STACKED_KEY in samples:
        raise ValueError("This latent is of a Text2Layer model, with all layers of a scene in one latent, and the VAE is not. "
                         "Connect the VAE of the model that sampled.")


def encode_stack(vae: Any, pictures: Tensor, coverage: Tensor) -> Tensor:
    """The latent [1, C, h, w] of a scene's layers, bottom first: pictures [K, H, W, 3], coverage [K, H, W], 0..1."""
    pictures = pictures.movedim(-1, 1)
    layers = Layers(pictures[None, 1:], pictures[:1], coverage[None, 1:, None])
    return vae.encode(layers.stack().movedim(1, -1))


def decode_stack(vae: Any, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures [scenes * K, H, W, 3] and masks [scenes * K, H, W, 1] of all layers, bottom first, layers innermost."""
    layers, _ = unstack(decode_heads(vae, latent))
    pictures = torch.cat([layers.background[:, None], layers.foregrounds], dim=1)
    masks = torch.cat([torch.ones_like(layers.masks[:, :1]), layers.masks], dim=1)
    return pictures.flatten(0, 1).movedim(1, -1), masks.flatten(0, 1).movedim(1, -1)


def decode_heads(vae: Any, latent: Tensor) -> Tensor:
    """What all heads give, [scenes, 3 + 4N + 3, H, W] in 0..1: F1..FN, B, m1..mN, the composed image."""
    found = vae.decode(latent, vae_options={"all_layers": True}).movedim(-1, 1)
    channels = 3 + 4 * foregrounds_of(vae) + 3
    if found.shape[1] == channels:
        return found

    # The host ran out of memory and decoded in tiles, which gives three channels only: do the same for all of them.
    def decode(z: Tensor) -> Tensor:
        return vae.first_stage_model.decode(z.to(vae.device, vae.vae_dtype), all_layers=True).float()

    tiled = comfy.utils.tiled_scale(latent, decode, TILE, TILE, OVERLAP, vae.upscale_ratio, channels, vae.output_device)
    return vae.process_output(tiled)
