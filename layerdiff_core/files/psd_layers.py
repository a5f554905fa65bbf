"""Reads the layers of a Photoshop file: turns their records and packed channels into pixels and properties."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from zlib import decompressobj

import numpy as np
import torch
from psd_tools.compression import decode_rle
from psd_tools.constants import BlendMode, ChannelID, Clipping, ColorMode, Compression, SectionDivider, Tag
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.layer_and_mask import ChannelData, LayerRecord

from .safe import MAX_PIXELS, FileError, Limits

COLOURS = {ColorMode.RGB: (0, 1, 2), ColorMode.GRAYSCALE: (0, 0, 0)}
"""The supported colour modes, with the channels that hold red, green and blue."""

Box = tuple[int, int, int, int]
"""Left, top, width and height on the canvas."""


@dataclass
class Found:
    """A layer as read from its record and channels, before groups and clipping are applied.

    image: [1,h,w,3]. coverage: [1,h,w], 0..1. opacity: 0..255. key: its blend mode. id: None if it has none. share: 0..1,
    a further opacity, from groups and Photoshop's fill opacity.
    """

    image: torch.Tensor
    coverage: torch.Tensor
    name: str
    x: int = 0
    y: int = 0
    opacity: int = 255
    key: BlendMode | None = None
    id: int | None = None
    share: float = 1.0
    visible: bool = True

    @property
    def box(self) -> Box:
        """The layer's box on the canvas."""
        height, width = self.coverage.shape[1:]
        return self.x, self.y, width, height

    def cover(self, coverage: np.ndarray | None) -> None:
        """Multiply the layer's coverage by another one, uint8 of the same size."""
        if coverage is not None and coverage.min() < 255:
            # In place, because the layer may be as large as the limits allow and a copy would double that.
            self.coverage.mul_(torch.from_numpy(coverage.copy())).div_(255)


def read_layers(records: list[LayerRecord], channels: list[Any], header: FileHeader, limits: Limits) -> list[Found]:
    """The layers of a file, bottom first, from its records and packed channels. Empties `channels` to free memory.

    FileError if the file is damaged.
    """
    layers: list[Found] = []
    starts: list[int] = []
    base: Found | None = None
    for record in records:
        packed = {info.id: data for info, data in zip(record.channel_info, channels.pop(0))}
        kind = _section(record)
        if kind is SectionDivider.OTHER:
            layer = _read_layer(record, packed, header, limits)
            layers.append(layer)
            if record.clipping is Clipping.BASE:
                base = layer
            elif base is not None:
                _clip(layer, base)
            continue
        base = None
        if kind is SectionDivider.BOUNDING_SECTION_DIVIDER:
            starts.append(len(layers))
        elif starts:
            for layer in layers[starts.pop() :]:
                _put_into_group(layer, record, packed, header)
        else:
            raise FileError(f"{limits.file} closes a group that was never opened. Save it again.")
    return layers


def read_flat(picture: ImageData, header: FileHeader, limits: Limits) -> Found:
    """The image of a file without layers."""
    limits.layer(header.width, header.height)
    if header.width * header.height * header.channels > 4 * MAX_PIXELS:
        raise FileError(f"{limits.file} has {header.channels} channels, too many for its size. Delete the channels that are not "
                        "colours.")
    plane = unpack(picture, header.width, header.height * header.channels, header)
    planes = plane.reshape(header.channels, header.height, header.width)
    image = _image(planes[number] for number in COLOURS[header.color_mode])
    return Found(image, torch.ones(1, header.height, header.width), "Background")


def unpack(packed: ChannelData | ImageData, width: int, height: int, header: FileHeader) -> np.ndarray:
    """Unpack a channel to uint8 [height, width]; 16 bits become 8. FileError if there is too little data.

    Used instead of the library's function, which replaces data that it cannot unpack with black.
    """
    sample = header.depth // 8
    size = width * height * sample
    data = packed.data
    if packed.compression is Compression.RLE:
        lengths = np.frombuffer(data, (">u2", ">u4")[header.version - 1], height)
        if lengths.nbytes + lengths.sum(dtype=np.int64) > len(data):
            raise FileError("The pixel data of a layer is incomplete: the file is damaged. Save it again.")
        data = decode_rle(data, width, height, header.depth, header.version)
    elif packed.compression is not Compression.RAW:
        data = decompressobj().decompress(data, size)
    samples = np.frombuffer(data, ">u2" if sample == 2 else np.uint8, width * height).reshape(height, width)
    if packed.compression is Compression.ZIP_WITH_PREDICTION:
        samples = np.cumsum(samples, axis=1, dtype=samples.dtype.newbyteorder("="))
    return samples if sample == 1 else (samples >> 8).astype(np.uint8)


