"""ComfyUI and the pack in this process, for tests and benchmarks that inspect models and tensors."""

import asyncio
import importlib
import sys
from pathlib import Path
from types import ModuleType

from . import setup

HOST_MODULES = ("nodes", "execution", "folder_paths", "latent_preview", "server", "node_helpers", "comfy.sd",
                "comfy.samplers", "comfy.controlnet", "comfy.utils", "comfy_api.latest", "comfy_api.torch_helpers",
                "comfy_extras.nodes_post_processing",  # before nodes_latent, because of a circular import
                "comfy_extras.nodes_custom_sampler", "comfy_extras.nodes_sag")


def import_host(name: str = "inprocess") -> None:
    """Import ComfyUI's modules like its main.py, with all folders that it writes to in `.dev/data/<name>`.

    ComfyUI's folder comes first in sys.path and the repository last, because both have a module `nodes`.
    """
    environment = setup.locate()
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != setup.ROOT]
    sys.path[:] = [str(environment.host), *others, str(setup.ROOT)]
    if environment.shim.exists():
        exec(compile(environment.shim.read_text("utf-8"), str(environment.shim), "exec"), {})
    import torch
    from comfy.cli_args import args

    args.cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    for name in HOST_MODULES:
        importlib.import_module(name)
    import folder_paths

    for kind in ("output", "input", "temp", "user"):
        folder = setup.DEV / "data" / name / kind
        folder.mkdir(parents=True, exist_ok=True)
        getattr(folder_paths, f"set_{kind}_directory")(str(folder))


def load_pack() -> ModuleType:
    """Load the pack as ComfyUI does, after `import_host`. Returns its root module.

    Its other modules are then available as attributes, for example `pack.nodes.load`. Raises ImportError.
    """
    import nodes

    path = str(setup.DEV / "custom_nodes" / setup.PACK_LINK)
    if not asyncio.run(nodes.load_custom_node(path)):
        raise ImportError("ComfyUI could not load the pack. See its log.")
    return sys.modules[path.replace(".", "_x_")]
