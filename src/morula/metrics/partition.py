"""How two partitions of an image agree, whatever their ids: sums over pairs of voxels and entropies, of an image or pooled."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from morula.metrics.overlap import contingency


@dataclass(frozen=True)
class PartitionAgreement:
    """Sums over the voxels that count; agreements of images add up.

    Examples:
        >>> truth = np.array([[1, 1, 2, 2]])
        >>> one = PartitionAgreement.of(truth, np.array([[4, 4, 4, 4]]))
        >>> one.adapted_rand_error, one.variation_split, one.variation_merge
        (0.5, 0.0, 1.0)
        >>> (one + PartitionAgreement.of(truth, truth)).variation_merge
        0.5
    """

    together: float
    """Ordered pairs of voxels in one object, in the truth and in the prediction."""
    in_truth: float
    """Ordered pairs of voxels in one true object."""
    in_prediction: float
    """Ordered pairs of voxels in one predicted object."""
    voxels: int
    """Voxels that count."""
    split_bits: float
    """Entropy of the prediction where the truth is known, times the voxels."""
    merge_bits: float
    """Entropy of the truth where the prediction is known, times the voxels."""

    @classmethod
    def of(cls, truth: Any, prediction: Any, *, ignore: int | None = 0) -> PartitionAgreement:
        """Of two label images (Z)YX; voxels with the label `ignore` in the truth count nowhere.

        Raises:
            DataError: for differing shapes, or values that are no labels.
        """
        pairs = contingency(truth, prediction)
        kept = np.ones(len(pairs.count), bool) if ignore is None else pairs.truth != ignore
        count = pairs.count[kept].astype(np.float64)
        own = [np.unique(labels, return_inverse=True)[1] for labels in (pairs.truth[kept], pairs.prediction[kept])]
        sizes = [np.bincount(index, weights=count) for index in own]
        # a pair (object, part of it): how surprising the part is, in bits
        split, merge = (float((count * np.log2(size[index] / count)).sum()) for size, index in zip(sizes, own, strict=True))
        return cls(_pairs(count), _pairs(sizes[0]), _pairs(sizes[1]), int(count.sum()), split, merge)

    def __add__(self, other: PartitionAgreement) -> PartitionAgreement:
        return PartitionAgreement(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def adapted_rand_error(self) -> float:
        """One minus the F-score of the pairs; NaN where there is no pair."""
        total = self.in_truth + self.in_prediction
        return 1 - 2 * self.together / total if total else float("nan")

    @property
    def variation_split(self) -> float:
        """Bits by which the prediction splits true objects; NaN without a voxel."""
        return self.split_bits / self.voxels if self.voxels else float("nan")

    @property
    def variation_merge(self) -> float:
        """Bits by which the prediction merges true objects; NaN without a voxel."""
        return self.merge_bits / self.voxels if self.voxels else float("nan")


def _pairs(sizes: np.ndarray) -> float:
    """Ordered pairs of different voxels within groups of these sizes."""
    return float((sizes * (sizes - 1)).sum())


def variation_of_information(truth: Any, prediction: Any, *, ignore: int | None = 0) -> tuple[float, float]:
    """Bits by which a prediction splits true objects, and by which it merges them (Meila 2007); both are 0 for equal partitions.

    Their sum is the variation of information. Equal to ``skimage.metrics.variation_of_information`` of (truth, prediction).

    Args:
        truth: integer label image (Z)YX, array or `Image`.
        prediction: likewise, of the same shape.
        ignore: label of the truth whose voxels count nowhere, the background; `None` counts all.

    Raises:
        DataError: for differing shapes, or values that are no labels.

    Examples:
        >>> variation_of_information(np.array([[1, 1, 1, 1]]), np.array([[4, 4, 9, 9]]))
        (1.0, 0.0)
    """
    found = PartitionAgreement.of(truth, prediction, ignore=ignore)
    return found.variation_split, found.variation_merge
