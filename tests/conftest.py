"""What all tests share: the host in this process, the pack as the host loads it, and one real server."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

# Appended, never put first: the repository's folder `nodes` must not hide the host's module `nodes`.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from tools import inprocess
from tools.host import Server

inprocess.import_host()

HOST_ROOTS = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "app", "nodes", "execution", "folder_paths",
              "latent_preview", "node_helpers", "server", "utils")

Snapshot = dict[str, dict[str, object]]


def host_snapshot() -> Snapshot:
    """Every attribute of every host module that is loaded, of every class and every table that these modules define."""
    seen: Snapshot = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in HOST_ROOTS or module is None:
            continue
        seen[name] = dict(vars(module))
        for label, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == name:
                seen[f"{name}.{label}"] = dict(vars(value))
            elif type(value) is dict and not label.startswith("__"):
                seen[f"{name}.{label}[]"] = {str(key): entry for key, entry in value.items()}
    return seen


@pytest.fixture(scope="session")
def host_before() -> Snapshot:
    """The host as it was before the pack was loaded."""
    return host_snapshot()


@pytest.fixture(scope="session")
def pack(host_before: Snapshot) -> ModuleType:
    """The pack's root module, loaded as the host loads it."""
    return inprocess.load_pack()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One real server with the pack in it, for all tests that go over HTTP."""
    with Server("tests") as running:
        yield running


@pytest.fixture(scope="session")
def take_snapshot() -> Callable[[], Snapshot]:
    """The function that looks at the host now."""
    return host_snapshot
