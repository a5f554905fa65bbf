"""Files of other authors: safetensors without our metadata, told apart by their keys and checked before a tensor is read."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


def outline(path: Path) -> dict[str, Tensor]:
    """The tensors of a file on the meta device, which takes no memory: only their keys, shapes and dtypes (integers of any kind
    as int64). ValueError if the file is damaged or in another format."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - a handle, not a dict
            return {key: torch.empty(part.get_shape(), dtype=DTYPES.get(part.get_dtype(), torch.int64), device="meta")
                    for key, part in slices.items()}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"{path.name} cannot be read as a safetensors file ({error}). It is damaged, incomplete or in another "
                         "format. Download it again.") from error


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file whose outline has been checked."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - a handle, not a dict
