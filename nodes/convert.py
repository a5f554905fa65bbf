"""Nodes that make layers from images and masks, take one layer out, and merge layers from different sources."""

from typing import Any

import torch
from comfy.utils import ProgressBar
from comfy_api.latest import io

from ..layerdiff_core.convert import check_masks, get_layer, images_to_layers, layer_number, merge_documents
from ..layerdiff_core.cut import ORDERS, layers_from_masks
from ..layerdiff_core.edges import EMPTY
from ..layerdiff_core.layer_fields import MAX_SIDE
from ..layerdiff_core.layers import MAX_LAYERS, Document
from .host.types import LAYERS
from .host.warnings import warnings_ui
from .inputs import check_limits

COVERED, TRANSPARENT = "covered", "transparent"
ON_CANVAS, OWN_PIXELS = "on the canvas", "own pixels"
BOTTOM_FIRST, TOP_FIRST = "bottom first", "top first"


class LayerDiffImagesToLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffImagesToLayers",
            display_name="Images to Layers",
            category="LayerDiff/convert",
            description="Makes layers from a batch of images: from images with transparency, as Qwen-Image-Layered outputs them, "
            "or from images and masks.",
            # Lets the page show the warnings again after a reload, when the node is cached and does not run.
            has_intermediate_output=True,
            search_aliases=["batch to layers", "rgba to layers", "qwen image layered", "create layers", "image batch to layers",
                            "stack images", "png to layers", "alpha"],
            inputs=[
                io.Image.Input("images", tooltip="A batch with one image per layer. Images with an alpha channel (RGBA) need no "
                               "masks. Batch Images combines single images."),
                io.Mask.Input("masks", optional=True, tooltip="One mask per image, or one for all of them. With a single image, "
                              "one layer per mask. Masks of another size are scaled. Combined with the alpha channel if the "
                              "images have one."),
                mask_means_input(),
                io.Combo.Input("order", options=[BOTTOM_FIRST, TOP_FIRST], default=BOTTOM_FIRST,
                               tooltip="bottom first: the first image is the background. top first: the first image is the top "
                               "layer."),
                io.Boolean.Input("skip_first", default=False,
                                 tooltip="Leave out the first image and its mask. Turn this on for Qwen-Image-Layered, which "
                                 "outputs the whole image first, then the layers."),
                names_input("in the order of the images, without the one that is left out"),
            ],
            outputs=[LAYERS.Output("layers", display_name="layers", tooltip="The layers. They fill the canvas.")],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, mask_means: str, order: str, skip_first: bool, names: str,
                masks: torch.Tensor | None = None) -> io.NodeOutput:
        coverage = None if masks is None else as_coverage(masks, mask_means)
        document = images_to_layers(images, coverage, names, order == TOP_FIRST, skip_first)
        return io.NodeOutput(document.to_socket(), ui=warnings_ui(said_of(document, masks is not None)))


class LayerDiffLayersFromMasks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffLayersFromMasks",
            display_name="Layers From Masks",
            category="LayerDiff/convert",
            description="Cuts an image into a background and a layer for each mask, with soft edges that contain no colours of "
            "the old background. The composite looks like the image.",
            # Lets the page show the warnings again after a reload, when the node is cached and does not run.
            has_intermediate_output=True,
            search_aliases=["cut out", "cutout", "segment to layers", "sam to layers", "image to layers", "split image",
                            "masks to layers", "decontaminate colours", "extract object"],
            inputs=[
                io.Image.Input("image", tooltip="The image to cut."),
                io.Mask.Input("masks", tooltip="One mask per layer, for example from SAM3 Detect with individual_masks, or from "
                              "Batch Masks. Masks of another size are scaled. Where masks overlap, the pixel belongs to the "
                              "upper layer."),
                io.Image.Input("background", optional=True,
                               tooltip="The image without the objects, used as the bottom layer. An inpainting model can make "
                               "it. If not connected, the bottom layer is the image itself, with the objects still in it."),
                mask_means_input(),
                io.Combo.Input("order", options=list(ORDERS), default=ORDERS[0],
                               tooltip="Which layers are in front and own the pixels where masks overlap. largest at the "
                               "bottom: small objects are in front of large ones. first at the bottom, first on top: the order "
                               "of the masks."),
                io.Float.Input("softness", default=1.0, min=0.0, max=64.0, step=0.1,
                               tooltip="Width of the soft edge, in pixels. 0 keeps the edges of the masks, for masks that are "
                               "soft already."),
                names_input("in the order of the masks, without the background"),
            ],
            outputs=[LAYERS.Output("layers", display_name="layers", tooltip="The background and the layers cut from the image.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, masks: torch.Tensor, mask_means: str, order: str, softness: float, names: str,
                background: torch.Tensor | None = None) -> io.NodeOutput:
        check_limits(cls, softness=softness)
        coverage = as_coverage(masks, mask_means)
        # The bar also stops the run when the user interrupts it.
        progress = ProgressBar(len(coverage))
        document = layers_from_masks(image, coverage, background, names, order, softness, lambda: progress.update(1))
        return io.NodeOutput(document.to_socket(), ui=warnings_ui(said_of(document, True)))


class LayerDiffGetLayer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffGetLayer",
            display_name="Get Layer",
            category="LayerDiff/convert",
            description="Outputs the image, mask and position of one layer, for nodes that work with images.",
            search_aliases=["layer to image", "extract layer", "layer mask", "select layer", "split layers", "pick layer"],
            inputs=[
                LAYERS.Input("layers", tooltip="The layers. One of them is output."),
                io.Int.Input("layer", default=1, min=0, max=MAX_LAYERS - 1,
                             tooltip="Number of the layer. 0 is the background."),
                io.String.Input("name", default="", tooltip="Name of the layer. If it is not empty, it is used instead of the "
                                "number."),
                io.Combo.Input("pixels", options=[ON_CANVAS, OWN_PIXELS], default=ON_CANVAS,
                               tooltip="on the canvas: as large as the canvas, with the layer moved, scaled and rotated. own "
                               "pixels: the layer alone in its original size, including parts beyond the canvas."),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The layer's colours, without transparency. They extend "
                                "beyond the edge of the mask."),
                io.Mask.Output("coverage", display_name="coverage", tooltip="1 where the layer is present, 0 where it is "
                               "transparent. The layer's opacity is not included."),
                io.Mask.Output("transparency", display_name="transparency", tooltip="The inverse of coverage: 1 where the layer "
                               "is transparent, as in Load Image. For Join Image with Alpha."),
                io.Int.Output("x", display_name="x", tooltip="Left edge of the layer on the canvas, in pixels, before rotation."),
                io.Int.Output("y", display_name="y", tooltip="Top edge of the layer on the canvas, in pixels, before rotation."),
                io.Int.Output("width", display_name="width", tooltip="Width of the layer on the canvas, before rotation."),
                io.Int.Output("height", display_name="height", tooltip="Height of the layer on the canvas, before rotation."),
                io.String.Output("layer_name", display_name="name", tooltip="The layer's name."),
            ],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], layer: int, name: str, pixels: str) -> io.NodeOutput:
        document = Document.from_socket(layers)
        number = layer_number(document, layer, name)
        chosen = document.layers[number]
        image, coverage = get_layer(document, number, pixels == ON_CANVAS)
        return io.NodeOutput(image, coverage, 1 - coverage, chosen.x, chosen.y, chosen.w, chosen.h, chosen.name)


class LayerDiffMergeLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffMergeLayers",
            display_name="Merge Layers",
            category="LayerDiff/convert",
            description="Puts the layers of two sources on one canvas, one stack on top of the other. All of them remain "
            "separate layers; to flatten them into one image, use Composite Layers.",
            search_aliases=["combine layers", "add layers", "join layers", "stack layers", "append layers", "concat layers"],
            inputs=[
                LAYERS.Input("layers", tooltip="The layers at the bottom. The result has their canvas."),
                LAYERS.Input("above", tooltip="The layers to put on top."),
                io.Int.Input("x", default=0, min=-MAX_SIDE, max=MAX_SIDE,
                             tooltip="How far to move the upper layers to the right, in pixels. At 0, the upper left "
                             "corners of both canvases coincide."),
                io.Int.Input("y", default=0, min=-MAX_SIDE, max=MAX_SIDE,
                             tooltip="How far to move the upper layers down, in pixels."),
            ],
            outputs=[LAYERS.Output("merged", display_name="layers", tooltip="All layers, at most 50.")],
        )

    @classmethod
    def execute(cls, layers: dict[str, Any], above: dict[str, Any], x: int, y: int) -> io.NodeOutput:
        check_limits(cls, x=x, y=y)
        return io.NodeOutput(merge_documents(Document.from_socket(layers), Document.from_socket(above), x, y).to_socket())


def mask_means_input() -> Any:
    """The input that says which of the two meanings a mask has."""
    return io.Combo.Input(
        "mask_means", options=[COVERED, TRANSPARENT], default=COVERED,
        tooltip="What 1 (white) in the masks means. covered: the layer is present, as in masks from SAM3 Detect and Remove "
        "Background and in Decode Layers' coverage. transparent: the layer is absent, as in masks from Load Image and Split "
        "Image with Alpha.")


def names_input(order: str) -> Any:
    """The input for the names of layers. order: how the lines correspond to the layers, for the tooltip."""
    return io.String.Input("names", multiline=True, default="",
                           tooltip=f"Layer names, one per line, {order}. Layers without a name are numbered.")


def as_coverage(masks: torch.Tensor, means: str) -> torch.Tensor:
    """Masks with 1 = covered. ValueError if they are not masks."""
    check_masks(masks)
    return 1 - masks if means == TRANSPARENT else masks


def said_of(document: Document, has_masks: bool) -> list[str]:
    """Warnings about layers in which nothing is visible."""
    empty = [f'"{layer.name}"' for layer in document.layers if layer.coverage.amax() < EMPTY]
    if not empty:
        return []
    advice = "Check their masks, and whether mask_means is right." if has_masks else "Check the node that created them."
    return [f"Empty layers: {', '.join(empty[:10])}{', ...' * (len(empty) > 10)}. {advice}"]


NODES = [LayerDiffImagesToLayers, LayerDiffLayersFromMasks, LayerDiffGetLayer, LayerDiffMergeLayers]
