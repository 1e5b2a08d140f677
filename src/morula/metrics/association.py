"""What became of every object, for tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from morula.metrics.overlap import label_arrays

FOUND, MISSED, FALSE = (0, 255, 0), (255, 0, 0), (0, 0, 255)
"""Red, green and blue of objects that match, of true ones that nothing matches, of predicted ones that match nothing."""


def truth_table(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One row a true object: `gt_id`, `pred_id` (that matches it or overlaps it most, -1 where none does), `iou` and `tag` (TP or FN).

    Args:
        table: from `morula.metrics.matching.associate`.

    Examples:
        >>> from morula.metrics.matching import associate
        >>> truth_table(associate(np.array([[1, 1, 2]]), np.array([[5, 5, 0]])))["pred_id"]
        array([ 5, -1])
    """
    rows = table["tag"] != "FP"
    partner = table["predicted_id"][rows]
    return {
        "gt_id": table["true_id"][rows],
        "pred_id": np.where(partner > 0, partner, -1),
        "iou": table["iou"][rows],
        "tag": table["tag"][rows],
    }


def false_table(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One row a predicted object that matches nothing: `pred_id`.

    Examples:
        >>> from morula.metrics.matching import associate
        >>> false_table(associate(np.array([[1, 1, 0]]), np.array([[5, 5, 8]])))
        {'pred_id': array([8])}
    """
    return {"pred_id": table["predicted_id"][table["tag"] == "FP"]}


def association_image(truth: Any, prediction: Any, table: Mapping[str, np.ndarray]) -> np.ndarray:
    """Picture (3, (Z)YX) uint8 of what became of the objects: found ones green, false ones blue, over both the missed ones red.

    Args:
        truth: integer label image (Z)YX, array or `Image`.
        prediction: likewise, of the same shape.
        table: of these two, from `morula.metrics.matching.associate`.

    Raises:
        DataError: for differing shapes, or values that are no labels.

    Examples:
        >>> from morula.metrics.matching import associate
        >>> truth, prediction = np.array([[1, 1, 0, 2]]), np.array([[5, 5, 7, 0]])
        >>> association_image(truth, prediction, associate(truth, prediction))[:, 0].T.tolist()
        [[0, 255, 0], [0, 255, 0], [0, 0, 255], [255, 0, 0]]
    """
    true, predicted = label_arrays(truth, prediction)
    tag = table["tag"]
    found = np.isin(predicted, table["predicted_id"][tag == "TP"])
    missed = np.isin(true, table["true_id"][tag == "FN"])
    picture = np.zeros((3, *true.shape), np.uint8)
    for mask, colour in ((predicted > 0, FALSE), (found, FOUND), (missed, MISSED)):
        for channel, value in enumerate(colour):
            picture[channel][mask] = value
    return picture
