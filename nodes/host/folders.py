"""Where layered models lie: ComfyUI's folder `layered_models`, wherever the user keeps models, and the pack's own."""

from pathlib import Path

import folder_paths

from ...layerdiff_core.names import check_name

KEY = "layered_models"
STARTERS = Path(__file__).resolve().parent.parent.parent / "models"
EXTENSIONS = {".safetensors"}


def register() -> None:
    """Make the folder known to ComfyUI. Folders that the user's extra_model_paths.yaml gave for it stay first."""
    for folder in (Path(folder_paths.models_dir) / KEY, STARTERS):
        folder_paths.add_model_folder_path(KEY, str(folder))
    # ComfyUI knows no extensions for a key of ours and would list every file.
    folder_paths.folder_names_and_paths[KEY][1].update(EXTENSIONS)


def model_names() -> list[str]:
    """Names of the model files, as ComfyUI lists them."""
    return folder_paths.get_filename_list(KEY)


def model_path(name: str) -> Path:
    """The path of a model that ComfyUI listed. ValueError when it has gone."""
    path = folder_paths.get_full_path(KEY, name)
    if path is None:
        raise ValueError(f"There is no layered model called {name!r}. Put it into models/{KEY}, press R to refresh the "
                         "lists, and choose it again.")
    return Path(path)


def new_model_path(name: str) -> Path:
    """Where a new model of this name is written: the user's first folder. ValueError for what is no plain file name."""
    bare = name.strip().removesuffix(".safetensors")
    check_name(bare, "The adapter's name")
    return Path(folder_paths.get_folder_paths(KEY)[0]) / f"{bare}.safetensors"
