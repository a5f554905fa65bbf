"""Where ComfyUI wants files saved, and what it writes into them."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui

from ...layerdiff_core.whole import system_words, whole

SHOWN = 100


def output_place(filename_prefix: str, canvas: tuple[int, int]) -> tuple[Path, str, str]:
    """Where files of this width and height are saved by ComfyUI's rules.

    Returns the folder, the start of their names with a counter that is not taken yet, and the subfolder as the page asks
    for it. ComfyUI raises for a prefix that leads out; ValueError for one that cannot be made into names.
    """
    # ComfyUI's name for the number within a batch; the layers of a document are not one, they number themselves.
    prefix = filename_prefix.replace("%batch_num%", "0")
    if os.path.basename(os.path.normpath(prefix)) == "." or prefix.endswith(("/", os.sep)):
        # ComfyUI would count no further than 1 here, and write each file over the one before.
        raise ValueError(f"The filename_prefix {filename_prefix[:SHOWN]!r} does not contain a file name. Add the start of a "
                         "name, such as LayerDiff, after the subfolders.")
    if "\0" in prefix:
        raise ValueError(f"The filename_prefix {filename_prefix[:SHOWN]!r} contains characters that are not allowed in file "
                         "names. Remove them.")
    try:
        prefix.encode()
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), *canvas
        )
    except (OSError, UnicodeEncodeError) as error:
        why = system_words(error) if isinstance(error, OSError) else "It contains characters that are not allowed in file names."
        raise ValueError(f"Cannot save files with the filename_prefix {filename_prefix[:SHOWN]!r}. {why}") from error
    return Path(folder), f"{name}_{counter:05}", subfolder


def workflow_text(node: type[io.ComfyNode]) -> dict[str, str]:
    """Prompt and workflow of the running graph under the keys, and on the conditions, of ComfyUI's Save Image."""
    if args.disable_metadata:
        return {}
    text = {} if node.hidden.prompt is None else {"prompt": json.dumps(node.hidden.prompt)}
    return text | {key: json.dumps(value) for key, value in (node.hidden.extra_pnginfo or {}).items()}


def temporary(subfolder: str, name: str, write: Callable[[Path], object]) -> ui.SavedResult:
    """A file for the page in ComfyUI's temporary folder. Written only if it is not there, so subfolder or name must depend on
    its content (`digest`)."""
    path = Path(folder_paths.get_temp_directory()) / subfolder / name
    if not path.exists():
        with whole(path) as part:
            write(part)
    return ui.SavedResult(name, subfolder, io.FolderType.temp)


def digest(content: bytes, *more: object) -> str:
    """32 hex digits that change with the content and with what else is given, such as the shape of an image."""
    return hashlib.sha256(repr(more).encode() + content).hexdigest()[:32]
