"""A: affinities, whether two voxels at an offset belong to the same object.

Short offsets say where objects end, long ones separate objects whose short affinities are uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt, model_validator

from morula.core.errors import OptionError
from morula.core.orientation import Array, Orientation, orientations
from morula.labels.partial_labels import both_labelled
from morula.representations.base import Representation
from morula.representations.options import RepresentationOptions
from morula.representations.touching import touching

Neighbourhood = Literal["4-connectivity", "8-connectivity", "6-connectivity", "18-connectivity", "26-connectivity"]
_FAR = {
    "4-connectivity": (2, 1),
    "8-connectivity": (2, 2),
    "6-connectivity": (3, 1),
    "18-connectivity": (3, 2),
    "26-connectivity": (3, 3),
}


class Options(RepresentationOptions):
    """Options of the channel A."""

    kind: Literal["A"] = "A"
    """Name of the variant."""

    neighborhood: Neighbourhood | None = None
    """Neighbours that a voxel is compared with, each pair once: `8-connectivity` in 2D and `26-connectivity` in 3D where left out."""
    offsets: tuple[tuple[int, ...], ...] = ()
    """Instead: offsets to the compared voxels, in array order, for example ``[[-1, 0], [0, -1], [-9, 0], [0, -9]]``."""
    reach: tuple[PositiveInt, ...] = ()
    """Instead: distances to the compared voxels along each axis, in voxels, for images of any number of axes; ``[1, 3, 9]`` stands for the
    direct neighbours and two long-range ones along each axis."""
    mode: Literal["same", "different"] = "same"
    """`same`: 1 where two voxels belong to the same object. `different`: 1 where their labels differ, so that the background is an object
    like any other, as in pytorch-3dunet; for images that objects fill."""
    widen_borders: NonNegativeInt = 0
    """Treat this many voxels on each side of a contact between objects as background, so that thin boundaries are learned."""

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, values: object) -> object:
        """Steps along each axis (``z_affinities`` and so on) as offsets."""
        if not isinstance(values, dict) or not {"z_affinities", "y_affinities", "x_affinities"} & set(values):
            return values
        rest = dict(values)
        steps = [rest.pop(f"{axis}_affinities", None) for axis in "zyx"]
        given = [step for step in steps if step is not None]
        if len({len(step) for step in given}) > 1 or len(given) < 2 or steps[1] is None or steps[2] is None:
            raise OptionError("affinity.step_count", "z_affinities, y_affinities and x_affinities must have the same number of steps")
        if rest.get("offsets"):
            raise OptionError(
                "affinity.given_twice", "offsets and steps along the axes cannot both be given", remedy="Leave one of them out."
            )
        # negative: a voxel is compared with an earlier one, as in the neighbourhoods
        unit = -np.eye(len(given), dtype=int)
        offsets = (tuple((unit[axis] * step[k]).tolist()) for k in range(len(given[0])) for axis, step in enumerate(given))
        rest["offsets"] = tuple(offsets)
        return rest

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if sum(map(bool, (self.offsets, self.neighborhood, self.reach))) > 1:
            raise OptionError(
                "affinity.given_twice", "only one of neighborhood, offsets and reach can be given", remedy="Leave the others out."
            )
        if len(set(self.reach)) != len(self.reach):
            raise OptionError("affinity.duplicate", "must not contain a distance twice", key="reach", value=list(self.reach))
        if len({len(offset) for offset in self.offsets}) > 1:
            raise OptionError("affinity.axis_count", "must all have one number per axis", key="offsets", value=self.offsets)
        if self.widen_borders and self.mode == "different":
            rule = "makes background between objects, which is an object of its own with mode: different"
            remedy = "Leave one of them out."
            raise OptionError("affinity.widened", rule, key="widen_borders", value=self.widen_borders, remedy=remedy)
        if any(not any(offset) for offset in self.offsets):
            raise OptionError("affinity.zero_offset", "must not contain the offset 0, which compares a voxel with itself", key="offsets")
        if len({_canonical(offset) for offset in self.offsets}) != len(self.offsets):
            raise OptionError(
                "affinity.duplicate", "must not contain a pair of voxels twice; an offset and its opposite are the same", key="offsets"
            )
        return self

    @property
    def long_range(self) -> bool:
        """Whether voxels farther apart than direct neighbours are compared, too."""
        return any(max(map(abs, offset)) > 1 for offset in self.offsets) or any(distance > 1 for distance in self.reach)

    def steps(self, ndim: int) -> list[tuple[int, ...]]:
        """Offsets in array order.

        Raises:
            OptionError: when they are for images of another number of axes.
        """
        if self.offsets:
            if len(self.offsets[0]) != ndim:
                raise OptionError(
                    "affinity.axis_count", f"must have {ndim} numbers, one per axis of the image", key="offsets", value=self.offsets[0]
                )
            return list(self.offsets)
        if self.reach:
            return [tuple(-distance if axis == along else 0 for axis in range(ndim)) for distance in self.reach for along in range(ndim)]
        name = self.neighborhood or ("8-connectivity" if ndim == 2 else "26-connectivity")
        axes, far = _FAR[name]
        if axes != ndim:
            raise OptionError(
                "affinity.axis_count", f"is for {axes}D images, not for {ndim}D", key="neighborhood", value=name, remedy="Leave it out."
            )
        every = [tuple(int(n) - 1 for n in index) for index in np.ndindex((3,) * ndim)]
        # each pair once: of an offset and its opposite, the one that is lexicographically negative
        half = [offset for offset in every if offset < (0,) * ndim and sum(map(abs, offset)) <= far]
        return sorted(half, key=lambda offset: (sum(map(abs, offset)), offset))


class Affinities(Representation[Options]):
    """1 where a voxel and the one at an offset belong to the same object, 0 elsewhere and at the border of the image; one channel per
    offset.

    With the mode ``different``, 1 where the labels of two voxels differ. The voxel in the middle of a pair stores it, and the image is
    mirrored at its border, as in pytorch-3dunet.

    After Turaga et al. (Neural Computation 22, 2010); with long offsets Lee et al. (2017).

    Examples:
        >>> labels = np.array([[0, 1, 1, 1, 2, 2]], np.uint32)
        >>> Affinities(Options(offsets=((0, -1),))).encode(labels, (1, 1))
        array([[[0., 0., 1., 1., 0., 1.]]], dtype=float32)
        >>> Affinities(Options(offsets=((0, -1),), mode="different")).encode(labels, (1, 1))
        array([[[1., 0., 0., 1., 0., 0.]]], dtype=float32)
    """

    code = "A"
    affinities = True
    rebalance: Literal["rarer", "background"] | None = "background"
    options_class = Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.long_range_affinities = self.options.long_range
        stated = [*(max(map(abs, offset)) for offset in self.options.offsets), *self.options.reach]
        self.direct_affinities = not stated or min(stated) == 1
        if self.options.mode == "different":
            self.rebalance = "rarer"  # boundaries, which are 1

    def affinity_offsets(self, ndim: int) -> list[tuple[int, ...]]:
        """Offset of each channel in array order."""
        return self.options.steps(ndim)

    def width(self, ndim: int) -> int:
        """Number of offsets."""
        return len(self.options.steps(ndim))

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (offsets, (Z)YX) of labels (Z)YX."""
        if self.options.widen_borders:
            labels = _widened(labels, self.options.widen_borders, spacing)
        steps = self.options.steps(labels.ndim)
        if self.options.mode == "different":
            return np.stack([np.not_equal(*mirrored_pairs(labels, step)) for step in steps]).astype(np.float32)
        out = np.zeros((len(steps), *labels.shape), np.float32)
        for target, step in zip(out, steps, strict=True):
            here, there = _of_pairs(labels.shape, step), _of_pairs(labels.shape, [-s for s in step])
            # two voxels of the background belong to no common object
            target[here] = (labels[here] == labels[there]) & (labels[here] != 0)
        return out

    def annotated_targets(self, unlabelled: np.ndarray) -> np.ndarray:
        """Pairs of which both voxels are labelled."""
        if self.options.mode == "different":
            return ~np.stack([np.logical_or(*mirrored_pairs(unlabelled, step)) for step in self.options.steps(unlabelled.ndim)])
        return np.stack([both_labelled(unlabelled, step) for step in self.options.steps(unlabelled.ndim)])

    def pair_affinities(self, prediction: np.ndarray) -> np.ndarray:
        """See `Representation.pair_affinities`."""
        if self.options.mode == "same":
            return prediction
        ndim = prediction.ndim - 1
        found = np.zeros_like(prediction)
        for target, values, step in zip(found, prediction, self.options.steps(ndim), strict=True):
            # from the middle of the pair to its last voxel
            shift = tuple(-s - half for s, half in zip(step, _halves(step), strict=True))
            here = _of_pairs(values.shape, step)
            target[here] = 1 - np.roll(values, shift, range(ndim))[here]
        return found

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """The longest offset along each axis, and the widening."""
        steps = self.options.steps(len(spacing))
        extra = 2 * self.options.widen_borders + 1 if self.options.widen_borders else 0
        return tuple(max(abs(step[axis]) for step in steps) + extra for axis in range(len(spacing)))

    def reorient(self, array: Array, orientation: Orientation) -> Array:
        """Reorient the channels. A pair that is now stored at its other end moves by the offset."""
        turned = orientation.apply(array)
        steps = self.options.steps(orientation.ndim)
        lead = turned.ndim - orientation.ndim - 1  # type: ignore[attr-defined]
        source, moved = _sources(steps, orientation)
        result = turned[(slice(None),) * lead + (source,)]  # type: ignore[index]
        axes = tuple(range(-orientation.ndim, 0))
        for channel, step in enumerate(steps):
            # the pair is stored at its other end: shift the channel by the offset
            if moved[channel]:
                place = (slice(None),) * lead + (channel,)
                plane = result[place]
                shift = tuple(-s for s in step)
                if self.options.mode == "different":  # the middle of a pair of even distance stays where it is
                    shift = tuple(s + 2 * half for s, half in zip(step, _halves(step), strict=True))
                result[place] = np.roll(plane, shift, axes) if isinstance(plane, np.ndarray) else plane.roll(shift, axes)
        return result

    def orientations(self, spacing: Sequence[float]) -> list[Orientation]:
        """Orientations that map the offsets onto each other, up to their sign."""
        steps = self.options.steps(len(spacing))
        pairs = {_canonical(step) for step in steps}
        return [
            orientation
            for orientation in orientations(spacing)
            if {_canonical(orientation.reorient_vector(step)) for step in steps} == pairs
        ]


