"""Runs a real ComfyUI server with the pack as a subprocess, with its own folders."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from . import setup
from .client import Client, HostError

START_LIMIT_SECONDS = 300
STOP_LIMIT_SECONDS = 15


class Server:
    """A context manager that runs ComfyUI with the pack, with its own folders in `.dev/data/<name>`.

    The user's own output, input, temp and user folders are not touched. Other packs of the user's ComfyUI are only loaded with
    `with_all_packs`, or if `more_packs` names them. `arguments` are passed on to ComfyUI's main.py.
    """

    def __init__(self, name: str, *arguments: str, with_all_packs: bool = False, with_pack: bool = True,
                 more_packs: Sequence[str] = ()) -> None:
        self.environment = setup.locate()
        self.log = setup.DEV / "logs" / f"{name}.log"
        self.data = setup.DEV / "data" / name
        self.port = free_port()
        self.client = Client(f"http://127.0.0.1:{self.port}")
        self.seconds_to_start = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        packs = packs_to_load(self.environment, with_pack)
        self._command = [
            str(self.environment.python), "-s", str(self.environment.host / "main.py"),
            "--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch",
            "--database-url", "sqlite:///:memory:", *self._folders(), *packs.search,
            *([] if with_all_packs else ["--disable-all-custom-nodes", *packs.whitelist, *more_packs]),
            *([] if torch.cuda.is_available() or torch.backends.mps.is_available() else ["--cpu"]), *arguments]

    def _folders(self) -> list[str]:
        options = []
        for kind in ("output", "input", "temp", "user"):
            folder = self.data / kind
            folder.mkdir(parents=True, exist_ok=True)
            options += [f"--{kind}-directory", str(folder)]
        return options

    def __enter__(self) -> "Server":
        started = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # Makes this process leave through __exit__ on SIGTERM as well.
        signal.signal(signal.SIGTERM, raise_interrupt)
        with open(self.log, "wb") as output:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=output,
                                             stderr=subprocess.STDOUT, cwd=self.data)
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        self.seconds_to_start = time.monotonic() - started
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while time.monotonic() < deadline:
            if not self.is_alive():
                raise HostError(f"ComfyUI stopped while starting. The end of its log {self.log}:\n{self.log_tail()}")
            try:
                self.client.get("/system_stats")
                return
            except OSError:
                time.sleep(0.1)
        raise HostError(f"ComfyUI did not answer within {START_LIMIT_SECONDS} s. "
                        f"The end of its log {self.log}:\n{self.log_tail()}")

    def is_alive(self) -> bool:
        """Whether the server process is running."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Wait until the server stops by itself, and return its exit status."""
        assert self._process is not None
        return self._process.wait()

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the server's log."""
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Stop the server. Does nothing if it has already stopped."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def raise_interrupt(signum: int, frame: object) -> None:
    """A signal handler that treats SIGTERM like Ctrl-C."""
    raise KeyboardInterrupt


def free_port() -> int:
    """A free TCP port on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Packs:
    """Options for ComfyUI's main.py: where to look for packs, and which to load if all others are disabled."""

    search: list[str]
    whitelist: list[str]


def packs_to_load(environment: setup.Environment, with_pack: bool = True) -> Packs:
    """ComfyUI's options to load this pack (if `with_pack`), and the CPU shim if ComfyUI needs it."""
    names = [setup.SHIM] if environment.shim.exists() else []
    search = []
    if with_pack:
        folder = environment.host / "custom_nodes"
        installed = [path.name for path in folder.iterdir() if path.resolve() == setup.ROOT] if folder.is_dir() else []
        # If the pack is already installed in ComfyUI, it must not be loaded twice.
        if not installed:
            search = ["--extra-model-paths-config", str(write_search_path(setup.DEV / "custom_nodes.yaml"))]
        names += installed or [setup.PACK_LINK]
    return Packs(search, ["--whitelist-custom-nodes", *names] if names else [])


def write_search_path(path: Path) -> Path:
    """Write a small YAML file that tells ComfyUI to look for packs in `.dev/custom_nodes`. Returns `path`."""
    # A JSON string is also a valid YAML string, whatever characters the path has.
    text = f"layerdiff:\n  custom_nodes: {json.dumps(str(setup.DEV / 'custom_nodes'))}\n"
    # Another server that is just starting must not find it empty.
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
    return path
