"""Shared by all tests: ComfyUI in this process, the pack as ComfyUI loads it, and one real server."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

# Appended, not inserted first, because the repository's folder `nodes` must not hide ComfyUI's module `nodes`.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from tools import inprocess
from tools.host import Server

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Several processes share the tests: each has its own server and folders."""

inprocess.import_host(f"inprocess{WORKER}")

HOST_ROOTS = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "app", "nodes", "execution", "folder_paths",
              "latent_preview", "node_helpers", "server", "utils")

PACKS = Path(__file__).parent / "api" / "packs"
"""Packs for the server of the tests alone."""

Snapshot = dict[str, dict[str, object]]


def host_snapshot() -> Snapshot:
    """Every attribute of all loaded ComfyUI modules, and of every class and table that they define."""
    seen: Snapshot = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in HOST_ROOTS or module is None:
            continue
        seen[name] = dict(vars(module))
        for label, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == name:
                # Python's own copy module keeps what it found there.
                seen[f"{name}.{label}"] = {key: entry for key, entry in vars(value).items() if key != "__slotnames__"}
            elif type(value) is dict and not label.startswith("__"):
                seen[f"{name}.{label}[]"] = {str(key): entry for key, entry in value.items()}
    return seen


@pytest.fixture(scope="session")
def host_before() -> Snapshot:
    """ComfyUI before the pack was loaded."""
    return host_snapshot()


@pytest.fixture(scope="session")
def pack(host_before: Snapshot) -> ModuleType:
    """The pack's root module, loaded as ComfyUI loads it."""
    return inprocess.load_pack()


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first folder in which the server looks for layered models, configured as users configure their own."""
    return tmp_path_factory.mktemp("served_models")


@pytest.fixture(scope="session")
def server(served_models: Path) -> Iterator[Server]:
    """One real server with the pack, for all tests over HTTP."""
    folders = served_models.with_suffix(".yaml")
    wanted = {"layered_models": served_models, "checkpoints": served_models, "custom_nodes": PACKS}
    folders.write_text("tests:\n" + "".join(f"  {kind}: {json.dumps(str(folder))}\n" for kind, folder in wanted.items()), "utf-8")
    packs = [path.name for path in PACKS.glob("*.py")]
    with Server(f"tests{WORKER}", "--extra-model-paths-config", str(folders), more_packs=packs) as running:
        yield running


@pytest.fixture(scope="session")
def take_snapshot() -> Callable[[], Snapshot]:
    """A function that captures ComfyUI's current state."""
    return host_snapshot
