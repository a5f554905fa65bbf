"""Layered files through the real server: exported files can be imported, and nothing is accessed outside the folders."""

import io
import json
import shutil
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from layerdiff_core.composite import composite
from layerdiff_core.edits import apply_edits, fingerprint
from layerdiff_core.files.ora import read_ora, write_ora
from layerdiff_core.files.pixels import merged_rgba
from layerdiff_core.files.png_folder import INDEX, read_png_folder
from layerdiff_core.files.psd import read_psd, write_psd
from tests.api.graphs import Graph, changed, layered, node
from tests.documents import mixed_document, same
from tools.client import NodeFailed, PromptRefused, Result
from tools.host import Server

READERS = {"psd": read_psd, "ora": read_ora, "png folder": read_png_folder}


@pytest.fixture(scope="module")
def place(server: Server) -> Iterator[str]:
    """A folder name for this run, in the server's input and output folders, because these keep files of earlier runs."""
    name = uuid.uuid4().hex[:8]
    (server.data / "input" / name).mkdir()
    write_psd(mixed_document(), server.data / "input" / name / "eight.psd", {})
    yield name
    for folder in ("input", "output"):
        shutil.rmtree(server.data / folder / name)


def graph(place: str, **changes: Any) -> Graph:
    """Import a file of eight layers and export it again."""
    inputs = {"format": "psd", "trim": False, "colour_space": "display", "edits": "", "filename_prefix": f"{place}/out"}
    return {
        "1": node("LayerDiffImportLayers", file=f"{place}/eight.psd"),
        "2": node("LayerDiffExportLayers", layers=["1", 0], **(inputs | changes)),
        "3": node("PreviewAny", source=["1", 1]),
    }


def files(server: Server, result: Result, node: str = "2") -> list[Path]:
    saved = result.outputs[node]["files"]
    assert all(file["type"] == "output" for file in saved)
    return [server.data / "output" / file["subfolder"] / file["filename"] for file in saved]


@pytest.mark.parametrize("format", list(READERS))
@pytest.mark.parametrize("back", ["input", "output"])
def test_what_goes_out_comes_in_the_same(server: Server, place: str, format: str, back: str) -> None:
    result = server.client.run(graph(place, format=format))
    path = next(path for path in files(server, result) if path.suffix in (".psd", ".ora") or path.name == INDEX)
    same(mixed_document(), READERS[format](path))
    assert result.outputs["3"]["text"] == ["8"]
    if back == "output":  # directly from the output folder, as in ComfyUI's own nodes
        again = path.relative_to(server.data / "output").as_posix() + " [output]"
    else:
        (server.data / "input" / place / "back").mkdir(exist_ok=True)
        for each in files(server, result):
            each.rename(server.data / "input" / place / "back" / each.name)
        again = f"{place}/back/{path.name}"
    result = server.client.run(changed(graph(place), {"1.file": again}))
    same(mixed_document(), read_psd(files(server, result)[0]))


@pytest.mark.parametrize("scene, count", [(-1, 2), (1, 1)])
def test_scenes_go_into_a_file_each(server: Server, place: str, scene: int, count: int) -> None:
    export = node("LayerDiffExportLayers", layers=["5", 0], filename_prefix=f"{place}/scenes{scene}", format="psd", trim=False,
                  colour_space="display", edits="")
    drawn = layered("layerdiff_starter.safetensors")
    result = server.client.run(changed(drawn, {"3.scenes": 2, "5.scene": scene, "7": export}))
    documents = [read_psd(path) for path in files(server, result, "7")]
    names = [[layer.name for layer in document.layers] for document in documents]
    assert names == [["background", "balloon", "fox"]] * count
    if count == 2:
        assert not torch.equal(*(document.layers[1].image for document in documents))


def test_the_workflow_is_inside(server: Server, place: str) -> None:
    psd, ora, folder, animation = (
        files(server, server.client.run(graph(place, format=format)))
        for format in ("psd", "ora", "png folder", "animation")
    )
    assert b"LayerDiffImportLayers" in psd[0].read_bytes()
    assert b"LayerDiffImportLayers" in ora[0].read_bytes()
    assert all("LayerDiffImportLayers" in Image.open(each).text["prompt"] for each in folder if each.suffix == ".png")
    assert b"LayerDiffImportLayers" in animation[0].read_bytes()


