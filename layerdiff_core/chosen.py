"""Which layers a text chooses, and how strongly."""

import math
import re
from collections.abc import Sequence

MAX_STRENGTH = 10.0
EXAMPLE = 'for example "2", "0-2", "fox" or "1=0.5, 2:4=1.0"'


def parse_layer_strengths(text: str, layers: int, names: Sequence[str], strength: float) -> dict[int, float]:
    """Read layers and their strengths, `1=0.5, fox, 0-2=0.8`, in the order of the text. Returns {layer: strength}.

    layers: how many there are; names: theirs, as far as they are known. strength: of layers that say none. `0-2` are the layers
    0, 1 and 2; `2:4` are 2 and 3, without the end, as in Advanced-ControlNet (from whose users the form with `=` comes). A
    number is always a layer's number. ValueError for what is no layer, is listed twice, or has no strength of 0..10.
    """
    chosen: dict[int, float] = {}
    for part in filter(None, (part.strip() for part in re.split("[,;\n]", text))):
        which, equals, number = (piece.strip() for piece in part.rpartition("=")) if "=" in part else (part, "", "")
        for layer in layers_named(which, layers, names):
            if layer in chosen:
                raise ValueError(f"Layer {layer} is listed twice. List each layer once.")
            chosen[layer] = read_strength(part, number) if equals else strength
    if not chosen:
        raise ValueError(f"No layers are listed. Enter their numbers or names, {EXAMPLE}; 0 is the background.")
    return chosen


def layers_named(which: str, layers: int, names: Sequence[str]) -> list[int]:
    """The layers that a number, a range or a name stands for, in order."""
    found = re.fullmatch(r"(\d{1,20})(?:\s*([-:])\s*(\d{1,20}))?", which, re.ASCII)
    if found:
        first, sign, last = int(found[1]), found[2], int(found[3] or found[1])
        last -= sign == ":"
        if first > last:
            raise ValueError(f"{which!r} is an empty range. 0-2 means the layers 0, 1 and 2; 2:4 means 2 and 3, without the end.")
        if last >= layers:
            raise ValueError(f"There is no layer {last}. The conditioning has {layers} layers, numbered 0 to {layers - 1}.")
        return list(range(first, last + 1))
    alike = [number for number, name in enumerate(names) if name.casefold() == which.casefold()]
    if not alike:
        known = f"The layers are called {', '.join(names)}." if names else "The layers of this conditioning have no names."
        raise ValueError(f"{which[:100]!r} is not a layer. {known} Enter numbers{' or names' if names else ''}, {EXAMPLE}; 0 is "
                         "the background.")
    if len(alike) > 1:
        raise ValueError(f"The layers {' and '.join(map(str, alike))} are all called {which!r}. Enter their numbers instead.")
    return alike


def read_strength(part: str, number: str) -> float:
    """A strength of 0..10."""
    try:
        strength = float(number)
    except ValueError:
        strength = math.nan
    if not 0 <= strength <= MAX_STRENGTH:
        raise ValueError(f"{part[:100]!r} does not end with a strength from 0 to {MAX_STRENGTH:g}. Write for example \"1=0.5\".")
    return strength
