"""Scores of results: the interface of methods, and the scores of objects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from morula.methods.configured import Configured
from morula.metrics.matching import Scores, match, pool
from morula.metrics.overlap import class_table

Score: TypeAlias = Any
"""Scores of one image, of a type that only the method itself reads."""
Row: TypeAlias = dict[str, Any]
"""One row of a table: numbers and names by column."""


class Scoring(Configured):
    """How results are compared with the truth."""

    figures: ClassVar[tuple[str, ...]]
    """Columns of the score table by which settings can be compared, the usual one first; higher is better."""

    @abstractmethod
    def score(self, truth: np.ndarray, result: np.ndarray) -> Score:
        """Scores of one image (Z)YX, for `score_rows`."""

    @abstractmethod
    def score_rows(self, scores: Mapping[str, Score]) -> list[Row]:
        """Rows of the score table from the scores by image name: one per image (and threshold), then the pooled ones."""

    def baselines(self, image: Callable[[], np.ndarray]) -> dict[str, np.ndarray]:
        """Results of classical methods by name, which are scored too; `image` returns the image C(Z)YX as the network receives it."""
        del image
        return {}


@dataclass(frozen=True)
class ObjectScores:
    """Scores of one image: objects in space, objects slice by slice (empty in 2D), and voxels [truth, result] of the foregrounds."""

    objects: Sequence[Scores]
    slices: Sequence[Scores]
    voxels: np.ndarray

    def __iter__(self) -> Iterator[Scores]:
        """The scores in space, one per threshold."""
        return iter(self.objects)


def score_objects(truth: np.ndarray, result: np.ndarray, thresholds: Sequence[float]) -> ObjectScores:
    """Scores of objects (Z)YX against the true ones: as they are, cut into z planes, and as a foreground.

    Examples:
        >>> truth = np.array([[[1, 1, 0]], [[1, 0, 0]]])
        >>> scores = score_objects(truth, truth > 0, (0.5,))
        >>> scores.objects[0].tp, scores.slices[0].tp, scores.voxels.tolist()
        (1, 2, [[3, 0], [0, 3]])
    """
    # objects that are wrongly split or merged along z still score well per slice: both scores together show the kind of error
    planes = [match(*planes, thresholds=thresholds) for planes in zip(truth, result)] if truth.ndim == 3 else []
    voxels = class_table((truth > 0).astype(np.uint8), (result > 0).astype(np.uint8), 2)
    return ObjectScores(match(truth, result, thresholds=thresholds), pool(planes) if planes else (), voxels)


def object_rows(scores: Mapping[str, ObjectScores]) -> list[Row]:
    """One row per image and threshold, then the pooled ones: those of `match`, `slice_f1`, `foreground_dice`."""
    if not scores:
        return []
    images = list(scores.values())
    pooled = ObjectScores(
        pool([image.objects for image in images]),
        pool([image.slices for image in images]) if all(image.slices for image in images) else (),
        sum(image.voxels for image in images),  # type: ignore[arg-type]  # sum starts at 0
    )
    return [
        {
            "image": name,
            **asdict(row),
            "slice_f1": scored.slices[number].f1 if scored.slices else row.f1,
            "foreground_dice": dice(scored.voxels),
        }
        for name, scored in {**scores, "pooled": pooled}.items()
        for number, row in enumerate(scored.objects)
    ]


def dice(voxels: np.ndarray) -> float:
    """Dice of a foreground from its voxels [truth, result]; 1 where there is none in either.

    Examples:
        >>> dice(np.array([[5, 1], [1, 2]]))
        0.6666666666666666
    """
    both = 2 * voxels[1, 1] + voxels[0, 1] + voxels[1, 0]
    return float(2 * voxels[1, 1] / both) if both else 1.0
