"""Photoshop files, which nearly every image editor opens: layers with layer masks and blend modes, and the merged image."""

import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from psd_tools.constants import BlendMode, ChannelID, Compression, Resource, Tag
from psd_tools.psd import PSD
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.image_resources import ImageResource, ImageResources
from psd_tools.psd.layer_and_mask import (
    ChannelData,
    ChannelDataList,
    ChannelImageData,
    ChannelInfo,
    LayerAndMaskInformation,
    LayerFlags,
    LayerInfo,
    LayerRecord,
    LayerRecords,
    MaskData,
)
from psd_tools.psd.tagged_blocks import TaggedBlocks

from ..layers import Document, Layer
from ..whole import whole
from .pixels import file_layers, layer_rgba, merged_rgba
from .psd_layers import COLOURS, Found, read_flat, read_layers
from .safe import MAX_TEXT, FileError, Limits, find_property, reading

MODES = {
    "normal": BlendMode.NORMAL, "multiply": BlendMode.MULTIPLY, "screen": BlendMode.SCREEN, "overlay": BlendMode.OVERLAY,
    "darken": BlendMode.DARKEN, "lighten": BlendMode.LIGHTEN, "color-dodge": BlendMode.COLOR_DODGE,
    "color-burn": BlendMode.COLOR_BURN, "hard-light": BlendMode.HARD_LIGHT, "soft-light": BlendMode.SOFT_LIGHT,
    "difference": BlendMode.DIFFERENCE, "exclusion": BlendMode.EXCLUSION, "hue": BlendMode.HUE,
    "saturation": BlendMode.SATURATION, "color": BlendMode.COLOR, "luminosity": BlendMode.LUMINOSITY,
    "linear-dodge": BlendMode.LINEAR_DODGE, "linear-burn": BlendMode.LINEAR_BURN, "vivid-light": BlendMode.VIVID_LIGHT,
    "linear-light": BlendMode.LINEAR_LIGHT, "pin-light": BlendMode.PIN_LIGHT, "hard-mix": BlendMode.HARD_MIX,
    "subtract": BlendMode.SUBTRACT, "divide": BlendMode.DIVIDE,
}  # fmt: skip

NEAREST = {"grain-extract": BlendMode.SUBTRACT, "grain-merge": BlendMode.LINEAR_LIGHT}
"""Substitutes for blend modes that Photoshop does not have. The pack's own metadata restores the original modes."""

FOREIGN = {BlendMode.DARKER_COLOR: "darken", BlendMode.LIGHTER_COLOR: "lighten"}
"""Substitutes for Photoshop's blend modes that the pack does not have. All others become normal."""

READ_MODES = FOREIGN | {key: mode for mode, key in MODES.items()}

NAMESPACE = "urn:layerdiff/"
EXACT = f"{{{NAMESPACE}}}layers"
"""The pack's property in the file's XMP: JSON with what Photoshop's format cannot store about layers, by layer id."""

XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    f'xmlns:layerdiff="{NAMESPACE}">{{}}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
"""The wrapper of a file's XMP metadata. The id is defined by the standard and the same in every file."""

LONGEST_OLD_NAME = 255


def write_psd(document: Document, path: Path, text: dict[str, str], linear: bool = False, trim: bool = False) -> None:
    """Write a document as a Photoshop file with 8 bits per channel.

    Each layer has opaque colours, also where its mask hides them, and its coverage as a layer mask (none if it covers
    everything), with name, opacity, blend mode, visibility and position, also beyond the canvas. A layer that is scaled,
    rotated or flipped is written as it appears on the canvas. text: metadata, stored in the file's XMP. linear: for the merged
    image; Photoshop itself composites in display space. trim: crop each layer to its content. ValueError for values that are
    not finite. Source: Adobe Photoshop File Formats Specification.
    """
    layers = file_layers(document, trim)
    written = [_write_layer(number, layer) for number, layer in enumerate(layers, 1)]
    merged = merged_rgba(document, linear)
    transparent = bool(merged[..., 3].min() < 255)
    if transparent:  # Photoshop stores the merged image blended with white.
        alpha = merged[..., 3:] / 255
        merged[..., :3] = (merged[..., :3] * alpha + 255 * (1 - alpha)).round()
    planes = np.ascontiguousarray(merged[..., : 3 + transparent].transpose(2, 0, 1))
    width, height = document.canvas
    header = FileHeader(channels=len(planes), width=width, height=height)
    picture = ImageData(Compression.RLE)
    picture.set_data([each.tobytes() for each in planes], header)
    # A negative count means that the merged image has transparency.
    info = LayerInfo(-len(layers) if transparent else len(layers), LayerRecords([record for record, _ in written]),
                     ChannelImageData([channels for _, channels in written]))  # fmt: skip
    resources = ImageResources.new()
    resources[Resource.XMP_METADATA] = ImageResource(key=Resource.XMP_METADATA, data=_xmp(layers, text))
    with whole(path) as part, part.open("wb") as file:
        PSD(header=header, image_resources=resources, image_data=picture,
            layer_and_mask_information=LayerAndMaskInformation(info)).write(file)  # fmt: skip


