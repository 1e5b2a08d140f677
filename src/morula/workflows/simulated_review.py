"""A review as somebody who knows the truth would do it: for examples, tests and measurements of what corrections are worth."""

from __future__ import annotations

import numpy as np

from morula.workflows.corrections import Corrections, Status

RIGHT = 0.7
"""Intersection over union with a true object from which on a person leaves an object as it is."""
INSIDE = 0.5
"""Share of an object that must be inside another one to count as a part of it."""


def review_by_truth(corrections: Corrections, truth: np.ndarray, count: int = 10) -> list[tuple[int, Status]]:
    """Decide about the most suspicious objects by true labels of the same shape; at most `count` of them.

    Returns:
        the objects and what was done, in this order.

    Examples:
        >>> truth = np.zeros((8, 8), int)
        >>> truth[1:4, 1:4], truth[1:4, 4:7] = 1, 2
        >>> both = Corrections((truth > 0).astype(int))
        >>> review_by_truth(both, truth)
        [(1, 'split')]
        >>> np.array_equal(both.labels > 1, truth == 2) or np.array_equal(both.labels > 1, truth == 1)
        True
    """
    decided: list[tuple[int, Status]] = []
    while len(decided) < count and (label := corrections.next()) is not None:
        decided.append((label, _decide(corrections, label, truth)))
    return decided


def _decide(corrections: Corrections, label: int, truth: np.ndarray) -> Status:
    box, inside = corrections.mask(label)
    shares = _shares(truth[box][inside])
    if sum(shares.values()) < INSIDE:
        corrections.delete(label)
        return "deleted"
    best = max(shares, key=lambda true_label: shares[true_label])
    whole = truth == best
    covered = corrections.labels[whole]
    common, size = int((covered == label).sum()), int(inside.sum())
    several = [true_label for true_label, share in shares.items() if share * size > INSIDE * (truth == true_label).sum()]
    if common / (size + len(covered) - common) >= RIGHT:
        corrections.accept(label)
        return "accepted"
    if len(several) > 1:
        points = [np.argwhere((truth == number) & (corrections.labels == label)).mean(axis=0) for number in several]
        corrections.split(label, points=points)
        return "split"
    parts = [other for other in _shares(covered) if other != label and _part_of(corrections, other, whole)]
    if parts and common > INSIDE * size:
        corrections.merge(label, *parts)
        return "merged"
    corrections.redraw(label, whole)
    return "redrawn"


def _shares(values: np.ndarray) -> dict[int, float]:
    """The share of each id among values; of the background none."""
    ids, counts = np.unique(values, return_counts=True)
    return {int(label): float(count) / max(1, values.size) for label, count in zip(ids, counts, strict=True) if label}


def _part_of(corrections: Corrections, label: int, whole: np.ndarray) -> bool:
    box, inside = corrections.mask(label)
    return bool(whole[box][inside].mean() > INSIDE)
