"""A process killed while writing (kill -9) leaves no broken file under a final name."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from layerdiff_core import checkpoint
from layerdiff_core.files.ora import read_ora
from layerdiff_core.files.png_folder import INDEX, read_png_folder
from layerdiff_core.files.psd import read_psd
from tools import setup


def read_picture(path: Path) -> None:
    with Image.open(path) as picture:
        for frame in range(getattr(picture, "n_frames", 1)):
            picture.seek(frame)
            picture.load()


def read_saved_layer(path: Path) -> None:
    read_picture(path)
    with Image.open(path) as picture:
        assert picture.text["workflow"] == '{"nodes": []}'


def read_adapter(path: Path) -> None:
    assert len(checkpoint.read_tensors(path, checkpoint.read_header(path))["unet"]) == 5


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "psd": ("*.psd", read_psd), "ora": ("*.ora", read_ora),
    "png folder": ("[!.]*", lambda path: (read_png_folder(path / INDEX), read_picture(path / "composite.png"))),
    "animation": ("*.webp", read_picture), "save layers": ("*.png", read_saved_layer),
    "adapter": ("*.safetensors", read_adapter), "panel": ("layerdiff_panel/*.png", read_picture),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where 20 processes for each kind of file were killed."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, "-m", "tests.killed_writers", str(folder)], cwd=setup.ROOT, timeout=200,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-len(READERS):] == list(READERS)
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked to be killed")
@pytest.mark.parametrize("kind", READERS)
def test_what_is_there_is_whole(folder: Path, kind: str) -> None:
    pattern, read = READERS[kind]
    files = sorted((folder / kind).glob(pattern))
    assert len(files) > 2
    broken = {}
    for file in files:
        try:
            read(file)
        except Exception as error:
            broken[file.name] = str(error)[:80]
    assert broken == {}
