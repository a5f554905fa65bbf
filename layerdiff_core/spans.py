"""Ranges of sampling in which the same prompts are active."""

from collections.abc import Iterator

Range = tuple[float, float]

GAP = 1e-5
"""What lies between the end of one range and the start of the next, which ComfyUI counts both in; ComfyUI's own, too."""


def spans(times: list[list[Range]]) -> Iterator[tuple[float, float, list[list[int]]]]:
    """Cut sampling where a prompt starts or ends to be active.

    times: for each layer the range of each of its prompts, 0 the start of sampling and 1 its end, both ends counted in. Yields
    start, end and for each layer which of its prompts are active there, where any is.
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
    """An edge by itself, at which the one range still and the next already counts, and what lies between it and the next one."""
    inside = [] if after is None or after - edge <= 2 * GAP else [(edge + GAP, after - GAP)]
    return [(edge, edge), *inside]