def _write_layer(number: int, layer: Layer) -> tuple[LayerRecord, ChannelDataList]:
    rgba = layer_rgba(layer)
    height, width = rgba.shape[:2]
    planes = {ChannelID.TRANSPARENCY_MASK: np.full_like(rgba[..., 3], 255)}
    planes |= {ChannelID(colour): rgba[..., colour] for colour in range(3)}
    box = {"left": layer.x, "top": layer.y, "right": layer.x + width, "bottom": layer.y + height}
    masked = rgba[..., 3].min() < 255
    if masked:
        planes[ChannelID.USER_LAYER_MASK] = rgba[..., 3]
    channels = []
    for picture in planes.values():
        channel = ChannelData(Compression.RLE)
        channel.set_data(picture.tobytes(), width, height, 8)
        channels.append(channel)
    name = layer.name.encode("utf-16-be", "replace").decode("utf-16-be")
    old_name = name.encode("macroman", "replace")[:LONGEST_OLD_NAME].decode("macroman")
    blocks = TaggedBlocks()
    blocks.set_data(Tag.UNICODE_LAYER_NAME, name)
    blocks.set_data(Tag.LAYER_ID, number)
    record = LayerRecord(
        **box, channel_info=[ChannelInfo(key) for key in planes], blend_mode=_mode_key(layer.blend_mode),
        opacity=_opacity_byte(layer.opacity), flags=LayerFlags(visible=layer.visible),
        mask_data=MaskData(**box) if masked else None, name=old_name, tagged_blocks=blocks,
    )  # fmt: skip
    return record, ChannelDataList(channels)


def _mode_key(mode: str) -> BlendMode:
    return MODES.get(mode) or NEAREST[mode]


def _opacity_byte(opacity: float) -> int:
    return round(255 * opacity)


def _xmp(layers: list[Layer], text: dict[str, str]) -> bytes:
    exact = [{"id": number, "opacity": layer.opacity, "blend_mode": layer.blend_mode}
             for number, layer in enumerate(layers, 1)]  # fmt: skip
    properties = {"layers": json.dumps(exact), "text": json.dumps(text)}
    elements = [f"<layerdiff:{name}>{escape(value)}</layerdiff:{name}>" for name, value in properties.items()]
    return XMP.format("".join(elements)).encode()


def read_psd(path: Path) -> Document:
    """Read a Photoshop file (PSD or PSB, RGB or grey, 8 or 16 bits). Groups are replaced by their layers.

    A group's visibility, opacity and mask are applied to its layers, and clipped layers are masked by the layer they are
    clipped to. Layers without pixels (adjustments, empty layers) become one transparent pixel; effects are ignored. A file
    without layers gives one layer with its image. Values that the format rounds are restored exactly if the file has them in
    its metadata and they were not changed since. ValueError if the file is damaged, exceeds safe.Limits, or has another
    colour mode.
    """
    limits = Limits(path.name)
    with reading(path.name):
        with path.open("rb") as file:
            psd = PSD.read(file)
        header = psd.header
        if header.color_mode not in COLOURS or header.depth not in (8, 16):
            raise FileError(f"{path.name} is {header.color_mode.name}, {header.depth} bits per channel. Only RGB and grayscale "
                            "with 8 or 16 bits per channel are supported. Convert it in the program that created "
                            "it.")  # fmt: skip
        limits.canvas(header.width, header.height)
        exact = _read_exact(psd.image_resources.get_data(Resource.XMP_METADATA, b""), path.name)
        records, channels = _packed_layers(psd)
        if not records:
            found = [read_flat(psd.image_data, header, limits)]
        else:
            del psd  # so that packed pixels are freed as soon as they are unpacked
            found = read_layers(records, channels, header, limits)
        layers: list[Layer] = []
        while found:  # so that each entry is freed as soon as it has become a layer
            layers.append(_to_layer(found.pop(0), exact, len(layers) + 1))
        return Document(layers, (header.width, header.height))


def _packed_layers(psd: PSD) -> tuple[list[LayerRecord], list[ChannelDataList]]:
    blocks = psd.layer_and_mask_information.tagged_blocks
    info = None if blocks is None else blocks.get_data(Tag.LAYER_16)
    info = info or psd.layer_and_mask_information.layer_info
    return ([], []) if info is None else (list(info.layer_records), list(info.channel_image_data))


def _read_exact(xmp: bytes, file: str) -> dict[int, dict[str, Any]]:
    """The metadata written by write_psd, by layer id. Editors may rewrite it as an element or an attribute."""
    if NAMESPACE.encode() not in xmp:
        return {}
    found = find_property(xmp, f"The metadata of {file}", EXACT)
    if len(found) > MAX_TEXT:
        raise FileError(f"The layer metadata of {file} is too large. Save it again.")
    return {facts["id"]: facts for facts in json.loads(found)} if found else {}


def _to_layer(found: Found, exact: dict[int, dict[str, Any]], number: int) -> Layer:
    """Convert the result of read_layers to a layer, with a document's opacity and blend mode."""
    mode, opacity = READ_MODES.get(found.key, "normal"), found.opacity / 255
    facts = {} if found.id is None else exact.get(found.id, {})
    # Only values that are still as written, because an editor may have changed them.
    if facts and _mode_key(facts["blend_mode"]) is found.key:
        mode = facts["blend_mode"]
    if facts and _opacity_byte(facts["opacity"]) == found.opacity:
        opacity = facts["opacity"]
    return Layer.of(found.image, found.coverage, number, name=found.name, x=found.x, y=found.y, visible=found.visible,
                    blend_mode=mode, opacity=opacity * found.share)  # fmt: skip