def test_the_page_gets_the_pictures_that_it_can_show(server: Server, place: str) -> None:
    for format in ("psd", "ora", "png folder"):
        outputs = server.client.run(graph(place, format=format)).outputs["2"]
        (picture,) = outputs["images"]
        assert picture["type"] == "temp"
        composite = np.asarray(Image.open(io.BytesIO(server.client.download(picture))))
        assert np.array_equal(composite, merged_rgba(mixed_document(), False))
    moving = server.client.run(graph(place, format="animation")).outputs["2"]
    assert moving["animated"] == [True]
    assert Image.open(io.BytesIO(server.client.download(moving["images"][0]))).n_frames > 1
    plain = server.client.run(graph(place)).outputs["2"]
    assert plain["layer_panel"][0]["made_for"] == fingerprint(mixed_document())
    assert server.client.download(plain["files"][0])[:4] == b"8BPS"


def test_names_count_up_and_follow_the_hosts_rules(server: Server, place: str) -> None:
    runs = [graph(place, filename_prefix=f"{place}/count_%width%", trim=trim) for trim in (False, True, False)]
    names = [files(server, server.client.run(run))[0].name for run in runs]
    assert names == [f"count_40_0000{number}_.psd" for number in (1, 2, 3)]


def test_trimmed_layers_and_edits_reach_the_file(server: Server, place: str) -> None:
    edits = json.dumps({"version": 1, "order": [0, 2, 1], "layers": {"0": {"opacity": 0.25}, "4": {"right": 3}}})
    result = server.client.run(graph(place, trim=True, edits=edits, format="ora"))
    doc = read_ora(files(server, result)[0])
    edited = apply_edits(mixed_document(), edits)[0]
    assert [layer.name for layer in doc.layers][:3] == [layer.name for layer in edited.layers][:3]
    assert doc.layers[0].opacity == 0.25
    for ours, its in zip(composite(edited), composite(doc)):
        assert np.abs(ours.numpy() - its.numpy()).max() <= 1 / 255


def test_an_edited_file_is_read_again_and_an_unchanged_one_is_not(server: Server, place: str) -> None:
    path = server.data / "input" / place / "changing.ora"
    run = changed(graph(place), {"1.file": f"{place}/changing.ora"})

    def counted() -> tuple[list[str], bool]:
        seen: list[str] = []
        result = server.client.run(run, lambda kind, data: seen.append(data.get("node")) if kind == "executing" else None)
        return result.outputs["3"]["text"], "1" in seen

    write_ora(mixed_document(3), path, {})
    assert counted() == (["3"], True)
    assert counted() == (["3"], False)
    write_ora(mixed_document(4), path, {})
    assert counted() == (["4"], True)


