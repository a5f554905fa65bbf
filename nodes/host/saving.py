"""Where ComfyUI saves files, and the metadata it writes into them."""

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
    """Where ComfyUI saves files with this prefix and a canvas of this width and height.

    Returns the folder, the start of the file names with an unused counter, and the subfolder as the page requests it. ComfyUI
    raises an error if the prefix leads outside the output folder; ValueError if it cannot be used in file names.
    """
    # ComfyUI's placeholder for the number within a batch. The layers of a document are not a batch; each has its own number.
    prefix = filename_prefix.replace("%batch_num%", "0")
    if os.path.basename(os.path.normpath(prefix)) == "." or prefix.endswith(("/", os.sep)):
        # ComfyUI's counter would stay at 1 here, so each file would overwrite the one before.
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
    """The prompt and workflow of the running graph, with the same keys and settings as in ComfyUI's Save Image."""
    if args.disable_metadata:
        return {}
    text = {} if node.hidden.prompt is None else {"prompt": json.dumps(node.hidden.prompt)}
    return text | {key: json.dumps(value) for key, value in (node.hidden.extra_pnginfo or {}).items()}


def temporary(subfolder: str, name: str, write: Callable[[Path], object]) -> ui.SavedResult:
    """Writes a file for the page to ComfyUI's temporary folder, unless it is there already: subfolder or name must depend on
    its content (see `digest`)."""
    path = Path(folder_paths.get_temp_directory()) / subfolder / name
    # Unlike Path.exists, this is False for a name that is too long, which `whole` then explains.
    if not os.path.exists(path):
        with whole(path) as part:
            write(part)
    return ui.SavedResult(name, subfolder, io.FolderType.temp)


def digest(content: bytes, *more: object) -> str:
    """Returns 32 hex digits that depend on the content and on anything else given, such as the shape of an image."""
    return hashlib.sha256(repr(more).encode() + content).hexdigest()[:32]
