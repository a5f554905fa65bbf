"""Parses layer prompts and brings token sequences to the same length."""

import math

from torch import Tensor

from .layers import MAX_LAYERS


def parse_layer_prompts(text: str) -> list[tuple[str, str]]:
    """Parse layer prompts, one layer per line, as `name: prompt` or just the prompt, background first.

    Returns (name, prompt) pairs. Empty lines are skipped; layers without a name are named by number. A colon inside
    brackets, as in "(red:1.4) fox", or after "embedding" belongs to the prompt. ValueError if there are no lines, a line has no
    prompt, or there are more than 50 layers.
    """
    layers: list[tuple[str, str]] = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        end = name_end(line)
        name, prompt = line[:end], line[end + 1 :]
        if end < 0:
            name, prompt = "background" if not layers else f"layer {len(layers)}", line
        if not prompt.strip():
            raise ValueError(f"The layer {line!r} has no prompt. Enter one layer per line, for example \"fox: a red fox\", the "
                             "background first.")
        layers.append((name.strip() or f"layer {len(layers)}", prompt.strip()))
    if not layers:
        raise ValueError("There are no layer prompts. Enter one layer per line, for example \"background: a green meadow\", then "
                         "\"fox: a red fox\".")
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"There are {len(layers)} layer prompts, but at most {MAX_LAYERS} layers are possible. Remove some "
                         "lines.")
    return layers


def name_end(line: str) -> int:
    """Position of the colon after a layer's name, or -1."""
    depth, escaped = 0, False
    for place, letter in enumerate(line):
        embedding = line[:place] == "embedding" and line[place + 1 : place + 2].strip()
        if letter == ":" and depth <= 0 and not embedding:
            return place
        if not escaped:
            depth += (letter == "(") - (letter == ")")
        escaped = letter == "\\" and not escaped
    return -1


def same_length(tokens: list[Tensor]) -> list[Tensor]:
    """Repeat token sequences [1, T, dim] until all have the same length, as ComfyUI does. Long prompts have 154 tokens or
    more. ValueError if their widths differ or a sequence is empty."""
    widths = {part.shape[-1] for part in tokens}
    if len(widths) > 1:
        raise ValueError(f"The layers' conditionings have widths {' and '.join(map(str, sorted(widths)))}, so they come from "
                         "different text encoders. Encode all of them with the CLIP of one checkpoint.")
    lengths = [part.shape[1] for part in tokens]
    if min(lengths) == 0:
        raise ValueError("The conditioning of a layer is empty. Connect an encoded prompt.")
    longest = math.lcm(*lengths)
    return [part.repeat(1, longest // part.shape[1], 1) for part in tokens]
