"""The class of an object by the majority of its voxels."""

from __future__ import annotations

import numpy as np


def count_votes(labels: np.ndarray, probabilities: np.ndarray, n: int) -> np.ndarray:
    """Number of voxels (n, K) of each object 1 to n for which each class is the most probable one.

    Args:
        labels: ids (Z)YX.
        probabilities: of the classes, K(Z)YX.
        n: number of objects.

    Examples:
        >>> count_votes(np.array([[1, 1, 0, 2]]), np.array([[[0.9, 0.8, 0.1, 0.4]], [[0.1, 0.2, 0.9, 0.6]]]), 2).tolist()
        [[2, 0], [0, 1]]
    """
    # one histogram over (object, class) instead of a mask per object
    inside = labels > 0
    chosen = probabilities[:, inside].argmax(axis=0)
    width = len(probabilities)
    return np.bincount((labels[inside].astype(np.int64) - 1) * width + chosen, minlength=n * width).reshape(n, width)


def elected(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class (n,) with most votes, and its share of them (n,) float32.

    Returns:
        Classes from 1 on; of classes with equally many votes the lowest. 0 with share 0 for an id without voxels.

    Examples:
        >>> elected(np.array([[2, 1], [0, 3]]))
        (array([1, 2]), array([0.6666667, 1.       ], dtype=float32))
    """
    total = votes.sum(axis=1)
    classes = np.where(total > 0, votes.argmax(axis=1) + 1, 0)
    return classes, (votes.max(axis=1, initial=0) / np.maximum(total, 1)).astype(np.float32)
