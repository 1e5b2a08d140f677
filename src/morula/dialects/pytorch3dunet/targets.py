"""Targets of pytorch-3dunet from label patches: boundaries, masks and affinities, one channel each. Needs no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, PositiveInt
from skimage.measure import label

from morula.core.errors import DataError, OptionError
from morula.core.label_image import LARGEST_ID
from morula.dialects.pytorch3dunet.keys import key
from morula.dialects.pytorch3dunet.transforms import Transform
from morula.labels.boundaries import boundaries
from morula.representations.affinity import mirrored_pairs

Offsets: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Mode = Literal["thick", "inner", "outer"]
_EXACT = 2**24  # integers up to here are exact in float32, the type of targets


def boundary(labels: np.ndarray, mode: Mode = "thick") -> np.ndarray:
    """Voxels ZYX with a neighbour of another id across a face or an edge, int32.

    ``inner``: only voxels in objects. ``outer``: only voxels in the background, and both sides where two objects touch (corners included).

    Examples:
        >>> boundary(np.array([[[0, 0, 1, 1, 1, 2, 2]]]), "inner")
        array([[[0, 0, 1, 0, 1, 1, 0]]], dtype=int32)
    """
    known = labels.dtype.kind != "f" and labels.min(initial=0) >= 0 and labels.max(initial=0) <= LARGEST_ID
    return boundaries(labels if known else _numbered(labels), mode, 2).astype(np.int32)


def affinity(labels: np.ndarray, axis: int, offset: int) -> np.ndarray:
    """Voxels ZYX at which the ids of two voxels `offset` apart along an axis differ, int32.

    The pair is centred on the voxel, and borders are mirrored.

    Examples:
        >>> affinity(np.array([[[1, 1, 1, 2, 2, 2]]]), 2, 2)
        array([[[0, 0, 1, 1, 0, 0]]], dtype=int32)
    """
    step = [-offset if along == axis else 0 for along in range(3)]
    return np.not_equal(*mirrored_pairs(labels, step)).astype(np.int32)


def affinities(labels: np.ndarray, offsets: Sequence[int], z_offsets: Sequence[int]) -> list[np.ndarray]:
    """An affinity along x, y and z for each offset."""
    return [
        affinity(labels, axis, distance)
        for plane, depth in zip(offsets, z_offsets, strict=True)
        for axis, distance in ((2, plane), (1, plane), (0, depth))
    ]


def restored(channel: np.ndarray, labels: np.ndarray, ignore_index: int | None) -> np.ndarray:
    """The channel with the ignored label at the voxels that had it."""
    # losses leave out voxels whose target has this value
    return channel if ignore_index is None else np.where(labels == ignore_index, channel.dtype.type(ignore_index), channel)


def appended(labels: np.ndarray, ignore_index: int | None = None) -> np.ndarray:
    """Labels as a channel of a target. Ids that are too high for float32 are renumbered, so that no two objects become one."""
    if labels.size == 0 or int(labels.max()) <= _EXACT:
        return labels
    return restored(_numbered(labels), labels, ignore_index)


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Ids 1, 2, 3, ...; background stays background."""
    ids, place = np.unique(labels, return_inverse=True)
    return np.where(ids == 0, 0, np.cumsum(ids != 0))[place.reshape(labels.shape)]


def renumbered(labels: np.ndarray, *, connected: bool = True, ignore_label: int | None = None) -> np.ndarray:
    """Consecutive ids of connected components (across corners), or of the ids as they are. Voxels of `ignore_label` become 0.

    Examples:
        >>> renumbered(np.array([[[10, 10, 0, 6, 10]]]))
        array([[[1, 1, 0, 2, 3]]])
        >>> renumbered(np.array([[[10, 10, 0, 6, 10]]]), connected=False)
        array([[[2, 2, 0, 1, 2]]])
    """
    return label(labels, background=ignore_label) if connected else _numbered(labels)


# --- transforms --------------------------------------------------------------------------------------------------------------------------


