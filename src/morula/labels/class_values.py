"""Class images whose values are not 0, 1, 2, ...: masks of 0 and 255, numbers with gaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.errors import DataError


def as_classes(labels: np.ndarray, values: Sequence[int], ignore: int | None = None) -> np.ndarray:
    """The class of each voxel: the position of its value in `values`, their number where it has the value `ignore`.

    Raises:
        DataError: for another value.

    Examples:
        >>> as_classes(np.array([[0, 255, 7]]), (0, 255), ignore=7)
        array([[0, 1, 2]])
    """
    order = np.argsort(values)
    known = np.asarray(values, np.int64)[order]
    place = np.clip(np.searchsorted(known, labels), 0, len(known) - 1)
    other = known[place] != labels
    ignored = np.zeros(other.shape, bool) if ignore is None else np.asarray(labels) == ignore
    if (other & ~ignored).any():
        value, listed = int(np.asarray(labels)[other & ~ignored].flat[0]), ", ".join(map(str, values))
        rule = f"is not a class: method.values has {listed}"
        remedy = "Add it to method.values, or name it as method.ignore."
        raise DataError("labels.unknown_class", rule, key="labels", value=value, remedy=remedy)
    return np.where(ignored, len(known), order[place])
