"""Matching of predicted to true objects by intersection over union, and the scores that follow from it.

The definition is StarDist's (Schmidt et al., MICCAI 2018; `stardist/matching.py`): objects are assigned one to one so that as many pairs as
possible reach the threshold and, among these assignments, the summed IoU is greatest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.image_like import ImageLike
from morula.metrics.overlap import contingency


@dataclass(frozen=True)
class Scores:
    """Counts and scores at one threshold.

    Without a match all scores are 0, as in StarDist; also where there is no object on either side (`average` ignores such images).

    Examples:
        >>> (scores,) = match(np.array([[1, 1, 0, 2]]), np.array([[3, 3, 0, 0]]), (0.5,))
        >>> scores.tp, scores.fn, scores.precision, scores.recall
        (1, 1, 1.0, 0.5)
    """

    threshold: float
    """Minimum IoU of a match."""
    tp: int
    """True positives: pairs that match."""
    fp: int
    """False positives: predicted objects without a match."""
    fn: int
    """False negatives: true objects without a match."""
    precision: float
    """tp / (tp + fp)."""
    recall: float
    """tp / (tp + fn)."""
    accuracy: float
    """tp / (tp + fp + fn), also called average precision at this threshold."""
    f1: float
    """2 tp / (2 tp + fp + fn)."""
    panoptic_quality: float
    """Summed IoU of the matches / (tp + fp / 2 + fn / 2), Kirillov et al., CVPR 2019."""
    mean_true_score: float
    """Summed IoU of the matches / number of true objects."""
    mean_matched_score: float
    """Summed IoU of the matches / tp."""
    n_true: int
    """Number of true objects."""
    n_pred: int
    """Number of predicted objects."""

    @classmethod
    def of(cls, threshold: float, tp: int, n_true: int, n_pred: int, total_iou: float) -> Scores:
        """All scores from the counts and the summed IoU of the matches."""
        fp, fn = n_pred - tp, n_true - tp

        def ratio(part: float, whole: float) -> float:
            return part / whole if tp else 0.0

        return cls(
            threshold=threshold,
            tp=tp,
            fp=fp,
            fn=fn,
            precision=ratio(tp, tp + fp),
            recall=ratio(tp, tp + fn),
            accuracy=ratio(tp, tp + fp + fn),
            f1=ratio(2 * tp, 2 * tp + fp + fn),
            panoptic_quality=ratio(total_iou, tp + fp / 2 + fn / 2),
            mean_true_score=ratio(total_iou, n_true),
            mean_matched_score=ratio(total_iou, tp),
            n_true=n_true,
            n_pred=n_pred,
        )


_FIGURES = ("precision", "recall", "accuracy", "f1", "panoptic_quality", "mean_true_score", "mean_matched_score")


@dataclass(frozen=True, eq=False)
class Overlaps:
    """IoU of every pair of objects that share a voxel; `true` and `pred` are indices into the sorted ids."""

    true_ids: np.ndarray
    pred_ids: np.ndarray
    true: np.ndarray
    pred: np.ndarray
    iou: np.ndarray

    @classmethod
    def of(cls, truth: ImageLike, prediction: ImageLike) -> Overlaps:
        """Overlaps of two label images (Z)YX of equal shape."""
        table = contingency(truth, prediction)
        true_ids, true = np.unique(table.truth, return_inverse=True)
        pred_ids, pred = np.unique(table.prediction, return_inverse=True)
        sizes_true = np.bincount(true, weights=table.count, minlength=len(true_ids))
        sizes_pred = np.bincount(pred, weights=table.count, minlength=len(pred_ids))
        iou = table.count / (sizes_true[true] + sizes_pred[pred] - table.count)
        objects = (table.truth > 0) & (table.prediction > 0)
        # the background took part in the sizes but is no object: indices are shifted by the one place that it has
        skip_true, skip_pred = int((true_ids == 0).sum()), int((pred_ids == 0).sum())
        return cls(true_ids[skip_true:], pred_ids[skip_pred:], true[objects] - skip_true, pred[objects] - skip_pred, iou[objects])

    def matches(self, threshold: float) -> np.ndarray:
        """Positions (in `iou`) of the pairs that match at this threshold."""
        reached = np.nonzero(self.iou >= threshold)[0]
        if threshold >= 0.5:
            return self._unambiguous(reached)
        # at a low threshold most images still have no object with two partners; then there is nothing to decide
        alone = all(np.bincount(side[reached], minlength=1).max() <= 1 for side in (self.true, self.pred))
        return reached if alone else self._assigned(threshold)

    def _unambiguous(self, reached: np.ndarray) -> np.ndarray:
        """Matches at a threshold of 0.5 or more, where the assignment is trivial.

        Above 0.5, an object has at most one partner. At a threshold of exactly 0.5 it may consist of two halves, of which the first is
        taken; the halves are inside it and have no other partner, so that the number of matches and their IoU equal those of the optimal
        assignment.
        """
        reached = reached[np.unique(self.true[reached], return_index=True)[1]]
        return reached[np.unique(self.pred[reached], return_index=True)[1]]

    def _assigned(self, threshold: float) -> np.ndarray:
        """The optimal assignment, solved separately for each connected group of overlapping objects, since groups share no pair."""
        from scipy.optimize import linear_sum_assignment
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        n_true, n_pred = len(self.true_ids), len(self.pred_ids)
        if not len(self.iou):  # scipy rejects a graph without nodes
            return np.zeros(0, np.intp)
        graph = coo_array((np.ones(len(self.iou)), (self.true, n_true + self.pred)), shape=(n_true + n_pred,) * 2)
        group = connected_components(graph, directed=False)[1][self.true]
        # a match has gain 1; the IoU decides between assignments with equally many matches, so that its sum must stay below 1
        gain = (self.iou >= threshold) + self.iou / (2 * min(n_true, n_pred))
        order = np.argsort(group, kind="stable")
        found: list[np.ndarray] = []
        for pairs in np.split(order, np.nonzero(np.diff(group[order]))[0] + 1):
            rows, row = np.unique(self.true[pairs], return_inverse=True)
            columns, column = np.unique(self.pred[pairs], return_inverse=True)
            gains = np.zeros((len(rows), len(columns)))
            gains[row, column] = gain[pairs]
            # the assignment is complete: it also pairs objects that do not overlap, which have no position
            position = np.full(gains.shape, -1, np.intp)
            position[row, column] = pairs
            found.append(position[linear_sum_assignment(gains, maximize=True)])
        every = np.concatenate(found)
        every = every[every >= 0]
        return every[self.iou[every] >= threshold]

    def scores(self, threshold: float) -> Scores:
        """Scores at this threshold."""
        matched = self.matches(threshold)
        return Scores.of(threshold, len(matched), len(self.true_ids), len(self.pred_ids), float(self.iou[matched].sum()))


def _thresholds(values: Sequence[float] | float) -> list[float]:
    thresholds = [float(value) for value in (values if isinstance(values, Iterable) else [values])]
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise OptionError("metric.threshold", "must be an IoU above 0 and up to 1", key="threshold", value=threshold)
    return thresholds


def match(truth: ImageLike, prediction: ImageLike, thresholds: Sequence[float] | float = (0.5,)) -> list[Scores]:
    """Match predicted objects to true ones and score the result, once for each threshold.

    Args:
        truth: integer label image (Z)YX, array or `Image`; 0 is background, ids may have gaps and be any number below 2**32.
        prediction: likewise, of the same shape.
        thresholds: minimum intersection over union of a match, above 0 and up to 1; one or several.

    Returns:
        One `Scores` per threshold, in the given order; ``pandas.DataFrame(scores)`` is a table with one row each.

    Raises:
        DataError: for different shapes, or values that are not labels.
        OptionError: for a threshold out of range.

    Examples:
        >>> truth = np.array([[1, 1, 0, 2, 2, 2]])
        >>> prediction = np.array([[5, 5, 0, 0, 9, 9]])
        >>> [(score.threshold, score.tp, score.f1) for score in match(truth, prediction, (0.5, 0.9))]
        [(0.5, 2, 1.0), (0.9, 1, 0.5)]
        >>> import pandas as pd
        >>> pd.DataFrame(match(truth, prediction, (0.5, 0.9)))[["threshold", "tp", "f1"]]
           threshold  tp   f1
        0        0.5   2  1.0
        1        0.9   1  0.5
    """
    limits = _thresholds(thresholds)
    overlaps = Overlaps.of(truth, prediction)
    return [overlaps.scores(threshold) for threshold in limits]


def _by_threshold(scores: Iterable[Sequence[Scores]]) -> list[list[Scores]]:
    images = [list(image) for image in scores]
    kinds = {tuple(score.threshold for score in image) for image in images}
    if len(kinds) > 1:
        raise DataError("metric.different_thresholds", f"the images were scored at different thresholds: {sorted(kinds)}")
    return [list(group) for group in zip(*images, strict=True)]


def pool(scores: Iterable[Sequence[Scores]]) -> list[Scores]:
    """Scores of several images, weighting every object equally: counts are summed first.

    Args:
        scores: what `match` returned for each image, at the same thresholds.

    Examples:
        >>> image = np.array([[1, 1, 0, 2]])
        >>> pool([match(image, image), match(image, 0 * image)])[0].recall
        0.5
    """
    return [
        Scores.of(
            group[0].threshold,
            sum(score.tp for score in group),
            sum(score.n_true for score in group),
            sum(score.n_pred for score in group),
            sum(score.mean_true_score * score.n_true for score in group),  # the summed IoU, which `Scores` does not keep
        )
        for group in _by_threshold(scores)
    ]


def average(scores: Iterable[Sequence[Scores]]) -> list[Scores]:
    """Scores averaged over several images, weighting every image equally; counts are summed.

    Images without any true or predicted object are not averaged; if there are no others the scores are 0.

    Args:
        scores: what `match` returned for each image, at the same thresholds.

    Examples:
        >>> image = np.array([[1, 1, 0, 2]])
        >>> average([match(image, image), match(image, 0 * image), match(0 * image, 0 * image)])[0].f1
        0.5
    """
    averaged = []
    for group in _by_threshold(scores):
        scored = [score for score in group if score.n_true or score.n_pred]
        means = {name: sum(getattr(score, name) for score in scored) / max(len(scored), 1) for name in _FIGURES}
        sums = {item.name: sum(getattr(score, item.name) for score in group) for item in fields(Scores) if item.name not in means}
        averaged.append(Scores(**{**sums, **means, "threshold": group[0].threshold}))
    return averaged


def associate(truth: ImageLike, prediction: ImageLike, threshold: float = 0.5) -> dict[str, np.ndarray]:
    """Association of true and predicted objects: one row per true object, then one row per predicted object without a match.

    Returns:
        Columns ``true_id``, ``predicted_id`` (int64), ``iou`` (float64) and ``tag``: ``TP``, ``FN`` or ``FP``. Objects
        without a match name the object of the other side with the largest IoU, 0 when there is none.

    Examples:
        >>> table = associate(np.array([[1, 1, 0, 2, 2, 2]]), np.array([[5, 5, 0, 0, 0, 9]]))
        >>> list(zip(table["true_id"].tolist(), table["predicted_id"].tolist(), table["tag"].tolist()))
        [(1, 5, 'TP'), (2, 9, 'FN'), (2, 9, 'FP')]
    """
    (limit,) = _thresholds(threshold)
    overlaps = Overlaps.of(truth, prediction)
    matched = overlaps.matches(limit)
    true_side = _best(overlaps.true, len(overlaps.true_ids), overlaps.iou, matched)
    pred_side = _best(overlaps.pred, len(overlaps.pred_ids), overlaps.iou, matched)
    hit_true, hit_pred = np.zeros(len(true_side), bool), np.zeros(len(pred_side), bool)
    hit_true[overlaps.true[matched]] = True
    hit_pred[overlaps.pred[matched]] = True
    pred_side = pred_side[~hit_pred]
    partner_ids = np.append(overlaps.pred_ids[overlaps.pred], 0)  # position -1: no partner
    true_ids = np.append(overlaps.true_ids[overlaps.true], 0)
    shared = np.append(overlaps.iou, 0.0)
    return {
        "true_id": np.concatenate([overlaps.true_ids, true_ids[pred_side]]),
        "predicted_id": np.concatenate([partner_ids[true_side], overlaps.pred_ids[~hit_pred]]),
        "iou": np.concatenate([shared[true_side], shared[pred_side]]),
        "tag": np.concatenate([np.where(hit_true, "TP", "FN"), np.full(len(pred_side), "FP")]),
    }


def _best(owner: np.ndarray, n: int, iou: np.ndarray, matched: np.ndarray) -> np.ndarray:
    """Position of each object's match, or else of its pair with the largest IoU; -1 where it has none."""
    best = np.full(n, -1, np.intp)
    order = np.argsort(iou, kind="stable")
    best[owner[order]] = order  # in ascending order, so that the largest IoU is written last
    best[owner[matched]] = matched
    return best


