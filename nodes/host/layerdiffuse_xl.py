"""Adds LayerDiffuse's changes to an SDXL MODEL, using only the weight and block patches of ComfyUI's model patcher."""

from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.supported_models
import torch
from comfy.patcher_extension import WrappersMP
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor

from ...layerdiff_core import published
from ...layerdiff_core.layerdiffuse import BACKGROUND, FOREGROUND, Kind
from ...layerdiff_core.layerdiffuse_xl import (
    BG2BLE,
    BGBLE2FG,
    FG2BLE,
    FGBLE2BG,
    SEPARATOR,
    TRANSPARENT,
    Change,
    changes,
    check_changes,
    given_features,
    split_input,
)
from ...layerdiff_core.transparent_decoder import LATENT_CHANNELS
from .codecs import LayerCodec
from .frame_codec import Given, control_image
from .frames import FrameSampling
from .layerdiffuse import KEY, check_not_applied

KINDS = {0: (TRANSPARENT,), LATENT_CHANNELS: (FG2BLE, BG2BLE), 2 * LATENT_CHANNELS: (FGBLE2BG, BGBLE2FG)}
"""The kinds of files, by the channels that they add to the first convolution."""


def is_for_sdxl(path: Path) -> bool:
    """Whether a file is LayerDiffuse's for SDXL, by its keys. ValueError if the file is damaged."""
    return any(SEPARATOR in key for key in published.outline(path))


def apply_to_sdxl(base: Any, vae: Any, path: Path, name: str | None, given: Given | None) -> tuple[Any, Kind]:
    """Applies a LayerDiffuse file to an SDXL MODEL. Returns the new MODEL and the kind of the file.

    name: which layer the user gives, None for none; given: its image, and the blended one. ValueError if the MODEL, the file or
    what is given does not fit.
    """
    check_base(base, path.name)
    outline = changes(path.name, published.outline(path))
    check_changes(f"{path.name} on this MODEL", outline, {key: part.shape for key, part in base.model.state_dict().items()})
    wide = split_input(outline, LATENT_CHANNELS)[1]
    kind = kind_of(path.name, 0 if wide is None else wide.shape[1], name, given is not None and given.blended is not None)
    changed, for_given = split_input(changes(path.name, published.read(path)), LATENT_CHANNELS)
    patcher, shown = base.clone(), None
    patcher.add_patches({key: patch_of(change) for key, change in changed.items()})
    if for_given is not None and given is not None:
        shown = control_image(vae, given)
        pictures = [shown.movedim(1, -1)]
        if given.blended is not None:
            pictures.append(LayerCodec(vae).fill_up(given.blended))
        latents = [base.model.latent_format.process_in(vae.encode(picture)) for picture in pictures]
        patcher.set_model_input_block_patch(GivenImages(for_given, torch.cat(latents, dim=1)))
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, FrameSampling(kind, shown))
    return patcher, kind


def check_base(base: Any, name: str) -> None:
    """ValueError if the MODEL is not plain SDXL, or has LayerDiffuse on it already. name: the file's."""
    model, config = base.model, base.model.model_config
    if type(model) is not comfy.model_base.SDXL or not isinstance(config, comfy.supported_models.SDXL) \
            or config.unet_config["in_channels"] != LATENT_CHANNELS:
        raise ValueError(f"{name} requires an ordinary SDXL MODEL, not an inpainting or refiner model or another architecture. "
                         f"This one is {type(model).__name__} of {type(config).__name__}. Load an SDXL checkpoint, or choose a "
                         "file such as layer_sd15_joint for SD 1.5.")
    check_not_applied(base)


def kind_of(name: str, channels: int, given: str | None, blended: bool) -> Kind:
    """The kind of a file, by the channels that it adds for given images and, as two kinds share these, by the given layer.
    ValueError if what is given does not belong to it. blended: whether the blended image is given."""
    if channels not in KINDS:
        raise ValueError(f"{name} takes {channels} channels of given images, but 0, 4 or 8 were expected. The file is damaged or "
                         "is not LayerDiffuse's. Download it again.")
    kinds = KINDS[channels]
    if kinds[0].given is None:
        if given is not None or blended:
            raise ValueError(f"{name} generates a transparent image by itself, so it cannot take a {given or 'blended image'}. "
                             f"Disconnect it, or choose {FG2BLE.name if given == FOREGROUND else BG2BLE.name}.")
        return kinds[0]
    # "fg2ble" is not a part of "fgble2bg".
    named = [kind for kind in kinds if kind.name in name.lower()]
    if given is None:
        wanted = f"a {named[0].given}" if len(named) == 1 else f"a {FOREGROUND} ({kinds[0].name}) or a {BACKGROUND} " \
                                                               f"({kinds[1].name})"
        raise ValueError(f"{name} starts from a given layer. Connect {wanted}.")
    kind = next(kind for kind in kinds if kind.given == given)
    if len(named) == 1 and named[0] != kind:
        raise ValueError(f"{name} needs a {named[0].given}, but a {given} is connected. Connect it to the other input, or choose "
                         f"{kind.name}.")
    if blended and not kind.from_blended:
        wanted = FGBLE2BG.name if given == FOREGROUND else BGBLE2FG.name
        raise ValueError(f"{name} generates the blended image, so it cannot take one. Disconnect it, or choose {wanted}.")
    if kind.from_blended and not blended:
        wanted = FG2BLE.name if given == FOREGROUND else BG2BLE.name
        raise ValueError(f"{name} separates a layer from a blended image. Connect blended, for example the blended output of "
                         f"Decode Layers with {wanted}.")
    return kind


def patch_of(change: Change) -> Any:
    """A change as a patch of ComfyUI's."""
    if change.type == "diff":
        return "diff", (change.tensors[0],)
    up, down, alpha = (change.tensors.get(index) for index in range(3))
    return LoRAAdapter(set(), (up, down, None if alpha is None else alpha.item(), None, None, None))


class GivenImages:
    """Patch after the UNet's first block: adds what the latents of given images contribute to it.

    weight: of the first convolution for these latents, [out, C, 3, 3]. latents: [1, C, h, w], as the UNet takes them.
    """

    def __init__(self, weight: Tensor, latents: Tensor):
        self.weight, self.latents = weight, latents

    def __call__(self, h: Tensor, options: dict[str, Any]) -> Tensor:
        if options["block"] != ("input", 0):
            return h
        return h + given_features(self.weight.to(h), self.latents.to(h))
