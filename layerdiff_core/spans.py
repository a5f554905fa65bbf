"""Ranges of sampling in which the same prompts are active."""

from collections.abc import Iterator

Range = tuple[float, float]

GAP = 1e-5
"""The gap between one range and the next. ComfyUI includes both ends of a range, so ranges that touch would overlap."""


def spans(times: list[list[Range]]) -> Iterator[tuple[float, float, list[list[int]]]]:
    """Split sampling wherever a prompt becomes active or inactive.

    times: for each layer, the range of each of its prompts, from 0 (the start of sampling) to 1 (its end), both ends included.
    Yields start, end and, for each layer, the prompts that are active in between. Parts without any are skipped.
    """
    edges = sorted({edge for layer in times for span in layer if span[0] <= span[1] for edge in span})
    found: list[tuple[float, float, list[list[int]]]] = []
    for start, end in [cell for edge, after in zip(edges, [*edges[1:], None]) for cell in cells(edge, after)]:
        active = [[number for number, span in enumerate(layer) if span[0] <= start and end <= span[1]] for layer in times]
        if found and found[-1][2] == active:
            found[-1] = (found[-1][0], end, active)
        else:
            found.append((start, end, active))
    return ((start, end, active) for start, end, active in found if any(active))


def cells(edge: float, after: float | None) -> list[Range]:
    """The edge itself, where both the range that ends and the one that starts are active, and the part up to the next edge."""
    inside = [] if after is None or after - edge <= 2 * GAP else [(edge + GAP, after - GAP)]
    return [(edge, edge), *inside]