class LabelTransform(Transform):
    """Keys of every transform of labels."""

    native_form = "`method.channels`, or refused"
    role = "labels"

    @abstractmethod
    def apply(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Labels ZYX or CZYX to a label image ZYX or channels CZYX.

        Raises:
            DataError: for labels that the transform cannot use.
        """


class LabelToTensor(LabelTransform):
    """Integers of 64 bits."""

    def apply(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `LabelTransform.apply`."""
        return labels.astype(np.int64)


class RgbToLabel(LabelTransform):
    """Ids from three colour channels."""

    def apply(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `LabelTransform.apply`."""
        if labels.ndim != 4 or len(labels) != 3:
            raise DataError(
                "labels.rgb_channels",
                f"RgbToLabel needs three channels, but the labels have the shape {labels.shape}",
                remedy="Leave it out.",
            )
        red, green, blue = labels.astype(np.int64)
        # the colours are the bytes of a 24-bit number
        return red * 65536 + green * 256 + blue


class Relabel(LabelTransform):
    """Consecutive ids."""

    append_original: bool = key(False, "Append the labels as they were as the last channel.")
    run_cc: bool = key(True, "Number connected components instead of ids.")
    ignore_label: int | None = key(None, "Label that becomes 0; needs append_original.")

    def check(self) -> None:
        """See `Section.check`."""
        if self.ignore_label is not None and not self.append_original:
            rule = "ignore_label needs append_original: true; otherwise ignored voxels look like background"
            raise OptionError("transform.relabel", rule)

    def apply(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `LabelTransform.apply`."""
        labels = _one_image(self.name, labels)
        new = renumbered(labels, connected=self.run_cc, ignore_label=self.ignore_label)
        return np.stack([new, labels]) if self.append_original else new


def _one_image(name: str, labels: np.ndarray) -> np.ndarray:
    # a single channel, for example after ToTensor, is one label image
    if labels.ndim == 4 and len(labels) == 1:
        labels = labels[0]
    if labels.ndim != 3:
        raise DataError(
            "labels.channels",
            f"{name} needs one label image, but there are {len(labels)} channels",
            remedy="Name one data set in loaders.label_internal_path, or leave the transform out.",
        )
    ids = labels.astype(np.int64, copy=False)
    # files may store ids as real numbers
    return ids if labels.dtype.kind == "f" and (ids == labels).all() else labels


class Targets(LabelTransform):
    """Keys of every transform that makes channels from one label image."""

    append_label: bool = key(False, "Append the labels as the last channel.")

    def apply(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `LabelTransform.apply`."""
        labels = _one_image(self.name, labels)
        return np.stack([*self._channels(labels, rng), *([appended(labels, self.kept_label)] if self.append_label else [])])

    @property
    def kept_label(self) -> int | None:
        """Label that is kept as it is in the target."""
        return None

    @abstractmethod
    def _channels(self, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """The channels ZYX, before the labels are appended."""


class BlobsToMask(Targets):
    """Mask of objects."""

    boundary: bool = key(False, "Append the outer boundary as a further channel.")
    cross_entropy: bool = key(False, "Make the boundary class 2 of one channel instead.")

    def _channels(self, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        mask = (labels > 0).astype(np.int32)
        if not self.boundary:
            return [mask]
        outer = boundary(labels, "outer")
        # class 2 replaces foreground and background at the boundary
        return [np.where(outer > 0, 2, mask)] if self.cross_entropy else [mask, outer]


class IgnoringTargets(Targets):
    """Keys of transforms that keep a label for the loss to ignore."""

    ignore_index: int | None = key(None, "Label that is kept as it is in the target, for the loss to ignore.")

    @property
    def kept_label(self) -> int | None:
        """See `Targets.kept_label`."""
        return self.ignore_index

    def _restored(self, channels: list[np.ndarray], labels: np.ndarray) -> list[np.ndarray]:
        return [restored(channel, labels, self.ignore_index) for channel in channels]


class StandardLabelToBoundary(IgnoringTargets):
    """Boundaries of objects."""

    mode: Mode = key("thick", "Side of the objects on which boundaries are.")
    foreground: bool = key(False, "Put the mask of objects in front as the first channel.")

    def _channels(self, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        mask = [(labels > 0).astype(np.int32)] if self.foreground else []
        return self._restored([*mask, boundary(labels, self.mode)], labels)


class LabelToAffinities(IgnoringTargets):
    """Voxels whose ids differ at given distances along x, y and z."""

    offsets: Offsets = key(..., "Distances along x and y.")
    z_offsets: Offsets | None = key(None, "Distances along z; those of x and y when left out.")
    aggregate_affinities: bool = key(False, "One channel per distance, of all axes together.")

    def check(self) -> None:
        """See `Section.check`."""
        if self.z_offsets is not None and len(self.z_offsets) != len(self.offsets):
            rule = f"there must be as many offsets as z_offsets, not {len(self.offsets)} and {len(self.z_offsets)}"
            raise OptionError("transform.offsets", rule)
        if len(set(self.offsets)) != len(self.offsets):
            raise OptionError("transform.offsets", "offsets must be different from each other")

    def _channels(self, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        pairs = affinities(labels, self.offsets, self.z_offsets or self.offsets)
        if self.aggregate_affinities:
            # x, y and z of each distance
            pairs = [np.maximum.reduce(pairs[i : i + 3]) for i in range(0, len(pairs), 3)]
        return self._restored(pairs, labels)


class LabelToZAffinities(IgnoringTargets):
    """Voxels whose ids differ at given distances along z."""

    offsets: Offsets = key(..., "Distances.")

    def _channels(self, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        return self._restored([affinity(labels, 0, offset) for offset in self.offsets], labels)


class RandomLabelToAffinities(IgnoringTargets):
    """Voxels whose ids differ at a random distance along a random axis."""

    max_offset: PositiveInt = key(10, "Largest distance.")
    z_offset_scale: PositiveInt = key(2, "Divisor of distances along z.")

    def _channels(self, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        # voxels are usually longer along z, so distances are shorter there
        offset, axis = int(rng.integers(1, self.max_offset + 1)), int(rng.integers(3))
        return self._restored([affinity(labels, axis, max(1, offset // self.z_offset_scale) if axis == 0 else offset)], labels)


class LabelToBoundaryAndAffinities(StandardLabelToBoundary):
    """Boundaries, then affinities."""

    xy_offsets: Offsets = key(..., "Distances along x and y.")
    z_offsets: Offsets = key(..., "Distances along z, as many as along x and y.")

    def _channels(self, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        return [*super()._channels(labels, rng), *self._restored(affinities(labels, self.xy_offsets, self.z_offsets), labels)]


class LabelToMaskAndAffinities(IgnoringTargets):
    """Mask of objects, then affinities."""

    xy_offsets: Offsets = key(..., "Distances along x and y.")
    z_offsets: Offsets = key(..., "Distances along z, as many as along x and y.")
    background: int = key(0, "Highest label of voxels that belong to no object.")

    def _channels(self, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        mask = (labels > self.background).astype(np.int32)
        return [mask, *self._restored(affinities(labels, self.xy_offsets, self.z_offsets), labels)]
