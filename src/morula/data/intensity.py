"""The distribution of the intensities of an image: of all voxels or, for large images, of blocks spread over the image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.errors import DataError
from morula.core.image import Image
from morula.core.region import Region, blocks
from morula.data.crop import crop

LIMIT = 2**24
"""Voxels per channel that are read; a larger image is represented by blocks."""

_BLOCK = 2**20
_MERGED = 64
_KEPT = 2**22  # floats have too many distinct values to be counted: at most so many are kept, because sorting more takes seconds


@dataclass(frozen=True, eq=False)
class Distribution:
    """Sorted distinct intensities and how often each occurs.

    Where only some of the voxels were counted, `known` has the number of all, their mean and the sum of their squared deviations from it.
    """

    values: np.ndarray
    counts: np.ndarray
    known: tuple[int, float, float] | None = None

    @property
    def moments(self) -> tuple[int, float, float]:
        """Number of voxels, their mean, and the sum of their squared deviations from it."""
        if self.known is not None:
            return self.known
        mean = float(np.average(self.values.astype(np.float64), weights=self.counts))
        deviation = self.values.astype(np.float64) - mean
        return self.n, mean, float((deviation * deviation * self.counts).sum())

    @property
    def n(self) -> int:
        """Number of voxels."""
        return int(self.counts.sum())

    @property
    def low(self) -> float:
        """Smallest intensity."""
        return float(self.values[0])

    @property
    def high(self) -> float:
        """Largest intensity."""
        return float(self.values[-1])

    @property
    def mean(self) -> float:
        """Mean intensity."""
        return self.moments[1]

    @property
    def std(self) -> float:
        """Standard deviation (of the population)."""
        n, _, squares = self.moments
        return math.sqrt(squares / n)

    def percentile(self, rank: float) -> float:
        """Percentile with linear interpolation, equal to `numpy.percentile` of the voxels.

        Examples:
            >>> Distribution(np.array([1, 5]), np.array([3, 1])).percentile(100 * 5 / 6)
            3.0
        """
        position = rank / 100 * (self.n - 1)
        below = int(position)
        ends = np.cumsum(self.counts)
        first, second = (float(self.values[np.searchsorted(ends, i, side="right")]) for i in (below, min(below + 1, self.n - 1)))
        return first + (second - first) * (position - below)

    @classmethod
    def of(cls, values: np.ndarray, stride: int = 1) -> Distribution:
        """The distribution of the values of an array of any shape: every value of rank 0, stride, 2 stride, ..., and the two extremes."""
        if stride > 1:
            mean = float(values.mean(dtype=np.float64))
            known = values.size, mean, float(np.square(values.astype(np.float64) - mean).sum())
            return cls(*np.unique(_thinned(values, stride), return_counts=True), known)
        if (values.dtype.kind in "iu" and values.dtype.itemsize <= 2) or values.dtype == bool:
            # counting is several times faster than sorting
            flat = values.astype(np.int64, copy=False).ravel()
            least = int(flat.min())
            counts = np.bincount(flat - least)
            present = np.flatnonzero(counts)
            return cls(present + least, counts[present])
        return cls(*np.unique(values, return_counts=True))

    @classmethod
    def merge(cls, parts: Sequence[Distribution]) -> Distribution:
        """The distribution of the voxels of all parts together."""
        values, place = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate([part.counts for part in parts]))
        known = None if all(part.known is None for part in parts) else _together([part.moments for part in parts])
        return cls(values, counts.astype(np.int64), known)


def _together(parts: Sequence[tuple[int, float, float]]) -> tuple[int, float, float]:
    """Number, mean and squared deviations of the voxels of all parts (Chan et al. 1979, Updating formulae)."""
    sizes, means, squares = (np.array(column, np.float64) for column in zip(*parts, strict=True))
    mean = float(np.average(means, weights=sizes))
    return int(sizes.sum()), mean, float((squares + sizes * (means - mean) ** 2).sum())


def _block_shape(image: Image) -> tuple[int, ...]:
    """Shape of a block of about `_BLOCK` voxels: the chunks of the file where it has any, enlarged along the last axes first."""
    shape = image.spatial_shape
    chunks = getattr(image.data, "chunks", None)
    spatial = [i for i, letter in enumerate(image.axes) if letter in "ZYX"]
    known = chunks is not None and len(chunks) == len(image.axes) and all(isinstance(chunks[i], int) for i in spatial)
    block = [min(chunks[i], n) for i, n in zip(spatial, shape, strict=True)] if known and chunks else [1] * len(shape)
    for axis in reversed(range(len(shape))):
        room = _BLOCK // max(int(np.prod(block)), 1)
        block[axis] = min(shape[axis], block[axis] * max(room, 1))
    return tuple(block)


def sampled_blocks(image: Image, limit: int | None = LIMIT) -> Iterator[np.ndarray]:
    """C(Z)YX blocks of an image: all of it up to `limit` voxels per channel, else as many whole blocks, chosen with a fixed seed.

    Without a limit, all of it.
    """
    boxes = list(blocks(image.spatial_shape, _block_shape(image)))
    total = int(np.prod(image.spatial_shape, dtype=np.int64))
    if limit is not None and total > limit:
        # a fixed seed: the same image always has the same normalisation
        order = np.random.default_rng(0).permutation(len(boxes))
        wanted = max(1, round(len(boxes) * limit / total))
        boxes = [boxes[i] for i in sorted(order[:wanted])]
    for box in boxes:
        yield crop(image, Region(box.start, box.stop))


def distributions(image: Image, limit: int | None = LIMIT) -> list[Distribution]:
    """The intensity distribution of each channel of an image.

    Memory is bounded: of an image with more than `limit` voxels per channel, blocks spread over it are read (always the same ones). Of
    floats and wide integers at most about 2**22 of the values are kept, including the extremes; mean and standard deviation are those of
    all values that were read. Without a limit, all blocks are read.

    Raises:
        DataError: for an empty image, or values that are not finite.
    """
    name = image.source or "the image"
    if 0 in image.shape:
        raise DataError("image.empty", f"the image has no voxels (shape {image.shape})", file=name, remedy="Leave it out.")
    parts: list[list[Distribution]] = [[] for _ in range(image.n_channels)]
    voxels = int(np.prod(image.spatial_shape, dtype=np.int64))
    total = voxels if limit is None else min(limit, voxels)
    stride = 1 if image.dtype.itemsize <= 2 or total <= _KEPT else -(-total // _KEPT) | 1  # odd: not the same columns of every row
    for block in sampled_blocks(image, limit):
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise DataError(
                "image.not_finite",
                "the image contains NaN or infinite values",
                file=name,
                remedy="Replace them before training, for example by 0.",
            )
        for channel, values in enumerate(block):
            parts[channel].append(Distribution.of(values, stride))
            # many blocks of many values would fill the memory
            parts[channel] = [Distribution.merge(parts[channel])] if len(parts[channel]) >= _MERGED else parts[channel]
    return [Distribution.merge(channel) if len(channel) > 1 else channel[0] for channel in parts]


def _thinned(values: np.ndarray, stride: int) -> np.ndarray:
    """Every value of rank 0, stride, 2 stride, ... in memory order, and the two extremes."""
    return np.append(values.ravel()[::stride], [values.min(), values.max()])
