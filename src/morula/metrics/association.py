"""Association of true and predicted objects: tables and images of found, missed and false objects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from morula.core.image_like import ImageLike
from morula.metrics.overlap import label_arrays

FOUND, MISSED, FALSE = (0, 255, 0), (255, 0, 0), (0, 0, 255)
"""Colours (red, green, blue) of matched objects, of true objects without a match, and of predicted objects without a match."""


def truth_table(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One row per true object: `gt_id`, `pred_id` (match, or else the object with the largest IoU, -1 if none), `iou`, `tag` (TP or FN).

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
    """One row per predicted object without a match: `pred_id`.

    Examples:
        >>> from morula.metrics.matching import associate
        >>> false_table(associate(np.array([[1, 1, 0]]), np.array([[5, 5, 8]])))
        {'pred_id': array([8])}
    """
    return {"pred_id": table["predicted_id"][table["tag"] == "FP"]}


def association_image(truth: ImageLike, prediction: ImageLike, table: Mapping[str, np.ndarray]) -> np.ndarray:
    """RGB image of the association: matched objects green, false positives blue, and on top false negatives red.

    Args:
        truth: integer label image (Z)YX, array or `Image`.
        prediction: likewise, of the same shape.
        table: from `morula.metrics.matching.associate` of these two.

    Returns:
        uint8 of shape (3, (Z)YX).

    Raises:
        DataError: for different shapes, or values that are not labels.

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
    # false negatives last: a missed object must not be hidden by the predicted ones that overlap it
    for mask, colour in ((predicted > 0, FALSE), (found, FOUND), (missed, MISSED)):
        for channel, value in enumerate(colour):
            picture[channel][mask] = value
    return picture
