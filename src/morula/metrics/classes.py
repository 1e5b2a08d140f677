"""Scores of the classes of objects, from a confusion matrix that counts objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.errors import DataError
from morula.metrics.matching import associate


def object_classes(labels: np.ndarray, classes: np.ndarray, ignore: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """Class of each object of a label image, by majority of its voxels.

    Args:
        labels: label image.
        classes: class image of the same shape; voxels of value 0 or `ignore` are not counted.
        ignore: value of voxels whose class is unknown.

    Returns:
        Ids in ascending order, and their classes; 0 where the class is unknown.

    Raises:
        DataError: when the two images differ in shape.

    Examples:
        >>> object_classes(np.array([[5, 5, 5, 9]]), np.array([[1, 2, 2, 255]]))
        (array([5, 9]), array([2, 0]))
    """
    if labels.shape != classes.shape:
        raise DataError("classes.shape", f"have the shape {classes.shape} but the labels have {labels.shape}", key="classes")
    inside = labels > 0
    ids, index = np.unique(labels[inside], return_inverse=True)
    values = np.where(classes[inside] == ignore, 0, classes[inside]).astype(np.int64)
    width = int(values.max(initial=0)) + 1
    votes = np.bincount(index.ravel() * width + values, minlength=len(ids) * width).reshape(len(ids), width)
    votes[:, 0] = 0  # unknown voxels have no vote, however many they are
    return ids, np.where(votes.any(axis=1), votes.argmax(axis=1), 0)


def class_confusion(
    truth: tuple[np.ndarray, np.ndarray], result: tuple[np.ndarray, np.ndarray], count: int, *, threshold: float = 0.5, ignore: int = 255
) -> np.ndarray:
    """Objects by true and predicted class: int64 (count + 1, count + 1), rows true. Tables of images add up.

    Column 0 counts true objects without a match, row 0 predicted objects without a match. True objects of unknown class and their matches
    are not counted.

    Args:
        truth: label image and class image (Z)YX.
        result: label image and class image (Z)YX.
        count: number of classes.
        threshold: minimum intersection over union of a match.
        ignore: value of voxels of the true class image whose class is unknown.

    Raises:
        DataError: for a class above `count`.

    Examples:
        >>> labels = np.array([[1, 1, 0, 2, 2, 0, 3]])
        >>> class_confusion((labels, np.array([[1, 1, 0, 2, 2, 0, 255]])), (labels, np.array([[1, 1, 0, 1, 1, 0, 1]])), 2).tolist()
        [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
    """
    true_of, found_of = (dict(zip(*map(np.ndarray.tolist, object_classes(*image, ignore)), strict=True)) for image in (truth, result))
    for what, classes in (("truth", true_of), ("result", found_of)):
        highest = max(classes.values(), default=0)
        if highest > count:
            raise DataError("classes.unknown", f"an object of the {what} is outside the classes 1 to {count}", key="class", value=highest)
    table = np.zeros((count + 1, count + 1), np.int64)
    pairs = associate(truth[0], result[0], threshold)
    for true_id, found_id, tag in zip(pairs["true_id"].tolist(), pairs["predicted_id"].tolist(), pairs["tag"].tolist(), strict=True):
        if tag == "FP":
            table[0, found_of[found_id]] += 1
        elif true_of[true_id]:
            table[true_of[true_id], found_of[found_id] if tag == "TP" else 0] += 1
    return table


def class_scores(table: np.ndarray, names: Sequence[str]) -> list[dict[str, str | int | float]]:
    """One row per class: counts, precision, recall and F1; a true positive is matched and has the right class.

    Examples:
        >>> row, _ = class_scores(np.array([[0, 0, 1], [1, 3, 0], [0, 0, 2]]), ("a", "b"))
        >>> row["class"], row["tp"], row["fn"], row["precision"], round(row["f1"], 3)
        ('a', 3, 1, 1.0, 0.857)
    """
    rows: list[dict[str, str | int | float]] = []
    for number, name in enumerate(names, start=1):
        tp = int(table[number, number])
        true, found = int(table[number].sum()), int(table[:, number].sum())
        rows.append(
            {
                "class": name,
                "n_true": true,
                "n_pred": found,
                "tp": tp,
                "fp": found - tp,
                "fn": true - tp,
                "precision": tp / found if found else 0.0,
                "recall": tp / true if true else 0.0,
                "f1": 2 * tp / (true + found) if true + found else float("nan"),
            }
        )
    return rows


def class_accuracy(table: np.ndarray) -> float:
    """Fraction of the matched objects of known class that have the right class; NaN when there is no match.

    Examples:
        >>> class_accuracy(np.array([[0, 0, 1], [1, 3, 0], [0, 1, 1]]))
        0.8
    """
    found = int(table[1:, 1:].sum())
    return int(np.trace(table[1:, 1:])) / found if found else float("nan")
