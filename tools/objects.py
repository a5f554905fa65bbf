"""Downloads the packages with object images and builds the file for training."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from layerdiff_core.whole import whole, write_tensors
from layerdiff_core.world.objects import read_list

PACKAGES = {
    "3d": "@lobehub/fluent-emoji-3d@1.1.0",
    "flat": "@iconify-json/fluent-emoji-flat@1.2.6",
}
SIDE = 256


def fetch_packages(folder: Path) -> dict[str, Path]:
    """Download and unpack the packages to `folder`, once. Returns the folder of each style.

    RuntimeError if npm is missing or fails.
    """
    unpacked = {}
    for style, package in PACKAGES.items():
        target = folder / style
        if not (target / "package").is_dir():
            with tarfile.open(_pack(package, folder)) as archive, whole(target) as part:
                archive.extractall(part, filter="data")
        unpacked[style] = target / "package"
    return unpacked


def objects_file(folder: Path) -> Path:
    """The path of `folder`/objects.safetensors, which is built if it does not exist.

    Building needs npm, and the Python package resvg-py to render the vector images of the flat style.
    """
    path = folder / "objects.safetensors"
    if not path.exists():
        _build(folder, path)
    return path


def _build(folder: Path, path: Path) -> None:
    packages = fetch_packages(folder)
    pictures = {_bare(path.stem): path for path in (packages["3d"] / "assets").glob("*.webp")}
    names = {_bare(code): name for code, name in _read_json(packages["flat"] / "chars.json").items()}
    icons = _read_json(packages["flat"] / "icons.json")
    entries = read_list()
    images = torch.empty(len(entries), 2, SIDE, SIDE, 4, dtype=torch.uint8)
    for i, entry in enumerate(entries):
        images[i, 0] = _to_tensor(Image.open(pictures[entry["code"]]))
        images[i, 1] = _to_tensor(_draw_icon(icons, names[entry["code"]]))
    facts = json.dumps([{key: entry[key] for key in ("name", "prompt", "home")} for entry in entries])
    write_tensors(path, {"images": images}, {"objects": facts})


def _pack(package: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm was not found. The training images are npm packages: install Node.js with npm.")
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", "--silent", "--pack-destination", str(folder.resolve()), package]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"npm could not download {package}: {done.stderr.strip() or done.stdout.strip()}")
    return folder / done.stdout.strip().splitlines()[-1]


def _bare(code: str) -> str:
    """A code without variation selectors, because the packages use them differently."""
    return code.lower().replace("-fe0f", "")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _draw_icon(icons: dict[str, Any], name: str) -> Image.Image:
    import resvg_py  # only needed for building, not for training

    icon = icons["icons"][name]
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    )
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE))))


def _to_tensor(picture: Image.Image) -> Tensor:
    rgba = picture.convert("RGBA")
    if rgba.size != (SIDE, SIDE):
        rgba = rgba.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(rgba))