def precision(truth: ImageLike, prediction: ImageLike, *, threshold: float = 0.5) -> float:
    """Fraction of the predicted objects that match a true one; see `match`."""
    return match(truth, prediction, threshold)[0].precision


def recall(truth: ImageLike, prediction: ImageLike, *, threshold: float = 0.5) -> float:
    """Fraction of the true objects that are matched; see `match`."""
    return match(truth, prediction, threshold)[0].recall


def accuracy(truth: ImageLike, prediction: ImageLike, *, threshold: float = 0.5) -> float:
    """Matches divided by the number of different true and predicted objects; see `match`."""
    return match(truth, prediction, threshold)[0].accuracy


def f1(truth: ImageLike, prediction: ImageLike, *, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall; see `match`."""
    return match(truth, prediction, threshold)[0].f1


def panoptic_quality(truth: ImageLike, prediction: ImageLike, *, threshold: float = 0.5) -> float:
    """F1 weighted with the mean IoU of the matches; see `match`."""
    return match(truth, prediction, threshold)[0].panoptic_quality


# rounded: 0.5 + 0.05 * 7 is 0.8500000000000001, which an IoU of exactly 0.85 would miss
IOU_RANGE = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def average_precision(truth: ImageLike, prediction: ImageLike, *, thresholds: Sequence[float] = IOU_RANGE) -> float:
    """Mean of tp / (tp + fp + fn) over thresholds of the IoU, as the Data Science Bowl 2018 scored; see `match`.

    Examples:
        >>> round(average_precision(np.array([[1, 1, 1, 0, 2, 2]]), np.array([[1, 1, 0, 0, 2, 2]])), 6)
        0.6
    """
    return float(np.mean([scores.accuracy for scores in match(truth, prediction, thresholds)]))
