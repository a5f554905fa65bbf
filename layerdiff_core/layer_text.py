"""Layers and a strength for each, written as users of Advanced-ControlNet write them: "1=0.5, 2:4=1.0"."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .latents import LONGEST_NUMBER

EXAMPLE = "Enter layers such as \"1\", \"1=0.5, 2:4=1.0\" or \"-1\"; 0 is the background, -1 the top layer."
NUMBER = rf"-?[0-9]{{1,{LONGEST_NUMBER}}}"
SPAN = rf"(?P<start>{NUMBER})?\s*:\s*(?P<stop>{NUMBER})?"
DASHED = rf"(?P<first>[0-9]{{1,{LONGEST_NUMBER}}})\s*-\s*(?P<last>[0-9]{{1,{LONGEST_NUMBER}}})"


@dataclass(frozen=True)
class LayerEntry:
    """One part of such a text: the layers from `start` up to but not including `stop`, and their strength.

    Negative numbers count from the top, and None means no limit on that side, as in a Python slice.
    """

    text: str
    start: int | None
    stop: int | None
    strength: float

    def of(self, layers: int) -> range:
        """The numbers of these layers in a scene of `layers` layers. ValueError if one does not exist or the range is empty."""
        chosen = range(*(default if bound is None else bound + layers * (bound < 0)
                         for bound, default in ((self.start, 0), (self.stop, layers))))
        if not chosen:
            raise ValueError(f"{self.text!r} is no layer of a scene of {layers} layers: the second number of a range such as "
                             f"\"2:4\" is not part of it and must be larger than the first. {EXAMPLE}")
        missing = [number for number in (chosen[0], chosen[-1]) if not 0 <= number < layers]
        if missing:
            raise ValueError(f"{self.text!r} refers to a layer that does not exist. There are {layers} layers per scene, "
                             f"numbered 0 to {layers - 1}.")
        return chosen


def parse_layer_text(text: str, default_strength: float, names: Sequence[str] = ()) -> list[LayerEntry]:
    """Read layers and strengths when the number of layers may not be known yet.

    Parts are separated by commas, semicolons or new lines. Each is a number ("1"; "-1" is the top layer), a range without
    its end as in Advanced-ControlNet and Python ("2:4" is 2 and 3, "1:" everything above the background), a range that includes
    its end as in Free Layers ("0-2" is 0, 1 and 2), or one of `names`. It can be followed by a strength, as in "=0.5"; the
    default is `default_strength`. ValueError for anything else.
    """
    entries = []
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        which, equals, strength = (piece.strip() for piece in part.rpartition("="))
        if not equals:
            which, strength = part, str(default_strength)
        try:
            value = float(strength)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{strength[:100]!r} in {part[:100]!r} is not a strength. Enter a number after \"=\", for example "
                             "\"1=0.5\".")
        entries.append(LayerEntry(part, *_bounds(part, which, names), value))
    if not entries:
        raise ValueError(f"No layers are listed. {EXAMPLE}")
    return entries


def _bounds(part: str, which: str, names: Sequence[str]) -> tuple[int | None, int | None]:
    if re.fullmatch(NUMBER, which):
        return int(which), int(which) + 1 if which != "-1" else None
    if span := re.fullmatch(SPAN, which):
        start, stop = (None if bound is None else int(bound) for bound in span.groups())
        return start, stop
    if dashed := re.fullmatch(DASHED, which):
        return int(dashed["first"]), int(dashed["last"]) + 1
    alike = [number for number, name in enumerate(names) if name.strip().casefold() == which.casefold()]
    if len(alike) > 1:
        raise ValueError(f"The layers {' and '.join(map(str, alike))} are all called {which!r}. Enter their numbers instead.")
    if alike:
        return alike[0], alike[0] + 1
    known = f" The layers are called {', '.join(names[:10])}." if names else ""
    raise ValueError(f"{part[:100]!r} is not a layer. {EXAMPLE}{known}")


def strengths_of(entries: Sequence[LayerEntry], layers: int) -> list[float]:
    """The strength of each of `layers` layers, 0 for those that are not listed. If a layer is listed twice, the last entry
    applies. ValueError for a layer that does not exist."""
    strengths = [0.0] * layers
    for entry in entries:
        for number in entry.of(layers):
            strengths[number] = entry.strength
    return strengths


def layer_strengths(text: str, default_strength: float, layers: int, names: Sequence[str] = ()) -> list[float]:
    """The strength of each of `layers` layers from such a text. See `parse_layer_text` and `strengths_of`."""
    return strengths_of(parse_layer_text(text, default_strength, names), layers)


def listed_strengths(entries: Sequence[LayerEntry], layers: int, most: float) -> dict[int, float]:
    """{layer: strength} in the order of the text. ValueError if a layer does not exist, is listed twice, or has a strength that
    is not from 0 to `most`."""
    listed: dict[int, float] = {}
    for entry in entries:
        if not 0 <= entry.strength <= most:
            raise ValueError(f"{entry.text[:100]!r} has a strength that is not from 0 to {most:g}. Write for example \"1=0.5\".")
        for number in entry.of(layers):
            if number in listed:
                raise ValueError(f"Layer {number} is listed twice. List each layer once.")
            listed[number] = entry.strength
    return listed
