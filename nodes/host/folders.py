"""The folders for layered models: `layered_models` in ComfyUI's model folders, the pack's own, and that of LayerDiffuse; and the
pack's ControlNet and LoRA for its starter."""

from pathlib import Path

import folder_paths

from ...layerdiff_core.names import check_name

KEY = "layered_models"
LAYERDIFFUSE_KEY = "layer_model"
"""The folder where users of other packs keep LayerDiffuse's files."""
NO_FILE = "no LayerDiffuse file there yet"
PACK = Path(__file__).resolve().parent.parent.parent
STARTERS = PACK / "models"
EXTRAS = PACK / "extras"
"""The pack's files for ComfyUI's own lists, in folders that have the names of these lists. Not within STARTERS, because ComfyUI
also lists the files in the folders of a folder."""
EXTRA_KEYS = ("controlnet", "loras")
EXTENSIONS = {".safetensors"}


def register() -> None:
    """Registers the folders with ComfyUI. Folders from the user's extra_model_paths.yaml stay first."""
    models = Path(folder_paths.models_dir)
    for key, folder in ((KEY, models / KEY), (KEY, STARTERS), (LAYERDIFFUSE_KEY, models / LAYERDIFFUSE_KEY)):
        folder_paths.add_model_folder_path(key, str(folder))
        # Without extensions, ComfyUI would list every file.
        folder_paths.folder_names_and_paths[key][1].update(EXTENSIONS)
    for key in EXTRA_KEYS:
        folder_paths.add_model_folder_path(key, str(EXTRAS / key))


def model_names() -> list[str]:
    """The names of the model files, as ComfyUI lists them."""
    return folder_paths.get_filename_list(KEY)


def model_path(name: str) -> Path:
    """The path of a listed model. ValueError if it no longer exists."""
    path = folder_paths.get_full_path(KEY, name)
    if path is None:
        raise ValueError(f"There is no layered model called {name!r}. Put it into models/{KEY}, press R to refresh the "
                         "lists, and choose it again.")
    return Path(path)


def new_model_path(name: str) -> Path:
    """The path for a new model of this name, in the first model folder. ValueError if it is not a plain file name."""
    bare = name.strip().removesuffix(".safetensors")
    check_name(bare, "The adapter's name")
    return Path(folder_paths.get_folder_paths(KEY)[0]) / f"{bare}.safetensors"


def layerdiffuse_names() -> list[str]:
    """The names of files that may be LayerDiffuse's, as ComfyUI lists them: those in its own folder, then the user's layered
    models. NO_FILE if there are none, since an empty list would show as undefined."""
    users = [name for name in model_names() if STARTERS not in model_path(name).parents]
    return list(dict.fromkeys([*folder_paths.get_filename_list(LAYERDIFFUSE_KEY), *users])) or [NO_FILE]


def layerdiffuse_path(name: str) -> Path:
    """The path of a file of LayerDiffuse's. ValueError if it does not exist or none is chosen."""
    if name == NO_FILE:
        raise ValueError(f"No LayerDiffuse file is selected. Download one, put it into models/{LAYERDIFFUSE_KEY} or "
                         f"models/{KEY}, press R to refresh the lists, and choose it.")
    path = folder_paths.get_full_path(LAYERDIFFUSE_KEY, name) or folder_paths.get_full_path(KEY, name)
    if path is None:
        raise ValueError(f"There is no file called {name!r}. Download LayerDiffuse's file of that name, put it into "
                         f"models/{LAYERDIFFUSE_KEY} or models/{KEY}, press R to refresh the lists, and choose it.")
    return Path(path)
