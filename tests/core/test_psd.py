"""Photoshop files: their contents, and reading files from other programs."""

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from psd_tools import PSDImage
from psd_tools.constants import BlendMode, ChannelID, Clipping, ColorMode, Compression, Resource, SectionDivider, Tag
from psd_tools.psd import PSD
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.layer_and_mask import ChannelData, ChannelDataList, LayerFlags, LayerInfo, LayerRecord, MaskData

from layerdiff_core.blend import MODES
from layerdiff_core.composite import composite
from layerdiff_core.files import psd as psd_file
from layerdiff_core.files.psd import read_psd, write_psd
from layerdiff_core.layers import Layer, make_document
from tests.documents import alter, mixed_document, same


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of three layers, 24 x 17 pixels each, with soft masks on the upper two."""
    torch.manual_seed(0)
    coverage = (torch.rand(3, 17, 24) * 255).round() / 255
    coverage[0] = 1
    doc = make_document((torch.rand(3, 17, 24, 3) * 255).round() / 255, coverage, ["a", "b", "c"])
    write_psd(doc, tmp_path / "three.psd", {})
    return tmp_path / "three.psd"


def change(path: Path, edit: Callable[[LayerInfo], Any]) -> list[Layer]:
    """The document read from the file after `edit` has changed its layers."""
    psd = PSD.frombytes(path.read_bytes())
    edit(psd.layer_and_mask_information.layer_info)
    path.write_bytes(psd.tobytes())
    return read_psd(path).layers


def add_record(info: LayerInfo, at: int, kind: SectionDivider, **facts: Any) -> None:
    """Put a group's opening or closing record at a place in the list."""
    record = LayerRecord(**facts)
    record.tagged_blocks.set_data(Tag.SECTION_DIVIDER_SETTING, kind)
    info.layer_records.insert(at, record)
    info.channel_image_data.insert(at, ChannelDataList())
    info.layer_count += 1


def test_another_reader_finds_everything(tmp_path: Path) -> None:
    doc = mixed_document(len(MODES))
    write_psd(doc, tmp_path / "x.psd", {})
    psd = PSDImage.open(tmp_path / "x.psd")
    assert (psd.width, psd.height) == doc.canvas and len(psd) == len(MODES)
    for ours, its in zip(doc.layers, psd):
        assert its.name == ours.name and its.visible == ours.visible
        assert (its.left, its.top, its.width, its.height) == (ours.x, ours.y, ours.w, ours.h)
        assert its.opacity == round(255 * ours.opacity)
        assert np.array_equal(its.numpy("color"), ours.image[0].numpy())
        assert its.numpy("shape").min() == 1
        if ours.coverage.min() < 1:
            assert np.abs(its.numpy("mask")[..., 0] - ours.coverage[0].numpy()).max() < 1e-6
        else:
            assert not its.has_mask()
        stem = "subtract" if ours.blend_mode == "grain-extract" else ours.blend_mode.replace("grain-merge", "linear-light")
        assert its.blend_mode.name.lower().replace("_", "-") == stem


def test_merged_picture_and_metadata(tmp_path: Path) -> None:
    doc, text = mixed_document(4), {"prompt": '{"1": "ü <&>"}', "workflow": "{}", "odd key!": "1"}
    write_psd(doc, tmp_path / "x.psd", text, linear=True)
    psd = PSD.frombytes((tmp_path / "x.psd").read_bytes())
    assert psd.header.channels == 3 and psd.layer_and_mask_information.layer_info.layer_count == 4
    merged = np.stack([np.frombuffer(plane, np.uint8).reshape(33, 40) for plane in psd.image_data.get_data(psd.header)], -1)
    assert np.abs(merged - 255 * composite(doc, linear=True)[0][0].numpy()).max() <= 0.501
    xmp = ElementTree.fromstring(psd.image_resources.get_data(Resource.XMP_METADATA))
    assert json.loads(xmp.find(".//{urn:layerdiff/}text").text) == text


def test_a_transparent_merged_picture_is_mixed_with_white(tmp_path: Path) -> None:
    doc = make_document(torch.zeros(1, 2, 2, 3), torch.tensor([[[0, 51], [204, 255]]]) / 255, ["a"])
    write_psd(doc, tmp_path / "x.psd", {})
    psd = PSD.frombytes((tmp_path / "x.psd").read_bytes())
    assert psd.layer_and_mask_information.layer_info.layer_count == -1
    red, _, _, alpha = (list(plane) for plane in psd.image_data.get_data(psd.header))
    assert alpha == [0, 51, 204, 255] and red == [255, 204, 51, 0]


