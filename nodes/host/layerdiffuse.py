"""Adds LayerDiffuse's shared attention to an SD 1.5 MODEL, using only the attention patches of ComfyUI's model patcher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...layerdiff_core import published
from ...layerdiff_core.layerdiffuse import (
    BG2FG,
    BLOCKS,
    FG2BG,
    FOREGROUND,
    JOINT,
    TRANSPARENT,
    FrameNetwork,
    Kind,
    SharedAttention,
    in_our_order,
)
from . import networks
from .frames import FrameSampling
from .latent import StackedLatent
from .unet import added_dtype

KEY = "layerdiffuse"
"""The name under which a MODEL's wrappers and options are LayerDiffuse's."""

LATER = "Move that node before Apply LayerDiffuse, or remove it."


def apply_layerdiffuse(base: Any, path: Path, given: str | None, image: Tensor | None) -> tuple[Any, Kind]:
    """Applies a LayerDiffuse file to an SD 1.5 MODEL. Returns the new MODEL and the kind of the file.

    given: which layer the user gives, with its image [1, 3, H, W], 0..1, whose sides are multiples of 8; None for none.
    ValueError if the MODEL or the file does not fit.
    """
    check_base(base, path.name)
    outline = published.outline(path)
    kind = kind_of(path.name, outline, given)
    config = base.model.model_config.unet_config
    widths = [config["model_channels"] * factor for factor in config["channel_mult"]]
    shape = (kind, widths, config["context_dim"])
    networks.check_weights(f"{path.name} on this MODEL", lambda: FrameNetwork(*shape), outline)
    return on_base(base, loaded(path, shape, added_dtype(base.model.get_dtype())), kind, image), kind


IN_USE: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
"""The networks of the MODELs in use. With a chain of Apply LayerDiffuse nodes, each adding a foreground, the file is in memory
once."""


def loaded(path: Path, shape: tuple[Kind, list[int], int], dtype: torch.dtype | None) -> Any:
    """The patcher of the network of a file that has been checked, of this FrameNetwork's arguments."""
    kind, widths, context = shape
    state = path.stat()
    key = (path, state.st_mtime_ns, state.st_size, kind, *widths, context, dtype)
    if (added := IN_USE.get(key)) is None:
        device = comfy.model_management.unet_offload_device()
        network = FrameNetwork(*shape, operations=comfy.ops.manual_cast, dtype=dtype, device=device)
        added = comfy.model_patcher.CoreModelPatcher(network, comfy.model_management.get_torch_device(), device)
        weights = {name: value.to(dtype) for name, value in in_our_order(kind, published.read(path)).items()}
        network.load_state_dict(weights, assign=added.is_dynamic())
        network.train(False).requires_grad_(False)
        IN_USE[key] = added
    return added


def frames_of(model: Any) -> FrameSampling | None:
    """The frames that a MODEL samples; None if LayerDiffuse is not on it, or it is no MODEL."""
    if not isinstance(model, comfy.model_patcher.ModelPatcher):
        return None
    found = model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)
    return found[0] if found else None


def check_base(base: Any, name: str) -> None:
    """ValueError if the MODEL is not plain SD 1.5, or has LayerDiffuse on it already. name: the file's."""
    model, config = base.model, base.model.model_config
    if type(model) is not comfy.model_base.BaseModel or not isinstance(config, comfy.supported_models.SD15) \
            or isinstance(model.latent_format, StackedLatent) or config.unet_config["in_channels"] != 4:
        raise ValueError(f"{name} requires an ordinary SD 1.5 MODEL, not an inpainting or layered model or another "
                         f"architecture. This one is {type(model).__name__} of {type(config).__name__}. Load an SD 1.5 "
                         "checkpoint, or choose a file such as layer_xl_transparent_attn for SDXL.")
    check_not_applied(base)


def check_not_applied(base: Any) -> None:
    """ValueError if the MODEL has LayerDiffuse on it already."""
    if base.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        raise ValueError("Apply LayerDiffuse is already on this MODEL. Connect the MODEL from before it.")


