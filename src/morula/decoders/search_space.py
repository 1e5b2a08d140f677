"""Values worth trying of a decoder's options and of the operations on objects, for the search on validation images.

A search space is a mapping from an option's dotted name to values of which the first is the one in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Space = dict[str, tuple[Any, ...]]


def choices(current: Any, others: Sequence[Any]) -> tuple[Any, ...]:
    """The value in force, then the others.

    Examples:
        >>> choices(0.5, (0.25, 0.5, 0.75))
        (0.5, 0.25, 0.75)
    """
    return (current, *(other for other in others if other != current))


def refinement_space(operations: Sequence[Any], sizes: np.ndarray) -> Space:
    """Settings worth trying of operations on objects, by the operation's name; 0 and false leave it out.

    Args:
        operations: those in force.
        sizes: voxels of some true objects.

    Examples:
        >>> refinement_space([], np.array([90, 100, 140]))
        {'fill_holes': (False, True), 'remove_small': (0, 2, 5, 10, 20, 40), 'dilation': (0, 1, 2), 'erosion': (0, 1)}
    """
    # of an operation that is listed twice the first is searched
    stated = {each.kind: getattr(each, getattr(each, "shorthand", ""), True) for each in reversed(operations)}
    middle = float(np.median(sizes)) if len(sizes) else 0.0
    small = sorted({max(1, round(share * middle)) for share in (0.02, 0.05, 0.1, 0.2, 0.4)}) if middle else []
    name = "remove_small_objects" if "remove_small_objects" in stated else "remove_small"
    return {
        "fill_holes": choices(stated.get("fill_holes", False), (False, True)),
        name: choices(stated.get(name, 0), (0, *small)),
        "dilation": choices(stated.get("dilation", 0), (0, 1, 2)),
        "erosion": choices(stated.get("erosion", 0), (0, 1)),
    }