def test_what_an_editor_changed_counts(path: Path) -> None:
    doc = read_psd(path)
    alter(doc, 1, opacity=0.3, blend_mode="grain-merge")
    alter(doc, 2, opacity=0.3, blend_mode="grain-merge")
    write_psd(doc, path, {})

    def edit(info: LayerInfo) -> None:
        info.layer_records[1].opacity = 51
        info.layer_records[2].blend_mode = BlendMode.SCREEN

    layers = change(path, edit)
    assert (layers[1].opacity, layers[1].blend_mode) == (0.2, "grain-merge")
    assert (layers[2].opacity, layers[2].blend_mode) == (0.3, "screen")


def test_exact_values_are_found_by_the_layers_id_and_in_an_attribute_too(path: Path) -> None:
    doc = read_psd(path)
    alter(doc, 1, opacity=0.3)
    write_psd(doc, path, {})
    psd = PSD.frombytes(path.read_bytes())
    info, resource = psd.layer_and_mask_information.layer_info, psd.image_resources[Resource.XMP_METADATA]
    for part in (info.layer_records, info.channel_image_data):
        part.insert(0, part.pop(1))
    facts = ElementTree.fromstring(resource.data).find(".//{urn:layerdiff/}layers").text
    ElementTree.register_namespace("ld", "urn:layerdiff/")
    resource.data = ElementTree.tostring(ElementTree.Element("x", {"{urn:layerdiff/}layers": facts}))
    path.write_bytes(psd.tobytes())
    assert [layer.opacity for layer in read_psd(path).layers] == [0.3, 1, 1]


@pytest.mark.parametrize("inside", [b"<a/>" * (4 << 20), b"<a>" * (4 << 20), b"<l:layers>" + b"[]," * (1 << 20) + b"</l:layers>",
                                    b"<a %s/>" % b" ".join(b"a%d=''" % n for n in range(700_000))])
def test_metadata_are_counted_before_they_are_read(path: Path, inside: bytes) -> None:
    psd = PSD.frombytes(path.read_bytes())
    psd.image_resources[Resource.XMP_METADATA].data = b"<x xmlns:l='urn:layerdiff/'>" + inside + b"</x>"
    path.write_bytes(psd.tobytes())
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(ValueError, match="metadata of .*(more than 300000 elements and attributes|is too large)"):
        read_psd(path)
    spent, (_, most) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 3 and most < 150 << 20  # most of it the 16 MB of the file and psd-tools' copies of them


def test_the_history_that_photoshop_keeps_is_passed_over(path: Path) -> None:
    doc = read_psd(path)
    alter(doc, 1, opacity=0.3)
    write_psd(doc, path, {})
    psd = PSD.frombytes(path.read_bytes())
    resource = psd.image_resources[Resource.XMP_METADATA]
    ancestors = b"<p:DocumentAncestors xmlns:p='p'>" + b"<p:li>0123456789</p:li>" * 100_000 + b"</p:DocumentAncestors>"
    resource.data = resource.data.replace(b"<rdf:Description", ancestors + b"<rdf:Description")
    path.write_bytes(psd.tobytes())
    assert [layer.opacity for layer in read_psd(path).layers] == [1, 0.3, 1]


def test_groups_are_taken_apart(path: Path) -> None:
    half = ChannelData()
    half.set_data(bytes([128]) * 17 * 24, 24, 17, 8)

    def edit(info: LayerInfo) -> None:
        add_record(info, 1, SectionDivider.BOUNDING_SECTION_DIVIDER)
        add_record(info, 2, SectionDivider.BOUNDING_SECTION_DIVIDER)
        add_record(info, 4, SectionDivider.CLOSED_FOLDER, opacity=51, flags=LayerFlags(visible=False))
        add_record(info, 6, SectionDivider.OPEN_FOLDER, opacity=128, mask_data=MaskData(0, 0, 17, 24))
        info.layer_records[6].channel_info = [psd_file.ChannelInfo(ChannelID.USER_LAYER_MASK)]
        info.channel_image_data[6].append(half)

    before = read_psd(path).layers
    layers = change(path, edit)
    assert [layer.name for layer in layers] == ["a", "b", "c"]
    assert [layer.visible for layer in layers] == [True, False, True]
    assert [layer.opacity for layer in layers] == pytest.approx([1, 0.2 * 128 / 255, 128 / 255])
    torch.testing.assert_close(layers[2].coverage, before[2].coverage * 128 / 255)
    assert layers[0].coverage.min() == 1


def test_a_group_that_was_not_opened_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="closes a group that was never opened"):
        change(path, lambda info: add_record(info, 1, SectionDivider.OPEN_FOLDER))


def test_a_clipped_layer_is_only_where_the_one_beneath_is(path: Path) -> None:
    before = read_psd(path).layers

    def edit(info: LayerInfo) -> None:
        info.layer_records[1].opacity = 51
        info.layer_records[2].clipping = Clipping.NON_BASE
        info.layer_records[2].mask_data = MaskData(5, 0, 22, 24)
        for side, by in (("top", 5), ("bottom", 5)):
            setattr(info.layer_records[2], side, getattr(info.layer_records[2], side) + by)

    layers = change(path, edit)
    expected = before[2].coverage.clone()
    expected[:, :12] *= before[1].coverage[:, 5:]
    expected[:, 12:] = 0
    torch.testing.assert_close(layers[2].coverage, expected)
    assert layers[2].opacity == pytest.approx(0.2) and layers[2].y == 5