def _of_pairs(shape: Sequence[int], step: Sequence[int]) -> tuple[slice, ...]:
    """The voxels that have a voxel at an offset in the image; none where the offset is longer than the image."""
    return tuple(slice(max(0, -s), max(0, n - max(0, s))) for s, n in zip(step, shape, strict=True))


def mirrored_pairs(values: np.ndarray, step: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The two values that are compared at each voxel, in the middle between them; the image is mirrored at its border.

    Args:
        values: (Z)YX.
        step: offset from the last voxel of a pair to the first, in array order.

    Examples:
        >>> first, last = mirrored_pairs(np.array([10, 11, 12, 13]), [-2])
        >>> first, last
        (array([10, 10, 11, 12]), array([11, 12, 13, 13]))
    """
    first = last = values
    for axis, (distance, half) in enumerate(zip(step, _halves(step), strict=True)):
        if distance:
            place = np.arange(values.shape[axis]) - half
            first = first.take(_folded(place, values.shape[axis]), axis)
            last = last.take(_folded(place - distance, values.shape[axis]), axis)
    return first, last


def _halves(step: Sequence[int]) -> list[int]:
    """Way from the first voxel of a pair to its middle, along each axis."""
    return [-(distance // 2) if distance > 0 else -distance // 2 for distance in step]


def _folded(place: np.ndarray, n: int) -> np.ndarray:
    """Positions beyond the border as those of their mirror images, with the border voxel repeated: 2 1 0 | 0 1 2."""
    place = place % (2 * n)
    return np.minimum(place, 2 * n - 1 - place)


def _canonical(offset: Sequence[float]) -> tuple[int, ...]:
    """An offset or its opposite, whichever is smaller: both stand for the same pairs of voxels."""
    own = tuple(int(n) for n in offset)
    return min(own, tuple(-n for n in own))


def _sources(steps: list[tuple[int, ...]], orientation: Orientation) -> tuple[list[int], list[bool]]:
    """For each offset the channel that stores its pairs, and whether it stores them at the other end."""
    turned = [tuple(int(n) for n in orientation.reorient_vector(step)) for step in steps]
    source = [next(i for i, other in enumerate(turned) if _canonical(other) == _canonical(step)) for step in steps]
    return source, [turned[i] != step for i, step in zip(source, steps, strict=True)]


def _widened(labels: np.ndarray, width: int, spacing: Sequence[float]) -> np.ndarray:
    """Labels without the voxels near contacts; plane by plane where planes are far apart."""
    # a contact across planes would remove at least one plane of both objects: too much where planes are few and far apart
    if labels.ndim == 3 and spacing[0] > 1.5 * min(spacing):
        return np.stack([_widened(plane, width, spacing[1:]) for plane in labels])
    return np.where(touching(labels, 2 * width, spacing) > 0, np.uint32(0), labels)
