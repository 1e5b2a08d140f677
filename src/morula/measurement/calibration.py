"""Confidences that are probabilities: how often objects like this one matched a true object in the validation images.

A decoder's confidence tells little more than that an object is there: two nuclei under one id are as bright as one. What gives errors away
is that an object is much larger or smaller than the others of its image, not round, cut by a neighbour, or hardly different from its
surroundings, see `morula.measurement.evidence`. So a logistic regression learns, from the objects of labelled validation images, the
probability that an object matches a true one (intersection over union of at least 0.5). This is Platt scaling (Platt 1999, "Probabilistic
outputs for support vector machines") with seven more variables than the confidence. Which variables, and how strong the penalty is, was
chosen on training and validation images (docs/benchmarks/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from morula.core.options import Options

FEWEST = 20
"""With fewer objects nothing is learned."""
PENALTY = 20.0
"""Weight of the squared coefficients (of standardised variables): objects of few images, which resemble each other, decide them."""
BINS = 10
"""Intervals of the confidence over which the calibration error is summed."""

Table = Mapping[str, np.ndarray]
"""Columns of `morula.measurement.measure.measured_columns` and of `morula.measurement.evidence.evidence`."""


class Calibration(Options):
    """A logistic regression from measured objects to the probability that they are right."""

    weights: Annotated[tuple[float, ...], Field(min_length=5, max_length=8)]
    """Weights of the decoder's confidence (log odds), the logarithm of the voxels, how much smaller and how much larger than the median of
    its image the object is (logarithms), its circularity or sphericity, how much of its outline touches other objects, how well an ellipse
    fits it, and the logarithm of its contrast. Runs of earlier versions have the first five."""
    bias: float
    """Log odds of an object for which all these are 0."""
    images: int
    """Validation images that it was fitted to."""
    objects: int
    """Objects in them."""
    right: int
    """Those of them that matched a true object."""


def fit_calibration(tables: Sequence[Table], right: Sequence[np.ndarray]) -> Calibration | None:
    """The calibration of the objects of validation images; `None` for fewer than 20 objects.

    Args:
        tables: measured objects of each image, with the decoder's `confidence`.
        right: for each image, 1 for each object of the table that matches a true object, 0 for the others; objects with NaN are left out.

    Examples:
        >>> table = {"voxels": np.full(400, 9), "confidence": np.repeat([0.9, 0.6], 200), "circularity": np.ones(400)}
        >>> table |= {"touching": np.zeros(400), "ellipsoid_fit": np.ones(400), "contrast": np.ones(400)}
        >>> found = fit_calibration([table], [np.arange(400) < 200])
        >>> calibrated(found, table)[[0, -1]].round(1)
        array([0.9, 0.1], dtype=float32)
    """
    values = np.concatenate([*map(_variables, tables), np.empty((0, 8))])
    answers = np.concatenate([*(np.asarray(flags, np.float64) for flags in right), np.empty(0)])
    known = np.isfinite(answers)
    values, hits = values[known], answers[known] > 0
    if len(hits) < FEWEST:
        return None
    centre, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    fitted = _logistic_regression((values - centre) / spread, hits)
    weights = fitted[1:] / spread
    return Calibration(
        weights=tuple(weights.tolist()),
        bias=float(fitted[0] - weights @ centre),
        images=len(tables),
        objects=len(hits),
        right=int(hits.sum()),
    )


def calibrated(calibration: Calibration, table: Table) -> np.ndarray:
    """The probability, (n,) float32, that each object of an image is right; all objects of the image must be in the table."""
    weights = np.asarray(calibration.weights)
    odds = _variables(table)[:, : len(weights)] @ weights + calibration.bias
    return _probability(odds).astype(np.float32)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015): mean difference of confidence and share of right objects over ten intervals.

    NaN without objects.

    Examples:
        >>> calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False])).__round__(2)
        0.15
    """
    if not len(confidence):
        return float("nan")
    sums = [np.bincount(intervals(confidence), weights=values, minlength=BINS) for values in (confidence, right)]
    return float(np.abs(sums[0] - sums[1]).sum() / len(confidence))


def intervals(confidence: np.ndarray) -> np.ndarray:
    """The interval, 0 to 9, of each confidence from 0 to 1."""
    return np.minimum((np.asarray(confidence, np.float64) * BINS).astype(np.intp), BINS - 1)


def share_of_errors(confidence: np.ndarray, right: np.ndarray, part: float = 0.2) -> float:
    """The share of all wrong objects that are among the least confident `part`; NaN if all objects are right.

    Examples:
        >>> share_of_errors(np.array([0.1, 0.9, 0.8, 0.7, 0.6]), np.array([False, True, True, True, True]))
        1.0
    """
    wrong = ~np.asarray(right, bool)
    least = np.argsort(confidence, kind="stable")[: round(part * len(wrong))]
    return float(wrong[least].sum() / wrong.sum()) if wrong.any() else float("nan")


def _variables(table: Table) -> np.ndarray:
    """The variables of the regression, n x 8."""
    confidence = np.clip(np.asarray(table["confidence"], np.float64), 1e-3, 1 - 1e-3)
    size = np.log(np.maximum(np.asarray(table["voxels"], np.float64), 1))
    relative = size - np.median(size) if len(size) else size
    roundness = np.asarray(table["circularity" if "circularity" in table else "sphericity"], np.float64)
    # objects of a few voxels have no outline, or one far too short
    roundness = np.clip(np.where(np.isfinite(roundness), roundness, 1), 0, 1.5)
    fit = np.clip(np.asarray(table["ellipsoid_fit"], np.float64), 0.3, 1.3)
    contrast = np.log(np.clip(np.asarray(table["contrast"], np.float64), 0.05, 100))
    touching = np.asarray(table["touching"], np.float64)
    odds = np.log(confidence / (1 - confidence))
    return np.stack([odds, size, np.minimum(relative, 0), np.maximum(relative, 0), roundness, touching, fit, contrast], axis=1)


def _probability(odds: np.ndarray) -> np.ndarray:
    """The inverse of log odds; beyond 30 nothing changes in float32 but the risk of an overflow."""
    return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))


def _logistic_regression(values: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Bias and weights of highest penalised likelihood, by Newton's method.

    As in Platt's article the answers are not quite 0 and 1, so that the bias stays finite if all objects are right.
    """
    n, right = len(hits), int(hits.sum())
    answers = np.where(hits, (right + 1) / (right + 2), 1 / (n - right + 2))
    design = np.column_stack([np.ones(n), values])
    penalty = np.diag([1e-6, *[PENALTY] * values.shape[1]])
    weights = np.zeros(design.shape[1])
    for _ in range(100):
        chance = _probability(design @ weights)
        gradient = design.T @ (answers - chance) - penalty @ weights
        step = np.linalg.solve((design * (chance * (1 - chance))[:, None]).T @ design + penalty, gradient)
        # a whole Newton step from flat likelihood overshoots
        weights += step * min(1, 5 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return weights