def test_an_uploaded_file_is_in_the_list(server: Server, place: str) -> None:
    name = f"{place}.ora"
    write_ora(mixed_document(2), server.data / "input" / place / name, {})
    boundary = "part"
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
            + (server.data / "input" / place / name).read_bytes() + f"\r\n--{boundary}--\r\n".encode())  # fmt: skip
    request = urllib.request.Request(server.client.address + "/upload/image", body,
                                     {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.loads(answer.read())["name"] == name
    spec = server.client.get("/object_info/LayerDiffImportLayers")["LayerDiffImportLayers"]["input"]["required"]["file"]
    listed = spec[1]["options"]
    assert name in listed and f"{place}/eight.psd" in listed
    assert server.client.run(changed(graph(place), {"1.file": name})).outputs["3"]["text"] == ["2"]
    (server.data / "input" / name).unlink()


@pytest.mark.parametrize("file", ["nothing.psd", "../output/x.psd", "/etc/passwd", "..\\x.psd", "a\0.psd"])
def test_what_is_not_there_or_elsewhere_is_refused_at_once(server: Server, place: str, file: str) -> None:
    with pytest.raises(PromptRefused, match=r"(?s)node 1 \(LayerDiffImportLayers\).*There is no file"):
        server.client.run(changed(graph(place), {"1.file": file}))


@pytest.mark.parametrize("file", ["", None, "undefined", "no layered file there yet"])
def test_no_file_is_told_what_to_do(server: Server, place: str, file: str | None) -> None:
    with pytest.raises((PromptRefused, NodeFailed), match=r"node 1 \(LayerDiffImportLayers\).*No file is selected. Put a .psd"):
        server.client.run(changed(graph(place), {"1.file": file}))


def test_a_file_that_is_missing_from_the_graph_is_told(server: Server, place: str) -> None:
    without = graph(place)
    del without["1"]["inputs"]["file"]
    with pytest.raises(PromptRefused) as caught:
        server.client.run(without)
    assert "Required input is missing: file" in str(caught.value)
    assert "positional argument" not in json.dumps(caught.value.errors) and "exception" not in json.dumps(caught.value.errors)


def linked(place: str, file: str) -> Graph:
    """The file name over a link that ComfyUI accepts: from a switch, which passes on any type."""
    return changed(graph(place), {"1.file": ["5", 0], "4": node("PrimitiveString", value=file),
                                  "5": node("ComfySwitchNode", switch=True, on_true=["4", 0], on_false=["4", 0])})


def test_a_text_over_a_link_is_refused_by_the_host_alone(server: Server, place: str) -> None:
    with pytest.raises(PromptRefused, match=r"received_type\(STRING\) mismatch input_type\(COMBO\)") as caught:
        server.client.run(changed(linked(place, "x.psd"), {"1.file": ["4", 0]}))
    assert "NoneType" not in json.dumps(caught.value.errors)


def test_a_name_over_a_link_is_read(server: Server, place: str) -> None:
    counts = []
    for layers in (3, 4):  # read again each time, because over a link it is unknown whether the file was changed
        write_ora(mixed_document(layers), server.data / "input" / place / "linked.ora", {})
        counts += server.client.run(linked(place, f"{place}/linked.ora")).outputs["3"]["text"]
    assert counts == ["3", "4"]


@pytest.mark.parametrize("file, words", [
    ("", "No file is selected"), ("nothing.psd", "There is no file 'nothing.psd'"), ("../output/x.psd", "There is no file"),
    ("/etc/passwd", "There is no file"), ("{place}/x.png", "not a supported file"), ("{place}", "not a supported file"),
])
def test_a_name_over_a_link_is_looked_at_too(server: Server, place: str, file: str, words: str) -> None:
    (server.data / "input" / place / "x.png").write_bytes(b"")
    with pytest.raises(NodeFailed, match=words) as caught:
        server.client.run(linked(place, file.format(place=place)))
    assert caught.value.node == "1" and caught.value.kind == "ValueError"


@pytest.mark.parametrize("file", ["{place}/x.png", "{place}"])
def test_what_is_of_another_kind_is_refused_at_once(server: Server, place: str, file: str) -> None:
    (server.data / "input" / place / "x.png").write_bytes(b"")
    with pytest.raises(PromptRefused, match="not a supported file|No file is selected"):
        server.client.run(changed(graph(place), {"1.file": file.format(place=place)}))


@pytest.mark.parametrize("name", ["broken.psd", "broken.ora", INDEX])
def test_a_broken_file_is_named(server: Server, place: str, name: str) -> None:
    (server.data / "input" / place / name).write_bytes(b"8BPS this is no picture")
    with pytest.raises(NodeFailed, match=name) as caught:
        server.client.run(changed(graph(place), {"1.file": f"{place}/{name}"}))
    assert caught.value.node == "1" and "ValueError" not in caught.value.message
    assert server.is_alive()


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/x/y"])
def test_nothing_is_written_outside_the_output_folder(server: Server, place: str, prefix: str) -> None:
    with pytest.raises(NodeFailed, match="outside the output folder"):
        server.client.run(graph(place, filename_prefix=prefix))