def _section(record: LayerRecord) -> SectionDivider:
    """Whether a record opens a group, closes one, or is a layer (OTHER)."""
    for tag in (Tag.SECTION_DIVIDER_SETTING, Tag.NESTED_SECTION_DIVIDER_SETTING):
        if (setting := record.tagged_blocks.get_data(tag)) is not None:
            return setting.kind
    return SectionDivider.OTHER


def _read_layer(
    record: LayerRecord, packed: dict[ChannelID, ChannelData], header: FileHeader, limits: Limits
) -> Found:
    blocks = record.tagged_blocks
    name = blocks.get_data(Tag.UNICODE_LAYER_NAME) or record.name
    facts = {"id": blocks.get_data(Tag.LAYER_ID), "name": name.rstrip("\0"), "key": record.blend_mode,
             "opacity": record.opacity, "share": blocks.get_data(Tag.BLEND_FILL_OPACITY, 255) / 255,
             "visible": record.flags.visible, "x": record.left, "y": record.top}  # fmt: skip
    width, height = record.width, record.height
    if not width or not height:
        limits.layer(1, 1)
        return Found(torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1), **facts)
    limits.layer(width, height)
    colours = [ChannelID(number) for number in COLOURS[header.color_mode]]
    image = _image(unpack(packed[colour], width, height, header) for colour in colours)
    for colour in set(colours):
        del packed[colour]  # frees its memory
    layer = Found(image, torch.ones(1, height, width), **facts)
    if ChannelID.TRANSPARENCY_MASK in packed:
        layer.cover(unpack(packed[ChannelID.TRANSPARENCY_MASK], width, height, header))
    layer.cover(_mask(record, packed, header, layer.box))
    return layer


def _image(planes: Iterable[np.ndarray]) -> torch.Tensor:
    """Combine red, green and blue into an image [1,h,w,3]. Planes are consumed one by one, so that only one is in memory."""
    image = torch.empty(0)
    for number, plane in enumerate(planes):
        image = image if number else torch.empty(1, *plane.shape, 3)
        np.divide(plane, 255, out=image[0, ..., number].numpy(), dtype=np.float32)
    return image


def _mask(
    record: LayerRecord, packed: dict[ChannelID, ChannelData], header: FileHeader, box: Box
) -> np.ndarray | None:
    """The record's layer mask within the box, uint8; None if it has none or the mask is disabled."""
    mask = record.mask_data
    if mask is None or mask.flags.mask_disabled or ChannelID.USER_LAYER_MASK not in packed:
        return None
    if mask.width * mask.height > MAX_PIXELS:
        raise FileError(f"The mask of the layer {record.name!r} is {mask.width} x {mask.height} pixels, which is too large. "
                        "Crop it in the program that created the file.")  # fmt: skip
    values = np.zeros((0, 0), np.uint8)
    if mask.width and mask.height:
        values = unpack(packed[ChannelID.USER_LAYER_MASK], mask.width, mask.height, header)
    seen = _window(values, mask.left, mask.top, mask.background_color, box)
    return 255 - seen if mask.flags.invert_mask else seen


def _window(plane: np.ndarray, left: int, top: int, around: int, box: Box) -> np.ndarray:
    """The part of a plane at left, top that lies within the box. around: the value outside the plane."""
    x, y, width, height = box
    seen = np.full((height, width), around, np.uint8)
    right, bottom = min(left + plane.shape[1], x + width), min(top + plane.shape[0], y + height)
    first, highest = max(left, x), max(top, y)
    if first < right and highest < bottom:
        part = plane[highest - top : bottom - top, first - left : right - left]
        seen[highest - y : bottom - y, first - x : right - x] = part
    return seen


def _clip(layer: Found, base: Found) -> None:
    """Mask a layer with the layer below that it is clipped to."""
    coverage = (base.coverage[0] * 255).round().byte().numpy()
    layer.cover(_window(coverage, base.x, base.y, 0, layer.box))
    layer.visible &= base.visible
    layer.share *= base.opacity / 255


def _put_into_group(
    layer: Found, group: LayerRecord, packed: dict[ChannelID, ChannelData], header: FileHeader
) -> None:
    layer.visible &= group.flags.visible
    layer.share *= group.opacity / 255
    layer.cover(_mask(group, packed, header, layer.box))