def kind_of(name: str, tensors: Mapping[str, Tensor], given: str | None) -> Kind:
    """The kind of a file, by its keys and, as those of fg2bg and bg2fg are the same, by the given layer. ValueError if the file
    is not LayerDiffuse's for SD 1.5, or the given layer does not belong to it."""
    if "latent_conv_in.weight" in tensors:
        raise ValueError(f"{name} is a transparent decoder. Load it with Load Transparent Decoder, and choose a file such as "
                         "layer_sd15_joint.safetensors here.")
    frames = sum(f"hookers.layers.0.to_q_lora.{number}.down.weight" in tensors for number in range(4))
    control = "kwargs_encoder.blocks_0.0.weight" in tensors
    kinds = [kind for kind in (JOINT, FG2BG, BG2FG, TRANSPARENT)
             if (len(kind.frames), kind.given is not None) == (frames, control)]
    if not kinds:
        raise ValueError(f"{name} is not a LayerDiffuse file for SD 1.5. Choose layer_sd15_joint, layer_sd15_fg2bg, "
                         "layer_sd15_bg2fg or layer_sd15_transparent_attn.")
    if not control:
        if given is not None:
            raise ValueError(f"{name} generates all layers by itself, so it cannot take a {given}. Disconnect it, or choose "
                             f"{(FG2BG if given == FOREGROUND else BG2FG).name}.")
        return kinds[0]
    named = [kind for kind in kinds if kind.name in name.lower()]
    if given is None:
        wanted = f"a {named[0].given}" if len(named) == 1 else "a foreground (fg2bg) or a background (bg2fg)"
        raise ValueError(f"{name} adds a layer to a given one. Connect {wanted}.")
    if len(named) == 1 and named[0].given != given:
        raise ValueError(f"{name} needs a {named[0].given}, but a {given} is connected. Connect it to the other input, or choose "
                         f"{next(kind for kind in kinds if kind.given == given).name}.")
    return next(kind for kind in kinds if kind.given == given)


def on_base(base: Any, added: Any, kind: Kind, image: Tensor | None) -> Any:
    """A MODEL with shared attention. added: the patcher of the file's network, which ComfyUI loads together with the MODEL."""
    patcher = base.clone()
    for cross, name in enumerate(("attn1", "attn2")):
        units = {block: added.model.unit(block, bool(cross)) for block in BLOCKS}
        replaced = patcher.model_options["transformer_options"].get("patches_replace", {}).get(name, {})
        patcher.set_model_patch(EnterUnit(added, units), f"{name}_patch")
        for block, unit in units.items():
            inner = replaced.get((*block, 0), replaced.get(block))
            patcher.set_model_patch_replace(InsideUnit(unit, inner), name, *block, transformer_index=0)
        patcher.set_model_patch(LeaveUnit(units), f"{name}_output_patch")
    shared = SharedFrames(added, kind, image)
    patcher.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, shared)
    patcher.add_callback_with_key(CallbacksMP.ON_CLEANUP, KEY, shared.release)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, FrameSampling(kind, image))
    return patcher


Options = dict[str, Any]
"""What ComfyUI passes to the patches of a transformer block. It is one dictionary for a block, so that the three patches of an
attention module can hand on what the next one needs."""


class EnterUnit:
    """Patch before the projections of an attention module: adds the given layer's features to the input."""

    def __init__(self, added: Any, units: dict[tuple[str, int], SharedAttention]):
        self.added, self.units = added, units

    def __call__(self, x: Tensor, context: Tensor, value: Tensor, options: Options) -> tuple[Tensor, Tensor, Tensor]:
        height, width = options["activations_shape"][2:]
        if x.shape[1] != height * width:
            raise ValueError("A node before Apply LayerDiffuse changes the number of tokens of the MODEL's attention, such as "
                             "Token Merging or HyperTile. LayerDiffuse needs all of them. Remove that node.")
        unit, features = self.units[options["block"]], options[KEY]
        y = unit.guided(x, features[unit] if features else None)
        context, value = (y if source is x else source for source in (context, value))
        options["inside"] = {"x": x, "y": y, "sources": {"q": y, "k": context, "v": value}}
        return y, context, value

    def models(self) -> list[Any]:
        """ComfyUI loads these together with the MODEL."""
        return [self.added]


