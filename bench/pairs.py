"""Two implementations of the same operation, measured alternately."""

from __future__ import annotations

from collections.abc import Callable


def alternating(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> tuple[list[float], list[float]]:
    """Results of both, called in alternating order after a first pair that is discarded."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(pairs + 1):
        for side in (0, 1) if number % 2 else (1, 0):
            found[side].append((ours, theirs)[side]())
    return found[0][1:], found[1][1:]
