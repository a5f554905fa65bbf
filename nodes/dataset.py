"""Nodes that save layered scenes to a dataset and load them."""

import re
from pathlib import Path
from typing import Any

import folder_paths
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..layerdiff_core.datasets.appending import append
from ..layerdiff_core.datasets.dataset import Dataset, remarks, shards_of, sheet
from ..layerdiff_core.datasets.sample import Sample, carried_prompts
from ..layerdiff_core.layers import Document
from ..layerdiff_core.names import check_name
from ..layerdiff_core.prompts import parse_layer_prompts
from .host.types import LAYERS
from .host.warnings import warnings_ui
from .inputs import check_limits

FOLDER = "layered_datasets"
"""The folder for datasets in the output folder and in the input folder."""

IN_OUTPUT = " [output]"
NO_DATASET = "no dataset there yet"
SAID = 5
"""The maximum number of faults in a warning."""


class LayerDiffSaveSceneToDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffSaveSceneToDataset",
            display_name="Save Scene to Dataset",
            category="LayerDiff/dataset",
            description="Adds the layers with their prompts to a dataset for training, in the folder "
            f"{FOLDER} of the output folder. A scene that is there already is not added again.",
            search_aliases=["save dataset", "append dataset", "training data", "webdataset", "layered dataset", "save layers"],
            is_output_node=True,
            inputs=[
                LAYERS.Input("layers", tooltip="The layers to save, including hidden ones. The bottom layer is the background."),
                io.String.Input("dataset", default="my_scenes",
                                tooltip=f"Name of the dataset, a folder in output/{FOLDER}. It is created if needed."),
                io.String.Input("prompt", multiline=True, default="",
                                tooltip="What the whole image shows. If it is empty, the prompt that the layers carry is used; "
                                "layers from Load Layered Dataset carry one."),
                io.String.Input("layer_prompts", multiline=True, default="",
                                tooltip="What each layer shows, one per line, bottom layer first, as name: prompt or just the "
                                "prompt. If it is empty, the prompts that the layers carry are used, or their names."),
                io.Boolean.Input("background_complete", default=True,
                                 tooltip="Whether the bottom layer also shows what is behind the other layers. Turn this off if "
                                 "the objects are still in it and it has to be inpainted before training."),
                io.String.Input("source", default="", tooltip="Where the image comes from, such as a URL or a file name."),
                io.String.Input("licence", default="", tooltip="The licence of the image, such as CC-BY-4.0."),
            ],
            outputs=[
                LAYERS.Output("same_layers", display_name="layers", tooltip="The layers, unchanged."),
                io.Int.Output("count", display_name="count", tooltip="The number of scenes in the dataset."),
            ],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], dataset: str, prompt: str, layer_prompts: str, background_complete: bool,
                source: str, licence: str) -> io.NodeOutput:
        name = dataset.strip()
        check_name(name, "The dataset's name")
        document = Document.from_socket(layers)
        carried, each = carried_prompts(document)
        told = [each for _, each in parse_layer_prompts(layer_prompts)] if layer_prompts.strip() else []
        sample = Sample(document, prompt.strip() or carried, told or each, source.strip(), licence.strip(),
                        complete=background_complete)
        folder = Path(folder_paths.get_output_directory()) / FOLDER / name
        _, added = append(folder, sample)
        said = [f"This scene may not be good for training: {reason}." for reason in remarks(sample)]
        if not added:
            said = ["This scene is in the dataset already, and was not added again."]
        return io.NodeOutput(layers, len(Dataset(folder)), ui=warnings_ui(said))


class LayerDiffLoadDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffLoadDataset",
            display_name="Load Layered Dataset",
            category="LayerDiff/dataset",
            description="Loads a page of scenes from a dataset. The nodes that follow run once for each scene. Scenes that "
            "cannot be read are left out, and a warning says why.",
            # Lets the page show the warnings again after a reload, when the node is cached and does not run.
            has_intermediate_output=True,
            search_aliases=["load dataset", "training data", "webdataset", "layered dataset", "browse dataset", "contact sheet"],
            inputs=[
                io.Combo.Input("dataset", options=_datasets() or [NO_DATASET],
                               tooltip=f"A folder with .tar files in input/{FOLDER} or output/{FOLDER}. Press R to refresh the "
                               "list."),
                io.Int.Input("page", default=0, min=0, max=1_000_000_000,
                             control_after_generate=io.ControlAfterGenerate.fixed,
                             tooltip="Number of the page, from 0. Set control after generate to increment to go through the "
                             "dataset."),
                io.Int.Input("page_size", default=8, min=1, max=256, tooltip="The number of scenes per page."),
            ],
            outputs=[
                LAYERS.Output("layers", display_name="layers", is_output_list=True,
                              tooltip="The layers of each scene, with their prompts."),
                io.String.Output("prompt", display_name="prompt", is_output_list=True,
                                 tooltip="The prompt of each scene."),
                io.String.Output("layer_prompts", display_name="layer prompts", is_output_list=True,
                                 tooltip="The layer prompts of each scene, one per line as name: prompt, for Encode Layer "
                                 "Prompts."),
                io.Image.Output("sheet", display_name="sheet",
                                tooltip="The scenes of the page in one image. One row per scene: the composite, then its "
                                "layers."),
                io.Int.Output("count", display_name="count", tooltip="The number of scenes in the dataset."),
                io.Int.Output("pages", display_name="pages", tooltip="The number of pages."),
            ],
        )

    @classmethod
    def execute(cls, dataset: str, page: int, page_size: int) -> io.NodeOutput:
        check_limits(cls, page=page, page_size=page_size)
        folder = _checked(dataset)
        # The bars also stop the run when the user interrupts it.
        listing = ProgressBar(len(shards_of(folder)))
        found = Dataset(folder, lambda: listing.update(1))
        pages = -(-len(found) // page_size)
        if page >= pages:
            raise ValueError(f"There is no page {page}: the dataset {dataset!r} has {len(found)} scenes on {pages} pages, "
                             f"numbered 0 to {pages - 1}. Enter a smaller number." if pages else
                             f"The dataset {dataset!r} has no readable scenes. {_listed(found.faults)}")
        loading = ProgressBar(page_size)
        samples, faults = found.page(page, page_size, lambda: loading.update(1))
        if not samples:
            raise ValueError(f"No scene on page {page} can be read. {_listed(faults)}")
        said = [f"Left out: {_listed(part)}" for part in (faults, found.faults) if part]
        shown = sheet(samples)
        return io.NodeOutput(
            [sample.with_prompts().to_socket() for sample in samples], [sample.prompt for sample in samples],
            ["\n".join(_line(layer.name, prompt) for layer, prompt in zip(sample.document.layers, sample.layer_prompts))
             for sample in samples],
            shown, len(found), pages, ui=warnings_ui(said) | ui.PreviewImage(shown, cls=cls).as_dict())

    @classmethod
    def fingerprint_inputs(cls, dataset: str | None, page: Any, page_size: Any) -> str | float:
        if dataset is None:  # the name comes over a link, so changed files cannot be detected here: always read them again
            return float("nan")
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards_of(_checked(dataset))]
        return repr((files, page, page_size))

    @classmethod
    def validate_inputs(cls, dataset: str | None = None) -> bool | str:
        if dataset is None:  # missing, which ComfyUI reports itself, or comes over a link, which execute checks
            return True
        try:
            _checked(dataset)
        except ValueError as error:
            return str(error)
        return True


def _line(name: str, prompt: str) -> str:
    """A layer's line for Encode Layer Prompts."""
    title = re.sub(r"[:()\s\\]+", " ", name).strip()
    return f"{title}: {' '.join(prompt.split()) or title}"


def _listed(faults: list[Any]) -> str:
    more = f" And {len(faults) - SAID} more." if len(faults) > SAID else ""
    return " ".join(f"{fault}." for fault in faults[:SAID]) + more


def _roots() -> dict[str, Path]:
    """The folders for datasets, with what follows the names of those in them in the list."""
    return {"": Path(folder_paths.get_input_directory()) / FOLDER, IN_OUTPUT: Path(folder_paths.get_output_directory()) / FOLDER}


def _datasets() -> list[str]:
    """The datasets as the page lists them."""
    return [folder.name + mark for mark, root in _roots().items() if root.is_dir()
            for folder in sorted(root.iterdir()) if folder.is_dir() and shards_of(folder)]


def _checked(dataset: Any) -> Path:
    """The folder of the dataset that the user chose. ValueError if there is none."""
    if dataset in (None, "", NO_DATASET, "undefined"):  # the page sends "undefined" for an empty list
        raise ValueError(f"No dataset is selected. Save scenes with Save Scene to Dataset, or put a folder with .tar files into "
                         f"input/{FOLDER}, press R to refresh the list, and choose it.")
    if not isinstance(dataset, str) or dataset not in _datasets():
        raise ValueError(f"There is no dataset {str(dataset)[:100]!r} in input/{FOLDER} or output/{FOLDER}. Press R to refresh "
                         "the list, and choose one of it.")
    mark = IN_OUTPUT if dataset.endswith(IN_OUTPUT) else ""
    return _roots()[mark] / dataset.removesuffix(mark)


NODES = [LayerDiffSaveSceneToDataset, LayerDiffLoadDataset]
