"""Values to try for a decoder's options and for operations on objects, for the search on validation images.

A search space maps the dotted name of an option to the values to try; the first one is the current value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from morula.core.variants import VariantOptions

Value = object
Space = dict[str, tuple[Value, ...]]


def choices(current: Value, others: Iterable[Value]) -> tuple[Value, ...]:
    """The current value, then the others.

    Examples:
        >>> choices(0.5, (0.25, 0.5, 0.75))
        (0.5, 0.25, 0.75)
    """
    return (current, *(other for other in others if other != current))


def refinement_space(operations: Sequence[VariantOptions], sizes: np.ndarray) -> Space:
    """Settings to try for operations on objects, by the operation's name; 0 and false switch it off.

    Args:
        operations: the current ones.
        sizes: voxels per object of some true labels, which scale the sizes to try.

    Examples:
        >>> refinement_space([], np.array([90, 100, 140]))
        {'fill_holes': (False, True), 'remove_small': (0, 2, 5, 10, 20, 40), 'dilation': (0, 1, 2), 'erosion': (0, 1)}
    """
    # where an operation is listed twice, the first one is varied
    current = {operation.kind: getattr(operation, operation.shorthand or "", True) for operation in reversed(operations)}
    # small objects are searched relative to the typical one
    median_size = float(np.median(sizes)) if len(sizes) else 0.0
    small = sorted({max(1, round(share * median_size)) for share in (0.02, 0.05, 0.1, 0.2, 0.4)}) if median_size else []
    remove_small = "remove_small_objects" if "remove_small_objects" in current else "remove_small"
    return {
        "fill_holes": choices(current.get("fill_holes", False), (False, True)),
        remove_small: choices(current.get(remove_small, 0), (0, *small)),
        "dilation": choices(current.get("dilation", 0), (0, 1, 2)),
        "erosion": choices(current.get("erosion", 0), (0, 1)),
    }
