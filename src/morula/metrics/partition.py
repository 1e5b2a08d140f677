"""Agreement of two partitions of an image, independent of ids: adapted Rand error and variation of information, also pooled."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from morula.core.image_like import ImageLike
from morula.metrics.overlap import contingency


@dataclass(frozen=True)
class PartitionAgreement:
    """Sums over the evaluated voxels; adding agreements pools several images.

    Examples:
        >>> truth = np.array([[1, 1, 2, 2]])
        >>> one = PartitionAgreement.of(truth, np.array([[4, 4, 4, 4]]))
        >>> one.adapted_rand_error, one.variation_split, one.variation_merge
        (0.5, 0.0, 1.0)
        >>> (one + PartitionAgreement.of(truth, truth)).variation_merge
        0.5
    """

    together: float
    """Ordered pairs of voxels that are in the same object both in the truth and in the prediction."""
    in_truth: float
    """Ordered pairs of voxels in the same true object."""
    in_prediction: float
    """Ordered pairs of voxels in the same predicted object."""
    voxels: int
    """Number of evaluated voxels."""
    split_bits: float
    """Conditional entropy of the prediction given the truth, times the number of voxels, in bits."""
    merge_bits: float
    """Conditional entropy of the truth given the prediction, times the number of voxels, in bits."""

    @classmethod
    def of(cls, truth: ImageLike, prediction: ImageLike, *, ignore: int | None = 0) -> PartitionAgreement:
        """Agreement of two label images (Z)YX; voxels with the true label `ignore` are not evaluated.

        Raises:
            DataError: for different shapes, or values that are not labels.
        """
        pairs = contingency(truth, prediction)
        kept = np.ones(len(pairs.count), bool) if ignore is None else pairs.truth != ignore
        count = pairs.count[kept].astype(np.float64)
        indices = [np.unique(labels, return_inverse=True)[1] for labels in (pairs.truth[kept], pairs.prediction[kept])]
        sizes = [np.bincount(index, weights=count) for index in indices]
        # entropy of the parts of each object: -sum p log2 p with p = part / object, weighted by the number of voxels
        split, merge = (float((count * np.log2(size[index] / count)).sum()) for size, index in zip(sizes, indices, strict=True))
        return cls(_pairs(count), _pairs(sizes[0]), _pairs(sizes[1]), int(count.sum()), split, merge)

    def __add__(self, other: PartitionAgreement) -> PartitionAgreement:
        return PartitionAgreement(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    @property
    def adapted_rand_error(self) -> float:
        """One minus the F-score of the pairs; NaN without pairs."""
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


def variation_of_information(truth: ImageLike, prediction: ImageLike, *, ignore: int | None = 0) -> tuple[float, float]:
    """Bits by which a prediction splits true objects, and by which it merges them (Meila 2007); both are 0 for equal partitions.

    Their sum is the variation of information. Equal to ``skimage.metrics.variation_of_information`` of (truth, prediction).

    Args:
        truth: integer label image (Z)YX, array or `Image`.
        prediction: likewise, of the same shape.
        ignore: true label whose voxels are not evaluated, by default the background; `None` evaluates all voxels.

    Raises:
        DataError: for different shapes, or values that are not labels.

    Examples:
        >>> variation_of_information(np.array([[1, 1, 1, 1]]), np.array([[4, 4, 9, 9]]))
        (1.0, 0.0)
    """
    agreement = PartitionAgreement.of(truth, prediction, ignore=ignore)
    return agreement.variation_split, agreement.variation_merge
