"""Nodes that exchange layers with image editors: PSD, OpenRaster, a folder of PNG files, an animation."""

import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..layerdiff_core.edits import apply_edits
from ..layerdiff_core.export import save_png
from ..layerdiff_core.files.animation import write_animation
from ..layerdiff_core.files.ora import read_ora, write_ora
from ..layerdiff_core.files.pixels import merged_rgba
from ..layerdiff_core.files.png_folder import INDEX, read_png_folder, write_png_folder
from ..layerdiff_core.layers import Document
from ..layerdiff_core.whole import is_unfinished
from .host.panel import panel_ui
from .host.saving import digest, output_place, temporary, workflow_text
from .host.types import LAYERS
from .inputs import LINEAR, colour_space_input, edits_input

ENDINGS = {"psd": ".psd", "ora": ".ora", "png folder": "", "animation": ".webp"}
PREVIEWS = "layerdiff_export"
READ_ENDINGS = (".psd", ".psb", ".ora")
NO_FILE = "no layered file there yet"
"""The only choice in the list of files when the input folder has no layered file."""


class LayerDiffExportLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffExportLayers",
            display_name="Export Layers to File",
            category="LayerDiff/export",
            description="Exports the layers to a file for image editors, with names, masks, opacity, blend modes, positions, "
            "hidden layers and the workflow. Import Layers from File loads it again.",
            search_aliases=["save psd", "photoshop", "openraster", "gimp", "krita", "export layers", "layered file"],
            is_output_node=True,
            inputs=[
                LAYERS.Input("layers", tooltip="The layers to export, including hidden ones."),
                io.String.Input("filename_prefix", default="LayerDiff",
                                tooltip="Prefix of the file name, as in Save Image. It may contain subfolders and "
                                "placeholders such as %date:yyyy-MM-dd% or %width%. A counter is added."),
                io.Combo.Input("format", options=list(ENDINGS), default="psd",
                               tooltip="psd: for Photoshop, GIMP, Krita, Affinity and Photopea; keeps layer masks. ora: "
                               "OpenRaster, "
                               "for Krita, GIMP and MyPaint. png folder: one PNG per layer and a layers.json, for scripts "
                               "and game engines. animation: a WebP that adds one layer at a time."),
                io.Boolean.Input("trim", default=False,
                                 tooltip="Crop each layer to its content, which makes the file smaller. The image stays the "
                                 "same. Has no effect on an animation."),
                colour_space_input(),
                edits_input(),
            ],
            outputs=[LAYERS.Output("edited", display_name="layers",
                                   tooltip="The exported layers, with the layer panel's edits applied.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, layers: dict[str, Any], filename_prefix: str, format: str, trim: bool, colour_space: str, edits: str = ""
    ) -> io.NodeOutput:
        linear = colour_space == LINEAR
        document = Document.from_socket(layers)
        edited, stale = apply_edits(document, edits)
        folder, stem, _ = output_place(filename_prefix, edited.canvas)
        path, text = folder / f"{stem}_{ENDINGS[format]}", workflow_text(cls)
        # Written before the file, so that nothing can fail after the file exists. Browsers can only show the animation.
        shown = panel_ui(document, stale, linear)
        preview = None if format == "animation" else _preview(path.name, edited, linear, text)
        _write(format, edited, path, text, linear, trim)
        saved = [_listed(file) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        shown |= {"images": [preview], "animated": (False,)} if preview else {"images": saved, "animated": (True,)}
        return io.NodeOutput(edited.to_socket(), ui=shown | {"files": saved})


def _preview(name: str, document: Document, linear: bool, text: dict[str, str]) -> ui.SavedResult:
    """Saves a preview of a file that browsers cannot show to the temporary folder, under the file's name."""
    pixels = merged_rgba(document, linear)
    return temporary(f"{PREVIEWS}/{digest(pixels.tobytes(), pixels.shape, text)}", f"{name}.png",
                     lambda path: save_png(path, pixels, text, level=1))


def _listed(file: Path) -> dict[str, Any]:
    """A saved file as the page lists and requests it: name, subfolder of the output folder, and size in bytes."""
    folder = file.parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return ui.SavedResult(file.name, "" if folder == "." else folder, io.FolderType.output) | {"size": file.stat().st_size}


class LayerDiffImportLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffImportLayers",
            display_name="Import Layers from File",
            category="LayerDiff/load",
            description="Imports layers from a file in the input folder: PSD, PSB, OpenRaster, or the layers.json of a PNG "
            "folder. If the file changes, it is read again on the next run.",
            search_aliases=["load psd", "open psd", "photoshop", "openraster", "load layers", "read layered file"],
            inputs=[io.Combo.Input("file", options=_readable_files() or [NO_FILE],
                                   tooltip="A .psd, .psb or .ora file, or a layers.json, in the input folder or one of its "
                                   "subfolders. Press R to refresh the list.")],
            outputs=[
                LAYERS.Output("layers", display_name="layers", tooltip="The layers of the file. Groups are "
                              "flattened into a plain list of layers."),
                io.Int.Output("count", tooltip="The number of layers, including hidden ones."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        document = _read(_checked(file))
        return io.NodeOutput(document.to_socket(), len(document.layers))

    @classmethod
    def fingerprint_inputs(cls, file: str | None) -> str | float:
        if file is None:  # the name comes over a link, so a changed file cannot be detected here: always read it again
            return float("nan")  # a new object, since ComfyUI would find the same math.nan equal to itself
        path, digest = _checked(file), hashlib.sha256()
        for part in [path, *sorted(path.parent.glob("*.png"))] if path.name == INDEX else [path]:
            digest.update(hashlib.sha256(part.read_bytes()).digest())
        return digest.hexdigest()

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        if file is None:  # missing, which ComfyUI reports itself, or comes over a link, which execute checks
            return True
        try:
            _checked(file)
        except ValueError as error:
            return str(error)
        return True


def _checked(file: Any) -> Path:
    """The path of the file that the user chose. ValueError if it does not exist or is not a supported file."""
    if file in (None, "", NO_FILE, "undefined"):  # the page sends "undefined" for an empty list
        raise ValueError(f"No file is selected. Put a .psd, .psb or .ora file, or a PNG folder with its {INDEX}, in the input "
                         f"folder, press R to refresh the list, and choose it.")
    if not isinstance(file, str):
        raise ValueError(f"The file is {file!r}, but the name of a file in the input folder was expected.")
    if not folder_paths.exists_annotated_filepath(file):
        raise ValueError(f"There is no file {file!r} in the input folder. Put it there, press R to refresh the list, and choose "
                         "it.")
    path = Path(folder_paths.get_annotated_filepath(file))
    if not _is_readable(path):
        raise ValueError(f"{file!r} is not a supported file. Choose a .psd, .psb or .ora file or a {INDEX}.")
    return path


def _is_readable(path: Path) -> bool:
    return (path.name == INDEX or path.suffix.lower() in READ_ENDINGS) and not is_unfinished(path)


def _readable_files() -> list[str]:
    files, _ = folder_paths.recursive_search(folder_paths.get_input_directory(), [".git"])
    return sorted(Path(file).as_posix() for file in files if _is_readable(Path(file)))


def _write(format: str, document: Document, path: Path, text: dict[str, str], linear: bool, trim: bool) -> None:
    if format == "psd":
        _psd().write_psd(document, path, text, linear, trim)
    elif format == "ora":
        write_ora(document, path, text, linear, trim)
    elif format == "png folder":
        write_png_folder(document, path, text, linear, trim)
    else:
        write_animation(document, path, text, linear)


def _read(path: Path) -> Document:
    if path.name == INDEX:
        return read_png_folder(path)
    return read_ora(path) if path.suffix.lower() == ".ora" else _psd().read_psd(path)


def _psd() -> ModuleType:
    """The PSD module. Imported on demand, so that the other formats work without psd-tools."""
    try:
        from ..layerdiff_core.files import psd
    except ModuleNotFoundError as error:
        raise ValueError(f"PSD requires the Python package psd-tools, which is not installed ({error}). Install it with the "
                         "Python that runs ComfyUI: python -m pip install psd-tools. Then restart ComfyUI. The format ora does "
                         "not need it.") from None  # fmt: skip
    return psd


NODES = [LayerDiffExportLayers, LayerDiffImportLayers]