class InsideUnit:
    """Patch in place of the attention itself: adds the low-rank changes of the projections.

    inner: what another node put there before, which then computes the attention. None for ComfyUI's own.
    """

    def __init__(self, unit: SharedAttention, inner: Any):
        self.unit, self.inner = unit, inner

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        inside = options["inside"]
        q, k, v = (part + self.unit.change(name, inside["sources"][name]) for name, part in zip("qkv", (q, k, v)))
        if self.inner is not None:
            out = self.inner(q, k, v, options)
        else:
            out = optimized_attention(q, k, v, options["n_heads"], attn_precision=options["attn_precision"],
                                      transformer_options=options)
        inside["out"] = out
        return out


class LeaveUnit:
    """Patch after the output projection: adds its low-rank change, then attention among the frames."""

    def __init__(self, units: dict[tuple[str, int], SharedAttention]):
        self.units = units

    def __call__(self, out: Tensor, options: Options) -> Tensor:
        inside, unit = options.pop("inside"), self.units[options["block"]]
        out = out + unit.change("out", inside["out"])
        return unit.joined(inside["y"] + out, options["n_heads"]) - inside["x"]


class SharedFrames:
    """Wrapper around the UNet: checks what reaches it, and computes what the given layer adds to it, once per sampling."""

    def __init__(self, added: Any, kind: Kind, image: Tensor | None):
        self.added, self.kind, self.image = added, kind, image
        self.kept: dict[tuple[torch.device, torch.dtype], dict[SharedAttention, Tensor]] = {}

    def __call__(self, executor: Any, x: Tensor, timesteps: Any, context: Any, y: Any, control: Any,
                 transformer_options: dict[str, Any], **kwargs: Any) -> Tensor:
        frames = len(self.kind.frames)
        if len(x) % frames:
            raise ValueError(f"{len(x)} latents reached the UNet at once, which is not a whole number of scenes of {frames} "
                             "frames. Something between the MODEL and the sampler splits the batch, but the frames of a scene "
                             "must be sampled together. Remove it, or sample fewer scenes at once.")
        check_patches(transformer_options)
        return executor(x, timesteps, context, y, control, {**transformer_options, KEY: self.features(x)}, **kwargs)

    def features(self, x: Tensor) -> dict[SharedAttention, Tensor] | None:
        """What the given layer adds in each unit, on the device and in the dtype of x; None if no layer is given."""
        if self.image is None:
            return None
        place = (x.device, x.dtype)
        if place not in self.kept:
            self.kept[place] = self.added.model.features(self.image.to(x))
        return self.kept[place]

    def release(self, patcher: Any) -> None:
        """Called by ComfyUI after a sampling, also after an interrupt: frees the features' memory."""
        self.kept.clear()


def check_patches(options: dict[str, Any]) -> None:
    """ValueError if a node after Apply LayerDiffuse put something in the place of its patches."""
    patches, replaced = options.get("patches", {}), options.get("patches_replace", {})
    for name in ("attn1", "attn2"):
        entries = replaced.get(name, {})
        ours = {block: entries.get((*block, 0)) for block in BLOCKS}
        if not all(isinstance(patch, InsideUnit) for patch in ours.values()) \
                or any(entries[block] is not ours[block].inner for block in BLOCKS if block in entries):
            raise ValueError(f"A node after Apply LayerDiffuse replaces the attention of the MODEL ({name}), as IPAdapter or "
                             f"Perturbed-Attention Guidance do. {LATER}")
        last = patches.get(f"{name}_patch", [None])[-1]
        if not isinstance(last, EnterUnit) or not any(isinstance(each, LeaveUnit) for each in patches[f"{name}_output_patch"]):
            raise ValueError(f"A node after Apply LayerDiffuse changes what goes into the attention of the MODEL ({name}). "
                             f"{LATER}")
