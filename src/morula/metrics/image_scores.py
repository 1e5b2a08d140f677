"""Scores of a whole image that do not depend on one IoU threshold."""

from __future__ import annotations

from dataclasses import dataclass

from morula.core.image_like import ImageLike
from morula.metrics.matching import IOU_RANGE, Scores, match, pool
from morula.metrics.partition import PartitionAgreement


@dataclass(frozen=True)
class ImageScores:
    """Matching scores over all thresholds and agreement of the partition; adding the scores pools several images.

    Examples:
        >>> import numpy as np
        >>> image = np.array([[1, 1, 2, 2]])
        >>> (ImageScores.of(image, image) + ImageScores.of(image, 0 * image)).figures()["average_precision"]
        0.5
    """

    matching: tuple[Scores, ...]
    """Scores at the IoU thresholds 0.5, 0.55, ..., 0.95."""
    agreement: PartitionAgreement
    """Agreement over the voxels of true objects."""

    @classmethod
    def of(cls, truth: ImageLike, prediction: ImageLike) -> ImageScores:
        """Scores of two label images (Z)YX.

        Raises:
            DataError: for different shapes, or values that are not labels.
        """
        return cls(tuple(match(truth, prediction, IOU_RANGE)), PartitionAgreement.of(truth, prediction))

    def __add__(self, other: ImageScores) -> ImageScores:
        return ImageScores(tuple(pool([self.matching, other.matching])), self.agreement + other.agreement)

    def figures(self) -> dict[str, float]:
        """Average precision over 0.5 to 0.95 (1 is best), adapted Rand error and variation of information in bits (0 is best)."""
        return {
            "average_precision": sum(scores.accuracy for scores in self.matching) / len(self.matching),
            "adapted_rand_error": self.agreement.adapted_rand_error,
            "variation_split": self.agreement.variation_split,
            "variation_merge": self.agreement.variation_merge,
        }
