"""Generate a layered image through a real ComfyUI server and save its layers to `output/`."""

import argparse
import json
import os
import platform
import sys
import time
from io import BytesIO
from typing import Any

from PIL import Image

from layerdiff_core.whole import whole, write_text

from . import setup
from .client import HostError, Result
from .host import Server
from .sheet import Layer, draw_sheet

OUTPUT = setup.ROOT / "output"
PROMPT = setup.ROOT / "tests" / "api" / "text_to_layers.json"
SAVE, EXPORT = "6", "10"
STAGES = {"1": "load", "2": "encode", "3": "empty_latent", "4": "sample", "5": "decode", SAVE: "save", EXPORT: "export"}


class Progress:
    """Shows one line per node. On a terminal the steps count up in that line; otherwise each step gets its own line."""

    def __init__(self, prompt: dict[str, Any]) -> None:
        self._titles = {node: data["_meta"]["title"] for node, data in prompt.items()}
        self._live = sys.stdout.isatty()
        self._node: str | None = None
        self._steps = ""
        self._since = time.monotonic()

    def see(self, kind: str, data: dict[str, Any]) -> None:
        """Show one of ComfyUI's messages."""
        if kind == "executing":
            self._end_line()
            self._node, self._steps, self._since = data["node"], "", time.monotonic()
            if self._node is not None and self._live:
                print(f"  {self._titles[self._node]} ...", end="", flush=True)
        elif kind == "progress" and self._node is not None:
            self._steps = f", step {data['value']}/{data['max']}"
            start = "\r" if self._live else ""
            print(f"{start}  {self._titles[self._node]}{self._steps} ...", end="" if self._live else "\n", flush=True)

    def _end_line(self) -> None:
        if self._node is not None:
            start = "\r" if self._live else ""
            seconds = time.monotonic() - self._since
            print(f"{start}  {self._titles[self._node]}{self._steps}: {seconds:.1f} s ", flush=True)


def main(arguments: list[str]) -> int:
    """Run the demo. Returns 0 if all images were generated."""
    argparse.ArgumentParser(prog="dev.py demo", description=__doc__).parse_args(arguments)
    began = time.monotonic()
    prompt = json.loads(PROMPT.read_text("utf-8"))
    seconds = {"setup": float(os.environ.get("LAYERDIFF_SETUP_SECONDS", 0))}
    try:
        print("Starting ComfyUI with the pack ...", flush=True)
        with Server("demo") as server:
            seconds["host_start"] = server.seconds_to_start
            print(f"  running at {server.client.address} after {server.seconds_to_start:.1f} s", flush=True)
            print(f"Generating: {prompt['2']['inputs']['global_prompt']}", flush=True)
            result = server.client.run(prompt, Progress(prompt).see)
            for node, spent in result.seconds.items():
                seconds[STAGES[node]] = seconds.get(STAGES[node], 0.0) + spent
            since = time.monotonic()
            files = fetch_pictures(server, result, prompt)
            seconds["fetch_and_sheet"] = time.monotonic() - since
    except (HostError, setup.SetupError) as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    seconds["total"] = seconds["setup"] + time.monotonic() - began
    report = {"seconds": {stage: round(spent, 3) for stage, spent in seconds.items()}, "files": files,
              "machine": f"{platform.platform()}, {os.cpu_count()} cores", "prompt": prompt}
    write_text(OUTPUT / "demo.json", json.dumps(report, indent=2) + "\n")
    print(f"Done in {seconds['total']:.1f} s. The images are in {OUTPUT}. Start with contact_sheet.png.")
    return 0


def fetch_pictures(server: Server, result: Result, prompt: dict[str, Any]) -> list[str]:
    """Download the composite, the layers and the PSD, extract the masks from the layers' alpha, draw the contact sheet, and save
    everything in `output/`."""
    named = [line.partition(":") for line in prompt["2"]["inputs"]["layer_prompts"].splitlines()]
    composite, *pictures = (Image.open(BytesIO(server.client.download(file))) for file in result.outputs[SAVE]["images"])
    OUTPUT.mkdir(exist_ok=True)
    for old in OUTPUT.glob("*.png"):
        old.unlink()
    files: list[str] = []

    def keep(picture: Image.Image, name: str) -> Image.Image:
        with whole(OUTPUT / name) as part:
            picture.save(part, "PNG")
        files.append(name)
        return picture

    layers = [Layer(name, text.strip(), keep(picture, f"layer_{k}_{name}.png"),
                    keep(picture.getchannel("A"), f"mask_{k}_{name}.png"))
              for k, ((name, _, text), picture) in enumerate(zip(named, pictures, strict=True))]
    sheet = draw_sheet(prompt["2"]["inputs"]["global_prompt"], keep(composite.convert("RGB"), "composite.png"), layers)
    keep(sheet, "contact_sheet.png")
    with whole(OUTPUT / "layers.psd") as part:
        part.write_bytes(server.client.download(result.outputs[EXPORT]["files"][0]))
    return [*files, "layers.psd"]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
