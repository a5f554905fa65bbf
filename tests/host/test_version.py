"""A ComfyUI that is too old says so in its log; one that is recent enough loads the pack."""

import re
import subprocess
import sys
from types import ModuleType

import pytest

from tools import setup

OLD = ["0.3.75", "0.3", "0.29.9", "0.9.0rc1", "v0.3.40"]
NEW = ["0.30.0", "0.30", "0.31.0-dev", "0.100.1", "1.0", "0", "", "a fork of it"]
# ComfyUI itself, made to report an older version.
LOAD = """
import asyncio, sys, types
sys.path.append({root!r})
sys.modules["comfyui_version"] = types.ModuleType("comfyui_version")
sys.modules["comfyui_version"].__version__ = {version!r}
from tools import inprocess
inprocess.import_host()
import nodes
print("LOADED", asyncio.run(nodes.load_custom_node({pack!r})))
"""


@pytest.fixture
def version(pack: ModuleType) -> ModuleType:
    return pack.nodes.host.version


@pytest.mark.parametrize("number", OLD)
def test_older_versions_are_refused(version: ModuleType, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setattr("comfyui_version.__version__", number)
    with pytest.raises(RuntimeError, match=re.escape(f"this is ComfyUI {number}, which is older")) as told:
        version.check_comfyui()
    assert "ComfyUI 0.30.0 or later" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("number", NEW)
def test_newer_and_unknown_versions_are_not(version: ModuleType, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setattr("comfyui_version.__version__", number)
    version.check_comfyui()


def test_where_no_version_is_told_nothing_is_refused(version: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comfyui_version", None)
    version.check_comfyui()


def test_the_registry_is_told_the_same_version(version: ModuleType) -> None:
    required = re.search(r'requires-comfyui = ">=(.*)"', (setup.ROOT / "pyproject.toml").read_text("utf-8"))
    assert required is not None and required[1] == ".".join(map(str, version.OLDEST))


def test_an_older_comfyui_says_it_in_one_line_of_its_log() -> None:
    script = LOAD.format(root=str(setup.ROOT), version="0.3.75", pack=str(setup.DEV / "custom_nodes" / setup.PACK_LINK))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=250)
    assert ended.returncode == 0, ended.stderr
    assert "LOADED False" in ended.stdout and "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if "LayerDiff" in line]
    assert "requires ComfyUI 0.30.0 or later" in line and "0.3.75" in line and "3 comes before 30" in line
    assert line.endswith("Update ComfyUI and restart it.")
