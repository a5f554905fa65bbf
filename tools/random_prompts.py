"""Run random graphs through a real ComfyUI server and report every raw error, that is one without a message from the pack.

Graphs have values that the page or another node can produce (tools/random_graphs.py). A failure is acceptable if ComfyUI
rejects the graph, if one of ComfyUI's own nodes fails by itself, or if the pack's code says what is wrong. All others are raw.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from layerdiff_core.files.ora import write_ora
from layerdiff_core.files.psd import write_psd
from layerdiff_core.layers import make_document

from . import setup
from .arguments import a_count
from .client import HostError, NodeFailed, PromptRefused
from .host import Server
from .random_graphs import random_graph

LATENTS = {"picture": (2, 4, 8, 8), "layered": (3, 16, 8, 8), "video": (1, 16, 2, 8, 8), "flat": (3, 16), "sound": (1, 64, 30),
           "odd": (5, 8, 3, 9), "wide": (1, 128, 4, 4)}
SLOW_SECONDS = 60


class Raw(Exception):
    """A raw error. The message says where and what."""


def main(arguments: list[str]) -> int:
    """Run the graphs. Returns 1 if any of them failed with a raw error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=a_count(), default=200)
    parser.add_argument("--seed", type=a_count(0), default=1)
    options = parser.parse_args(arguments)
    try:
        with Server("random_prompts", "--cache-lru", "30") as server:
            found = run_many(server, options.count, options.seed, told=True)
    except HostError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return 1 if found else 0


def run_many(server: Server, count: int, seed: int, told: bool = False) -> list[str]:
    """Run `count` graphs. Returns the raw errors, each with the file of its graph."""
    write_files(server.data / "input")
    info = server.client.get("/object_info")
    folder = setup.DEV / "logs" / "random_prompts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    raw, ends, started = [], {"ran": 0, "refused": 0, "said": 0, "raw": 0}, time.monotonic()
    for number in range(count):
        name = f"{seed}_{number}"
        graph = random_graph(info, name)
        before = time.monotonic()
        (folder / "running.json").write_text(json.dumps(graph, indent=1), "utf-8")  # in case it never ends
        try:
            end = run_one(server, graph)
            if time.monotonic() - before > SLOW_SECONDS:
                raise Raw(f"It took {time.monotonic() - before:.0f} s.")
        except Raw as error:
            end = "raw"
            (folder / f"{name}.json").write_text(json.dumps(graph, indent=1), "utf-8")
            raw.append(f"{folder / name}.json: {error}")
            if told:
                print(raw[-1], flush=True)
        ends[end] += 1
        if told and number % 100 == 99:
            print(f"{number + 1} of {count} in {time.monotonic() - started:.0f} s: {ends}", flush=True)
        if number % 50 == 49:
            clean(server)
    clean(server)
    if told:
        print(f"{count} graphs in {time.monotonic() - started:.0f} s: {ends}", flush=True)
    return raw


def run_one(server: Server, graph: dict[str, Any]) -> str:
    """Run a graph. Returns how it ended: "ran", "refused" by ComfyUI, or "said" (failed with a message). Raises Raw."""
    failures: list[dict[str, Any]] = []
    try:
        server.client.run(graph, lambda kind, data: failures.append(data) if kind == "execution_error" else None)
    except PromptRefused as refused:
        for number, found in refused.errors.get("node_errors", {}).items():
            for error in found["errors"]:
                if "exception" in error["type"] and found["class_type"].startswith("LayerDiff"):
                    raise Raw(f"node {number} ({found['class_type']}), validating: {error['details']}") from None
        return "refused"
    except NodeFailed:
        check(failures[0])
        return "said"
    except HostError as error:
        raise Raw(f"{error}\n{server.log_tail(15)}") from None
    return "ran"


def check(failure: dict[str, Any]) -> None:
    """Raises Raw unless the pack raised the error on purpose or is not involved in it."""
    ours = [frame for frame in failure["traceback"] if f"/custom_nodes/{setup.PACK_LINK}/" in frame.replace("\\", "/")]
    if not ours and not failure["node_type"].startswith("LayerDiff"):
        return
    last, own = failure["traceback"][-1], failure["traceback"].index(ours[-1]) if ours else 0
    if any("/comfy_extras/" in frame for frame in failure["traceback"][own + 1:]) or "/k_diffusion/" in last:
        return  # a patch from one of ComfyUI's other nodes, or a sampler that needs more steps
    if last in ours and last.strip().splitlines()[1].strip().startswith("raise "):
        return
    if "outside the output folder" in failure["exception_message"]:  # ComfyUI's own message, also for the pack's nodes
        return
    raise Raw(f"node {failure['node_id']} ({failure['node_type']}): {failure['exception_type']}: "
              f"{failure['exception_message'].strip()[:300]}\n" + "".join(failure["traceback"][-4:]))


def write_files(folder: Path) -> None:
    """Write layered files and latents of all kinds to the folders of the nodes that load them."""
    random_numbers = torch.Generator().manual_seed(0)
    for layers, side in ((1, 8), (2, 64), (3, 40)):
        pictures, coverage = (torch.rand(layers, side, side + 3, *rest, generator=random_numbers) for rest in ((3,), ()))
        document = make_document(pictures, coverage, [f"layer {number}" for number in range(layers)])
        write_ora(document, folder / f"random_{layers}.ora", {})
        write_psd(document, folder / f"random_{layers}.psd", {})
    (folder / "random_broken.psd").write_bytes(b"8BPS")
    latents = {name: torch.randn(shape, generator=random_numbers) for name, shape in LATENTS.items()}
    latents["nan"] = torch.full((3, 16, 8, 8), float("nan"))
    for name, latent in latents.items():
        save_file({"latent_tensor": latent, "latent_format_version_0": torch.zeros(0)}, folder / f"random_{name}.latent")


def clean(server: Server) -> None:
    """Remove the files saved by the graphs, so that thousands of runs do not fill the disk."""
    for kind in ("output", "temp"):
        for path in (server.data / kind).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