@pytest.mark.parametrize(("flag", "around"), [(None, 0), (None, 255), ("mask_disabled", 0), ("invert_mask", 0)])
def test_masks_of_another_place_switched_off_and_inverted(path: Path, flag: str | None, around: int) -> None:
    values = read_psd(path).layers[1].coverage

    def edit(info: LayerInfo) -> None:
        mask = info.layer_records[1].mask_data
        mask.left, mask.right, mask.background_color = mask.left - 4, mask.right - 4, around
        if flag:
            setattr(mask.flags, flag, True)

    coverage = change(path, edit)[1].coverage
    expected = torch.full_like(coverage, around / 255)
    expected[..., :-4] = values[..., 4:]
    if flag:
        expected = 1 - expected if flag == "invert_mask" else torch.ones_like(coverage)
    torch.testing.assert_close(coverage, expected)


def test_painted_transparency_counts_beside_the_mask(path: Path) -> None:
    before = read_psd(path).layers[1].coverage

    def edit(info: LayerInfo) -> None:
        info.channel_image_data[1][0].set_data(bytes([102]) * 17 * 24, 24, 17, 8)

    torch.testing.assert_close(change(path, edit)[1].coverage, before * 0.4)


def test_layers_without_pixels_fill_and_modes_that_we_do_not_have(path: Path) -> None:
    def edit(info: LayerInfo) -> None:
        first, second, third = info.layer_records
        first.right = first.left
        second.blend_mode, third.blend_mode = BlendMode.DARKER_COLOR, BlendMode.DISSOLVE
        second.tagged_blocks.set_data(Tag.BLEND_FILL_OPACITY, 51)
        info.channel_image_data[0] = ChannelDataList([ChannelData() for _ in first.channel_info])

    layers = change(path, edit)
    assert layers[0].image.shape == (1, 1, 1, 3) and layers[0].coverage.item() == 0
    assert [layer.blend_mode for layer in layers] == ["normal", "darken", "normal"]
    assert layers[1].opacity == pytest.approx(0.2)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("compression", list(Compression))
def test_all_ways_of_packing(tmp_path: Path, version: int, depth: int, compression: Compression) -> None:
    """A flat file, packed by psd-tools' own code."""
    samples = torch.randint(0, 256, (3, 7, 9), generator=torch.Generator().manual_seed(0)).numpy().astype(np.uint8)
    header = FileHeader(version=version, channels=3, width=9, height=7, depth=depth)
    data = ImageData(compression)
    data.set_data([(plane if depth == 8 else plane.astype(">u2") * 257).tobytes() for plane in samples], header)
    (tmp_path / "x.psb").write_bytes(PSD(header=header, image_data=data).tobytes())
    doc = read_psd(tmp_path / "x.psb")
    expected = make_document(torch.from_numpy(samples.transpose(1, 2, 0))[None] / 255, torch.ones(1, 7, 9), ["Background"])
    same(doc, expected)


def test_grey_is_read_and_other_modes_are_refused(tmp_path: Path) -> None:
    def write(mode: ColorMode, depth: int = 8) -> Path:
        header = FileHeader(channels=1, width=2, height=1, depth=depth, color_mode=mode)
        data = ImageData()
        data.set_data([bytes([0, 51] * (depth // 8))], header)
        (tmp_path / "x.psd").write_bytes(PSD(header=header, image_data=data).tobytes())
        return tmp_path / "x.psd"

    grey = read_psd(write(ColorMode.GRAYSCALE)).layers[0].image
    assert torch.equal(grey, torch.tensor([[[[0.0] * 3, [0.2] * 3]]]))
    for mode, depth in ((ColorMode.INDEXED, 8), (ColorMode.CMYK, 8), (ColorMode.RGB, 32)):
        with pytest.raises(ValueError, match=f"x.psd is {mode.name}, {depth} bits.*Convert it"):
            read_psd(write(mode, depth))


@pytest.mark.parametrize("part", range(1, 10))
def test_a_file_that_is_cut_off_is_refused(path: Path, part: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * part // 13])  # behind the layers is the merged image, which is not needed
    with pytest.raises(ValueError, match="three.psd"):
        read_psd(path)


def test_rows_that_are_cut_off_are_refused_not_black(path: Path) -> None:
    def edit(info: LayerInfo) -> None:
        channel = info.channel_image_data[1][1]
        channel.data = channel.data[:-9]

    with pytest.raises(ValueError, match="pixel data of a layer is incomplete"):
        change(path, edit)
