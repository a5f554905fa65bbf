"""Reads LoRA files from ComfyUI's folder `loras` for single layers, and reports what cannot act on them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.lora_convert
import folder_paths
from comfy.weight_adapter import LoHaAdapter, LoKrAdapter, LoRAAdapter, WeightAdapterBase
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .model import layered

FOLDER = "loras"
UNET = "diffusion_model."
DORA_SCALE: dict[type[WeightAdapterBase], int] = {LoRAAdapter: 4, LoHaAdapter: 7, LoKrAdapter: 8}
"""Adapters that add a term to a layer's output, each with the index of DoRA's scale among its weights."""
RESHAPE = 5
TEXT_ENCODER = ("lora_te", "text_encoder", "clip_", "cond_stage_model.", "conditioner.")
PATCHES = {"diff": "differences of whole weights (diff)", "set": "replaced weights (set_weight)"}
SHOWN = 3


def lora_names() -> list[str]:
    """The names of the LoRA files that can be read without running code from them."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.lower().endswith((".safetensors", ".sft"))]


def lora_path(name: str) -> Path:
    """The path of a LoRA that ComfyUI listed. ValueError if it no longer exists."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        raise ValueError(f"There is no LoRA called {name!r}. Put it into models/{FOLDER}, press R to refresh the lists, and "
                         "choose it again.")
    return Path(path)


def read_lora(path: Path) -> dict[str, Tensor]:
    """A LoRA file's tensors. ValueError if the file is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read as a safetensors file ({error}). The file is damaged or incomplete. "
                         "Download it again.") from error


def adapters_of(model: Any, name: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, WeightAdapterBase], list[str]]:
    """Matches a LoRA file to a layered MODEL. Returns adapters by the name of the UNet module, and warnings about anything else
    in the file.

    ValueError for a MODEL without layers, for a file in which nothing fits the MODEL, and for kinds of change that cannot be
    applied to a single layer; the message names them.
    """
    keys = comfy.lora.model_lora_keys_unet(layered(model), {})
    tensors = comfy.lora_convert.convert_lora(dict(tensors))
    patches = comfy.lora.load_lora(tensors, keys, log_missing=False)
    left = leftovers(tensors, keys, patches)
    if not patches:
        raise ValueError(nothing_fits(name, left))
    refused = Counter(filter(None, (kind_refused(model.model, key, patch) for key, patch in patches.items())))
    if refused:
        kinds = ", ".join(f"{kind} ({count} weights)" for kind, count in refused.items())
        raise ValueError(f"{name} holds {kinds}. These change the model as a whole and cannot be applied to single layers. "
                         "Load the file for all layers with Load LoRA, or use a LoRA, LoHa or LoKr file without them.")
    return {module_of(key): patch for key, patch in patches.items()}, said_of(name, left)


def module_of(key: str) -> str:
    return key.removeprefix(UNET).removesuffix(".weight")


def kind_refused(model: nn.Module, key: Any, patch: Any) -> str | None:
    """The name, for messages, of a kind of patch that cannot act on single layers; None if it can."""
    if not isinstance(patch, WeightAdapterBase):
        return PATCHES.get(patch[0], str(patch[0]))
    if type(patch) not in DORA_SCALE:
        return patch.name
    if patch.weights[DORA_SCALE[type(patch)]] is not None:
        return "DoRA"
    if isinstance(patch, LoRAAdapter) and patch.weights[RESHAPE] is not None:
        return "weights of another shape (reshape_weight)"
    if ".inter_layer." in key or f"{UNET}position." in key:
        return "changes of the attention between layers"
    if not isinstance(model.get_submodule(key.removesuffix(".weight")), (nn.Linear, nn.Conv2d)):
        return "changes of weights that are neither linear nor convolutions"
    return None


def leftovers(tensors: Mapping[str, Tensor], keys: Mapping[str, Any], patches: Mapping[str, Any]) -> list[str]:
    """The keys of a file that ComfyUI's loader did not use."""
    used = {key for patch in patches.values() if isinstance(patch, WeightAdapterBase) for key in patch.loaded_keys}
    starts = tuple(f"{name}." for name, target in keys.items() if target in patches)
    return [key for key in tensors if key not in used and not key.startswith(starts)]


def nothing_fits(name: str, left: list[str]) -> str:
    if left and all(key.startswith(TEXT_ENCODER) for key in left):
        return (f"{name} changes the text encoder alone, which has no layers. Put Load LoRA (Model and CLIP) between the CLIP "
                "and Encode Layer Prompts.")
    return (f"No weight in {name} fits this MODEL; it has, for example, {', '.join(left[:SHOWN]) or 'none at all'}. It was made "
            "for another kind of model, or is not a LoRA. Use a LoRA for the same base, SD 1.5 for an adapter.")


def said_of(name: str, left: list[str]) -> list[str]:
    """Warnings about the parts of a file that this node does not use."""
    text = [key for key in left if key.startswith(TEXT_ENCODER)]
    other = [key for key in left if not key.startswith(TEXT_ENCODER)]
    said = []
    if text:
        said.append(f"{name} also changes the text encoder, which has no layers, so this node leaves that part out. To use it, "
                    "put Load LoRA (Model and CLIP) with strength_model 0 between the CLIP and Encode Layer Prompts.")
    if other:
        said.append(f"{len(other)} of the tensors in {name} fit nothing in this MODEL and are not used, for example "
                    f"{', '.join(other[:SHOWN])}.")
    return said
