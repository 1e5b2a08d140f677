"""Correction of segmented objects by a person, the most suspicious first, and what a network can learn from it.

A `Corrections` holds the labels, and what was decided about each object::

    corrections = Corrections(labels, image=image, table=table)        # table: as of `segment`, with confidences; else it is measured
    for label in corrections.queue[:10]:                               # worst first
        corrections.accept(label)                                      # or delete, merge, split, redraw; add for a missed object
    corrections.undo()
    corrections.review()                                               # one row per object: status, seconds, suspicion, reason

Only what was reviewed is learned from: the reviewed objects with their surroundings, what was deleted or redrawn, and whole slices that are
marked as done. Everything else is unannotated (`images.ignore_label`). `morula.workflows.review_files` saves and loads a review,
`morula.workflows.retrain` continues the training of the model with it.

Ids never change: what is not touched keeps its id, a merged object that of its first part, and the largest part of a split object that of
the whole. Nothing here needs Qt or torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.image import Image
from morula.core.image_like import ImageLike, image_of
from morula.core.label_image import check_labels
from morula.core.voxel_size import VoxelSize
from morula.labels.morphology import dilate_mask, radii
from morula.labels.split import split_object
from morula.measurement.evidence import evidence
from morula.measurement.measure import measured_columns
from morula.measurement.outliers import suspicion

if TYPE_CHECKING:
    import pandas as pd

Status: TypeAlias = Literal["", "accepted", "deleted", "merged", "split", "redrawn", "added"]
"""What a person decided about an object; empty: not reviewed yet."""
Box: TypeAlias = tuple[slice, ...]

IDLE = 60.0
"""Seconds after which the time for an object is not counted any more: the person did something else."""
LARGEST = 2**22
"""Largest id for which evidence on objects is computed: it indexes tables by the id."""
UNANNOTATED = {np.dtype(np.uint16): 2**16 - 1, np.dtype(np.uint32): 2**32 - 1}
"""Value of unannotated voxels in labels to learn from."""


@dataclass(frozen=True)
class Review:
    """A decision about an object, the time that it took, and the object that it was merged into or split from (0: none)."""

    status: Status
    seconds: float = 0.0
    related: int = 0


@dataclass(frozen=True, eq=False)
class _Step:
    """What undo restores: the voxels of a box, and the decisions about some objects."""

    box: Box
    before: np.ndarray
    reviews: Mapping[int, Review | None]
    objects: frozenset[int]


class Corrections:
    """The objects of one image and the decisions about them.

    Args:
        labels: label image (Z)YX, array or `Image`; it is copied, and never changed.
        image: the image of the labels; it makes the order better, and is what a network is trained on.
        table: measurements with confidences, as `morula.segment` writes them; measured where it is left out.
        clock: gives the time in seconds.

    Attributes:
        labels: the corrected labels, uint32; edited in place.
        original: the labels at the beginning.
        queue: ids, the most suspicious first.
        shape, spacing, voxel_size, source: of the labels.
        earlier: voxels that were judged in an earlier session, see `morula.workflows.review_files.load_review`.

    Raises:
        DataError: for values that are not labels, or a table or image of other objects.

    Examples:
        >>> labels = np.zeros((12, 12), np.uint8)
        >>> labels[1:4, 1:4], labels[1:4, 6:9], labels[6:11, 2:11] = 1, 2, 3
        >>> corrections = Corrections(labels)
        >>> corrections.accept(1)
        >>> corrections.split(3)
        (3, 4)
        >>> corrections.delete(2)
        >>> corrections.review().sort_values("label")[["label", "status", "related"]].values.tolist()
        [[1, 'accepted', 0], [2, 'deleted', 0], [3, 'split', 0], [4, 'split', 3]]
        >>> corrections.undo()
        (2,)
        >>> sorted(set(corrections.labels.ravel().tolist()))
        [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        labels: ImageLike,
        *,
        image: ImageLike | None = None,
        table: pd.DataFrame | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        found = image_of(labels, guess=lambda shape: "ZYX"[-len(shape) :], key="labels")
        self.voxel_size: VoxelSize | None = found.voxel_size
        self.spacing: tuple[float, ...] = found.spacing
        self.source = found.source
        self.original = check_labels(np.asarray(found.canonical()[0]))
        self.labels = self.original.copy()
        self.shape = self.labels.shape
        self.image = None if image is None else image_of(image, guess=lambda shape: "CZYX"[-len(shape) :], key="image")
        if self.image is not None and self.image.spatial_shape != self.shape:
            rule = f"has shape {self.image.spatial_shape} but the labels have {self.shape}"
            raise DataError("corrections.image", rule, key="image", remedy="Choose the image that the labels were made from.")
        self.earlier = np.zeros(self.shape, np.bool_)
        self.reviews: dict[int, Review] = {}
        self._done: set[int] = set()
        self._steps: list[_Step] = []
        self._clock, self._since = clock, clock()
        self._measure(table)

    def _measure(self, table: pd.DataFrame | None) -> None:
        columns = measured_columns(self.labels, self.voxel_size)
        ids = [int(label) for label in columns["label"]]
        self._boxes: dict[int, Box] = dict(zip(ids, _boxes_of(columns, self.shape), strict=True))
        flat = np.zeros(len(ids))  # a volume of one plane is measured in 2D
        centres = np.stack([columns.get(f"centroid_{axis}", flat) for axis in "zyx"[-len(self.shape) :]], axis=1).round(1)
        self._centres: dict[int, tuple[float, ...]] = {label: tuple(row) for label, row in zip(ids, centres.tolist(), strict=True)}
        self._places = dict(self._boxes)  # of objects that are gone, too: undo brings them back
        if table is not None and "confidence" in table and set(ids) <= set(table["label"]):
            columns["confidence"] = table.set_index("label").loc[ids, "confidence"].to_numpy(np.float64)
        if self.image is not None and ids and max(ids) < LARGEST:
            columns |= evidence(self.labels, self.image, columns)
        doubts = suspicion(columns)
        found = zip(ids, doubts["suspicion"].tolist(), doubts["reason"].tolist(), strict=True)
        self.suspicion: dict[int, tuple[float, str]] = {label: (round(doubt, 4), reason) for label, doubt, reason in found}
        self.queue: list[int] = sorted(ids, key=lambda label: (-self.suspicion[label][0], label))

    # what is there

    @property
    def objects(self) -> frozenset[int]:
        """Ids of the objects."""
        return frozenset(self._boxes)

    @property
    def left(self) -> list[int]:
        """Objects that are not reviewed yet, the most suspicious first."""
        return [label for label in self.queue if label in self._boxes and label not in self.reviews]

    @property
    def seconds(self) -> float:
        """Time that all decisions took."""
        return sum(review.seconds for review in self.reviews.values())

    def next(self, after: int | None = None) -> int | None:
        """The most suspicious object that is not reviewed; after an object, the one that follows it in the queue. Its time begins."""
        left = self.left
        if after in self.queue:
            place = self.queue.index(after)
            later = [label for label in left if self.queue.index(label) > place]
            left = later or left
        self._since = self._clock()
        return left[0] if left else None

    def mask(self, label: int) -> tuple[Box, np.ndarray]:
        """The box of an object, and its voxels in it.

        Raises:
            DataError: when there is no such object.
        """
        box = self._box(label)
        inside = self.labels[box] == label
        return box, inside

    def centre(self, label: int) -> tuple[float, ...]:
        """The mean position of an object, in voxels; of one that is gone, where it was. Errors as `mask`."""
        review = self.reviews.get(label)
        if label in self._centres and (label not in self._boxes or review is None or review.status == "accepted"):
            return self._centres[label]
        box, inside = self.mask(label)
        return tuple(float(at + part.start) for at, part in zip(np.argwhere(inside).mean(axis=0).round(1), box, strict=True))

    @property
    def usual_width(self) -> float:
        """Edge of the square that the box of the median object has the area of, in voxels of a slice; 0 without objects."""
        sizes = [int(np.prod([part.stop - part.start for part in box[-2:]])) for box in self._boxes.values()]
        return float(np.sqrt(np.median(sizes))) if sizes else 0.0

    def neighbours(self, label: int) -> list[int]:
        """Objects that touch an object, the one with the longest common border first. Errors as `mask`."""
        box = grown(self._box(label), 1, self.shape)
        part = self.labels[box]
        around = dilate_mask(part == label, (1,) * part.ndim) & (part != label) & (part > 0)
        ids, counts = np.unique(part[around], return_counts=True)
        return [int(number) for number in ids[np.argsort(-counts, kind="stable")]]

    # decisions

    def accept(self, *labels: int) -> None:
        """Objects are right as they are."""
        for label in labels:
            self._box(label)
        spent = self._spent() / max(1, len(labels))
        self._keep((slice(0, 0),) * len(self.shape), {label: Review("accepted", spent) for label in labels})

    def delete(self, label: int) -> None:
        """An object is none: its voxels become background."""
        box, inside = self.mask(label)
        self._replace(box, inside, 0, {label: Review("deleted", self._spent())})

    def merge(self, label: int, *others: int) -> int:
        """Objects are one; they get the first id. Without others it is merged with the neighbour with the longest common border.

        Raises:
            OptionError: when it touches no other object.
        """
        wanted = list(dict.fromkeys(other for other in others or self.neighbours(label)[:1] if other != label))
        if not wanted:
            rule = "touches no other object"
            raise OptionError("corrections.no_neighbour", rule, key="label", value=label, remedy="Name the object that it belongs to.")
        box = hull(self._box(label), *(self._box(other) for other in wanted))
        spent = self._spent()
        reviews = {label: Review("merged", spent)} | {other: Review("merged", 0.0, label) for other in wanted}
        self._replace(box, np.isin(self.labels[box], wanted), label, reviews)
        return label

    def split(self, label: int, parts: int = 2, *, points: Sequence[Sequence[float]] | None = None) -> tuple[int, ...]:
        """An object is several; returns their ids. See `morula.labels.split.split_object`; points are in voxels of the image."""
        box, inside = self.mask(label)
        inner = None if points is None else np.asarray(points, float) - [part.start for part in box]
        found = split_object(inside, parts, points=inner, spacing=self.spacing)
        sizes = np.bincount(found.ravel())[1:]
        first = self.new_label
        ids = np.zeros(len(sizes) + 1, np.uint32)
        ids[1 + np.argsort(-sizes, kind="stable")] = [label, *range(first, first + len(sizes) - 1)]  # the largest part keeps the id
        spent = self._spent()
        reviews = {int(number): Review("split", 0.0, label) for number in ids[1:]} | {label: Review("split", spent)}
        self._replace(box, inside, ids[found][inside], reviews)
        return tuple(sorted(int(number) for number in ids[1:]))

    def redraw(self, label: int, mask: np.ndarray) -> None:
        """An object has other voxels: those of a mask of the shape of the image. What belonged to others there is taken from them."""
        self._draw(label, mask, Review("redrawn", self._spent()))

    def add(self, mask: np.ndarray) -> int:
        """An object was missed: it has the voxels of a mask of the shape of the image. Returns its id."""
        label = self.new_label
        self._draw(label, mask, Review("added", self._spent()))
        return label

    def _draw(self, label: int, mask: np.ndarray, review: Review) -> None:
        drawn = np.asarray(mask, np.bool_)
        if drawn.shape != self.shape or not drawn.any():
            rule = f"must have the shape {self.shape}, and voxels in it"
            raise DataError(
                "corrections.mask", rule, key="mask", value=drawn.shape, remedy="Draw at least one voxel, or delete the object."
            )
        places = np.nonzero(drawn)
        box = tuple(slice(int(place.min()), int(place.max()) + 1) for place in places)
        box = hull(box, self._boxes[label]) if label in self._boxes else box
        part, before = drawn[box], self.labels[box].copy()
        self.labels[box][(before == label) & ~part] = 0
        self.labels[box][part] = label
        self._keep(box, {label: review}, before=before)

    def painted(self, box: Box, before: np.ndarray) -> tuple[int, ...]:
        """Voxels of `labels` were painted by other means, such as the brush of a window; `before` are the values that were in a box.

        Returns the objects that count as redrawn or added: those that were painted, or where only background was, those that were erased.
        """
        after = self.labels[box]
        changed = after != before
        found = np.unique(after[changed & (after > 0)]) if (after[changed] > 0).any() else np.unique(before[changed])
        spent = self._spent() / max(1, len(found))
        ids = [int(label) for label in found]
        self._keep(box, {label: Review("redrawn" if label in self._places else "added", spent) for label in ids}, before=before)
        return tuple(ids)

    def undo(self) -> tuple[int, ...]:
        """Take the last decision back; returns the objects that it was about. Nothing happens where there is none."""
        if not self._steps:
            return ()
        step = self._steps.pop()
        self.labels[step.box] = step.before
        self._boxes = {label: box for label, box in self._places.items() if label in step.objects}
        for label, review in step.reviews.items():
            if review is None:
                self.reviews.pop(label, None)
            else:
                self.reviews[label] = review
        self._since = self._clock()
        return tuple(label for label in step.reviews if label in self._boxes)

    @property
    def new_label(self) -> int:
        """An id that no object has or had."""
        return max(self._places, default=0) + 1

    @property
    def steps(self) -> int:
        """Number of decisions that can be taken back."""
        return len(self._steps)

    # slices

    def mark_slice(self, position: int = 0, *, done: bool = True) -> None:
        """All of a slice along z (of a 2D image: the image) was looked at: its background is background, its objects are right."""
        (self._done.add if done else self._done.discard)(int(position))

    def slices(self) -> pd.DataFrame:
        """One row per slice along z: ``slice``, ``objects`` in it, ``reviewed`` ones, and whether it is ``done``; a 2D image has one."""
        import pandas as pd

        count = self.shape[0] if len(self.shape) == 3 else 1
        totals = np.zeros((2, count + 1), np.int64)
        for label, box in self._boxes.items():
            part = box[0] if len(self.shape) == 3 else slice(0, 1)
            for row, counted in enumerate((True, label in self.reviews)):
                totals[row, part.start] += counted
                totals[row, part.stop] -= counted
        objects, reviewed = totals.cumsum(axis=1)[:, :count]
        return pd.DataFrame(
            {"slice": np.arange(count), "objects": objects, "reviewed": reviewed, "done": np.isin(np.arange(count), list(self._done))}
        )

    # results

    def review(self) -> pd.DataFrame:
        """One row per object that is or was there, the most suspicious first: ``label``, ``status``, ``related`` (the object that it was
        merged into or split from), ``seconds``, ``suspicion``, ``reason`` and ``centroid_z``, ``_y``, ``_x`` in voxels."""
        import pandas as pd

        rows = []
        for label in [*self.queue, *sorted({*self._boxes, *self.reviews} - set(self.queue))]:
            review, (doubt, reason) = self.reviews.get(label, Review("")), self.suspicion.get(label, (0.0, ""))
            place = self.centre(label) if label in self._boxes or label in self._centres else (float("nan"),) * len(self.shape)
            rows.append((label, review.status, review.related, round(review.seconds, 1), doubt, reason, *place))
        axes = [f"centroid_{axis}" for axis in "zyx"[-len(self.shape) :]]
        return pd.DataFrame(rows, columns=["label", "status", "related", "seconds", "suspicion", "reason", *axes])

    def known(self, reach: int | None = None) -> np.ndarray:
        """Voxels that a person has judged, bool: reviewed objects with their surroundings, what was changed, and slices that are done.

        Args:
            reach: width of the surroundings in voxels of the finest axis; a quarter of the median diameter where it is left out, 3 at
                least. In this rim objects that were not reviewed count with the voxels that they have.
        """
        reviewed = np.array([label for label in self._boxes if label in self.reviews], np.uint32)
        inside = np.isin(self.labels, reviewed)
        width = max(3, round(self.usual_width / 4)) if reach is None else reach
        known = dilate_mask(inside, radii(width, self.spacing)) | (self.labels != self.original) | self.earlier
        if self._done:
            known[sorted(self._done) if len(self.shape) == 3 else slice(None)] = True
        return known

    def training_labels(self, reach: int | None = None) -> tuple[Image, int]:
        """The labels with unannotated voxels, and the value of these, for `images.ignore_label`.

        Raises:
            DataError: when nothing was reviewed.
        """
        known = self.known(reach)
        if not known.any():
            rule, remedy = "nothing was reviewed yet", "Accept or correct a few objects first."
            raise DataError("corrections.none", rule, remedy=remedy)
        kind = np.dtype(np.uint16 if self.new_label < 2**16 else np.uint32)
        value = UNANNOTATED[kind]
        values = np.where(known, self.labels, np.uint32(value)).astype(kind)
        return Image(values, "ZYX"[-len(self.shape) :], self.voxel_size), value  # type: ignore[arg-type]

    def copy(self) -> Corrections:
        """A copy of labels and decisions, for work in another thread while the review goes on; without the steps of undo."""
        made = copy(self)
        made.labels, made.reviews, made._boxes, made._places = self.labels.copy(), {**self.reviews}, {**self._boxes}, {**self._places}
        made._done, made._steps = {*self._done}, []
        return made

    def restore(self, table: Mapping[str, np.ndarray], known: np.ndarray) -> None:
        """Continue an earlier session: its `review` and `known` with these labels.

        Raises:
            DataError: when they are of other labels.
        """
        ids = [int(label) for label in table["label"]]
        if known.shape != self.shape or not self.objects <= set(ids):
            raise DataError("corrections.other_labels", "is of other labels", key="table", remedy="Name files that were saved together.")
        self.earlier = self.earlier | known
        for position in np.flatnonzero(known.all(axis=(-2, -1))):
            self.mark_slice(int(position))
        axes = [f"centroid_{axis}" for axis in "zyx"[-len(self.shape) :]]
        for row, label in enumerate(ids):
            values = {name: column[row].item() for name, column in table.items()}
            self._centres[label] = tuple(float(values[axis]) for axis in axes)
            self.suspicion[label] = (float(values["suspicion"]), str(values["reason"]))
            if values["status"]:
                self.reviews[label] = Review(values["status"], float(values["seconds"]), int(values["related"]))
        self.queue = ids

    # inner parts

    def _box(self, label: int) -> Box:
        if label not in self._boxes:
            rule = f"is no object; there are {len(self._boxes)}"
            raise DataError("corrections.no_object", rule, key="label", value=label, remedy="Choose an object of the labels.")
        return self._boxes[label]

    def _spent(self) -> float:
        now = self._clock()
        spent, self._since = min(now - self._since, IDLE), now
        return spent

    def _replace(self, box: Box, inside: np.ndarray, values: int | np.ndarray, reviews: Mapping[int, Review]) -> None:
        before = self.labels[box].copy()
        self.labels[box][inside] = values
        self._keep(box, reviews, before=before)

    def _keep(self, box: Box, reviews: Mapping[int, Review], *, before: np.ndarray | None = None) -> None:
        """Keep what undo needs, and note the decisions. `before` are the values that were in the box, where they were changed."""
        after = self.labels[box]
        earlier = {label: self.reviews.get(label) for label in reviews}
        self._steps.append(_Step(box, after.copy() if before is None else before, earlier, self.objects))
        for label, review in reviews.items():
            former = earlier[label]
            self.reviews[label] = replace(review, seconds=review.seconds + (0.0 if former is None else former.seconds))
        if before is None:
            return
        for label in reviews:
            self._places[label] = hull(box, self._places[label]) if label in self._places else box
        touched = {int(label) for label in np.unique(before)} | set(reviews)
        there = {label for label in touched - {0} if (self.labels[self._places[label]] == label).any()}
        self._boxes = {label: self._places[label] for label in (self._boxes.keys() - touched) | there}


def _boxes_of(columns: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> list[Box]:
    """Boxes of measured objects. A volume of one plane is measured in 2D."""
    ends = []
    for axis, n in zip("zyx"[-len(shape) :], shape, strict=True):
        start, stop = columns.get(f"box_{axis}_start"), columns.get(f"box_{axis}_stop")
        rows = len(columns["label"])
        ends.append((np.zeros(rows, int) if start is None else start, np.full(rows, n) if stop is None else stop))
    return [tuple(slice(int(a[row]), int(b[row])) for a, b in ends) for row in range(len(columns["label"]))]


def hull(*boxes: Box) -> Box:
    """The smallest box around boxes.

    Examples:
        >>> hull((slice(0, 2),), (slice(5, 6),))
        (slice(0, 6, None),)
    """
    return tuple(slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in zip(*boxes, strict=True))


def grown(box: Box, by: int, shape: Sequence[int]) -> Box:
    """A box that is larger by some voxels on all sides, inside an image.

    Examples:
        >>> grown((slice(0, 2), slice(5, 6)), 2, (10, 7))
        (slice(0, 4, None), slice(3, 7, None))
    """
    return tuple(slice(max(0, part.start - by), min(n, part.stop + by)) for part, n in zip(box, shape, strict=True))
