"""Writes small files of every kind again and again in processes that are killed; run by test_killed.py.

Half of them are killed at random moments, half as soon as a new file is seen, which is while it is written. Each process is
forked off after all is imported, so that a kill costs no more than the milliseconds that it waits for.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))

# Before ComfyUI, which has a folder `tests` of its own, comes first in sys.path.
from tests.documents import mixed_document
from tools import inprocess

KILLS = 20


def writers(pack: Any, folder: Path) -> dict[str, Callable[[int], None]]:
    """What writes the n-th file of each kind into a folder of its own."""
    import folder_paths
    import torch

    core, text = pack.nodes.exchange, {"prompt": "{}", "workflow": '{"nodes": []}'}
    document = core.Document.from_socket(mixed_document(3, 64).to_socket())
    header, tensors = pack.nodes.train.checkpoint.Header(
        "layerdiff", "adapter", {"enhancer": {}}, 0, "SD 1.5", "", ""), {f"unet.{n}": torch.ones(200, 300) for n in range(5)}
    folder_paths.temp_directory = str(folder / "panel")

    def path(kind: str, number: int, ending: str = "") -> Path:
        return folder / kind / f"{os.getpid()}_{number:05}{ending}"

    def panel(number: int) -> None:
        random = torch.Generator().manual_seed(os.getpid() * 10_000 + number)
        picture = torch.rand(1, 64, 64, 3, generator=random)
        pack.nodes.host.panel.panel_ui(core.Document.from_socket({"layers": [{"image": picture}]}), False)

    return {
        "psd": lambda n: core._psd().write_psd(document, path("psd", n, ".psd"), text),
        "ora": lambda n: core.write_ora(document, path("ora", n, ".ora"), text),
        "png folder": lambda n: core.write_png_folder(document, path("png folder", n), text),
        "animation": lambda n: core.write_animation(document, path("animation", n, ".webp"), text),
        "save layers": lambda n: pack.nodes.save.save_layers(document, folder / "save layers", f"{os.getpid()}_{n:05}", text),
        "adapter": lambda n: pack.nodes.train.checkpoint.write(path("adapter", n, ".safetensors"), header, tensors),
        "panel": panel,
    }


def main(folder: Path) -> None:
    inprocess.import_host()
    import torch

    torch.set_num_threads(1)  # what OpenMP has started does not survive a fork
    dice = random.Random(0)
    for kind, write in writers(inprocess.load_pack(), folder).items():
        (folder / kind).mkdir()
        write(0)  # so that all is imported
        started = time.monotonic()
        write(1)
        longest = 0.01 + 3 * (time.monotonic() - started)
        place = folder / kind / "layerdiff_panel" if kind == "panel" else folder / kind
        for kill in range(KILLS):
            before = len(os.listdir(place))
            child = os.fork()
            if child == 0:
                for number in range(1000):
                    write(number)
            if kill % 2:
                deadline = time.monotonic() + 5
                while len(os.listdir(place)) == before and time.monotonic() < deadline:
                    pass
            else:
                time.sleep(dice.uniform(0.002, longest))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print(kind, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
