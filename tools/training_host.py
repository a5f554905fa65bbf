"""Imports ComfyUI's network classes and the pack's modules for training, without server, nodes or ComfyUI's folders."""

import importlib
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

from layerdiff_core.whole import write_text

from . import setup

WORDS_FILE = "clip_words.json"


def import_networks() -> None:
    """Make `layerdiff_pack`, with the pack's own modules, and ComfyUI's `comfy` importable."""
    environment = setup.locate()
    sys.path.insert(0, str(environment.host))
    if environment.shim.exists():
        exec(compile(environment.shim.read_text("utf-8"), str(environment.shim), "exec"), {})
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    # The default on a CPU is sliced attention, which trains slowly.
    args.use_pytorch_cross_attention = True
    pack = types.ModuleType("layerdiff_pack")
    pack.__path__ = [str(setup.ROOT)]
    sys.modules["layerdiff_pack"] = pack


def word_tokenizer(folder: Path, words: set[str]) -> tuple[Callable[[str], list[int]], int, int]:
    """A function that tokenizes single words with ComfyUI's CLIP tokenizer, cached in `folder`; and the start and end token."""
    path = folder / WORDS_FILE
    known = json.loads(path.read_text("utf-8")) if path.exists() else {"words": {}}
    missing = sorted(words - known["words"].keys())
    if missing:
        clip = importlib.import_module("comfy.sd1_clip").SDTokenizer()
        known = {"words": {word: clip.tokenizer(word)["input_ids"][1:-1] for word in sorted(words)},
                 "start": clip.start_token, "end": clip.end_token}
        write_text(path, json.dumps(known))
    return known["words"].__getitem__, known["start"], known["end"]
