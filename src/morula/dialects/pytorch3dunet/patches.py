"""Patches of a job of pytorch-3dunet. A patch is a pure function of (seed, epoch, index), so neither epochs nor workers repeat one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np

from morula.core.errors import DataError
from morula.core.options import validated
from morula.core.orientation import Orientation
from morula.core.reflect_pad import read_reflected
from morula.core.region import Region, blocks
from morula.data.augment.base import AnyAugmentation, Draw, Reorienting, draw
from morula.data.augment.resample import SPLINE_REACH, Fetched, fetch_region
from morula.data.intensity import Distribution
from morula.data.patches import change_of_scale
from morula.data.sampling import centred
from morula.dialects.pytorch3dunet.keys import Section
from morula.dialects.pytorch3dunet.sections import LoadersOptions, SliceBuilderOptions
from morula.dialects.pytorch3dunet.slice_builders import PatchGrid, build_slices
from morula.dialects.pytorch3dunet.targets import encoded
from morula.dialects.pytorch3dunet.transforms import Lists, Statistics, Transform, augmentations, parse_lists, spline_order
from morula.dialects.pytorch3dunet.volumes import Array, Volume, open_volumes

UNIT = (1.0, 1.0, 1.0)  # as in the original, all lengths are in voxels
_MOST = 2**24  # values that percentiles are computed from; of more values, every n-th is used


def measure(raw: Array) -> Statistics:
    """Mean, standard deviation and percentiles of a volume CZYX, which is read block by block.

    Mean and standard deviation are exact. Of more than 2**24 values, percentiles are those of every n-th.
    """
    total = int(np.prod(raw.shape, dtype=np.int64))
    # odd, so that a stride along rows of even length reaches all columns
    stride = max(1, -(-total // _MOST)) | 1
    sums, count = np.zeros(2), 0
    shift: float | None = None
    parts = []
    for box in blocks(raw.shape[1:], (max(1, 2**22 // int(np.prod(raw.shape[2:]))), *raw.shape[2:])):
        block = np.asarray(raw[(slice(None), *box.slices)])
        exact = block.astype(np.float64)
        shift = float(exact.flat[0]) if shift is None else shift  # close to the mean, so that the squares do not cancel
        exact -= shift
        sums += exact.sum(), np.einsum("czyx,czyx->", exact, exact)
        count += block.size
        parts.append(Distribution.of(block.ravel()[::stride] if total > _MOST else block))
    mean, square = sums / count
    distribution = Distribution.merge(parts) if len(parts) > 1 else parts[0]
    return Statistics(mean + (shift or 0.0), float(np.sqrt(max(square - mean * mean, 0.0))), distribution.percentile)


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of volumes, for a loader.

    Attributes:
        volumes: their volumes.
        grids: their positions in each volume.
        lists: their transforms.
        seed: seed of all random numbers.
        in_memory: whether the volumes are read at the start and kept.
        statistics: of each volume, where intensities are normalised by them.
        reach: voxels by which one side of a patch is moved at random, and the share of patches whose scale is changed.
    """

    volumes: Sequence[Volume]
    grids: Sequence[PatchGrid]
    lists: Lists
    seed: int = 0
    in_memory: bool = True
    statistics: Sequence[Statistics | None] = ()
    reach: tuple[int, float] = (0, 0.0)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(grid) for grid in self.grids))

    @cached_property
    def _moves(self) -> list[AnyAugmentation]:
        return augmentations([each for each in self.lists.raw if each.role == "spatial"])

    @cached_property
    def _held(self) -> list[tuple[Array, tuple[Array, ...], Array | None]]:
        """Raw data, labels and weights of each volume, in memory or lazy."""

        def hold(array: Array) -> Array:
            return np.asarray(array[(slice(None),) * 4]) if self.in_memory else array

        return [
            (hold(volume.raw), tuple(map(hold, volume.labels)), None if volume.weight is None else hold(volume.weight))
            for volume in self.volumes
        ]

    def preload(self) -> None:
        """Read the volumes that are kept in memory, so that processes that start later share them."""
        _ = self._held

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def in_channels(self) -> int:
        """Channels of the raw data."""
        return int(self.volumes[0].raw.shape[0])

    def sample(self, epoch: int, index: int) -> dict[str, np.ndarray]:
        """A patch: ``image`` CZYX float32, ``targets`` as the label list makes them, ``weight`` where there is one, ``name``.

        Raises:
            DataError: for labels that a transform cannot use.
        """
        number = bisect_right(self._ends, index)
        volume, grid = self.volumes[number], self.grids[number]
        region = grid[index - (self._ends[number] - len(grid))]
        statistics = self.statistics[number] if self.statistics else None
        box, drawn = self._drawn(volume.shape, region, (epoch, index), statistics)
        raw, labels, weight = self._held[number]
        image = _moved(raw, box, drawn, spline_order(self.lists.raw, 1)).astype(np.float32, copy=False)
        sample = {
            "image": np.ascontiguousarray(drawn.apply_intensity(image, UNIT), np.float32),
            "name": np.array(f"{volume.name} {region.start}"),
        }
        targets = []
        for opened, array in zip(volume.labels, labels):
            patch = _moved(array, box, drawn, spline_order(self.lists.label, int(opened.dtype.kind == "f")))
            patch = patch if opened.channels else patch[0]
            targets.append(encoded(self.lists.label, patch, self._rng(epoch, index, 2)))
        if targets:
            sample["targets"] = _joined(targets)
        if weight is not None:
            moved = _moved(weight, box, drawn, spline_order(self.lists.weight, 1))
            patch = encoded(self.lists.weight, moved, self._rng(epoch, index, 2))
            sample["weight"] = np.ascontiguousarray(patch, np.float32)
        return sample

    def _rng(self, epoch: int, index: int, stream: int) -> np.random.Generator:
        """The streams of `morula.data.patches.PatchDataset`: 0 for the position, 1 for augmentations; 2 is for random targets."""
        return np.random.default_rng((self.seed, epoch, index, stream))

    def _drawn(self, shape: Sequence[int], region: Region, number: tuple[int, int], statistics: Statistics | None) -> tuple[Region, Draw]:
        """The box that is read and its augmentations, drawn once for raw data, labels and weights.

        The augmentations are drawn in the order of the list, from the stream that native jobs use, so that a converted job draws the same.
        """
        place = self._rng(*number, 0)
        crop = next((each for each in self.lists.raw if each.role == "crop"), None)
        if crop is not None:
            # the crop comes first, whatever its place in the list: it sets the shape that all other transforms see
            region = _cropped(region, crop, place)
        drawn = draw(augmentations(self.lists.raw, statistics), self._rng(*number, 1), region.shape, UNIT)
        box = _turned(region, drawn.orientation, shape)
        warp = drawn.warp
        if warp is not None and box.shape != region.shape:  # a field of displacements has the shape of the box
            warp = draw([each for each in self._moves if not isinstance(each, Reorienting)], place, box.shape, UNIT).warp
        most, share = self.reach
        if most and self._rng(*number, 3).random() < share:
            scaled = change_of_scale(box, Region.whole(shape), most, self._rng(*number, 4), UNIT)
            warp = scaled if warp is None else warp.then(scaled)
        return box, Draw(warp, drawn.orientation, drawn.intensity)


def _joined(targets: Sequence[np.ndarray]) -> np.ndarray:
    """The targets of several data sets, concatenated along the channels."""
    if len(targets) > 1:
        # targets without channels become one channel each
        whole = np.concatenate([each if each.ndim == 4 else each[None] for each in targets])
    else:
        whole = targets[0]
    return np.ascontiguousarray(whole, np.float32 if whole.dtype.kind == "f" else np.int64)


def _cropped(region: Region, crop: Transform, rng: np.random.Generator) -> Region:
    start, stop = list(region.start), list(region.stop)
    for axis, edge in zip((1, 2), crop.size, strict=True):
        n = region.shape[axis]
        if edge >= n:
            first = centred(n, edge)
        else:
            # as in the original, the last position is never drawn
            first = (n - edge) // 2 if crop.centered else int(rng.integers(n - edge))
        start[axis] = region.start[axis] + first
        stop[axis] = start[axis] + edge
    return Region(tuple(start), tuple(stop))


def _turned(region: Region, orientation: Orientation, shape: Sequence[int]) -> Region:
    """The box with the centre of the region that has its shape after the rotation, moved into the volume where it is not larger."""
    start = []
    edges = tuple(region.shape[orientation.permutation.index(axis)] for axis in range(3))
    for a, old, new, n in zip(region.start, region.shape, edges, shape, strict=True):
        first = a + (old - new) // 2
        start.append(first if old == new or new > n else min(max(first, 0), n - new))
    return Region(tuple(start), tuple(a + edge for a, edge in zip(start, edges, strict=True)))


def _moved(array: Array, box: Region, drawn: Draw, order: int) -> np.ndarray:
    """The values of a box of an array CZYX after warp and orientation, interpolated by `order`. Beyond the array is its mirror image."""
    extent = Region.whole(array.shape[1:])
    if drawn.warp is None:
        patch = read_reflected(array, box, extent)
    else:
        centre = (np.array(box.start) + np.array(box.stop) - 1) / 2
        # splines depend on voxels beyond the interpolated region
        margin = (SPLINE_REACH if order > 1 else 0,) * 3
        place = fetch_region(drawn.warp.region(box.shape, UNIT, centre).grow(margin), extent)
        part = np.asarray(array[(slice(None), *place.slices)])
        where = drawn.warp.map(box.shape, UNIT, centre)
        fetched = Fetched(part if order else _plain(part), place.start, extent)
        match order:
            case 0:
                patch = fetched.nearest(where)
            case 1:
                patch = fetched.linear(where)
            case _:
                patch = fetched.spline(where, order)
    return np.ascontiguousarray(drawn.orientation.apply(patch if order else _plain(patch)))


def _plain(labels: np.ndarray) -> np.ndarray:
    """Labels in one of three data types, because a kernel is compiled for each data type."""
    if labels.dtype.kind == "f":
        return labels.astype(np.float32, copy=False)
    small = labels.dtype.itemsize <= 2 or labels.dtype == np.int32
    return labels.astype(np.int32 if small else np.int64, copy=False)


def build_patches(loaders: Section, name: Literal["train", "val"], *, seed: int = 0, weights: bool = False) -> Patches:
    """The patches of a phase.

    Args:
        loaders: the section of the job.
        name: of the phase.
        seed: of everything random.
        weights: whether voxels have weights.

    Raises:
        DataError: when files do not match each other, or no patch is left.
        MissingFileError: when a file is missing.
    """
    phase: Section = getattr(loaders, name)
    volumes = open_volumes(loaders, name, weights=weights)
    channels = sorted({volume.raw.shape[0] for volume in volumes})
    if len(channels) > 1:
        raise DataError(
            "image.channels",
            f"the files of loaders.{name} have different numbers of channels ({channels})",
            remedy="Use files of one kind.",
        )
    grids = []
    for volume in volumes:
        # without a slice builder a patch is the whole image
        whole = {"patch_shape": volume.shape, "stride_shape": volume.shape, "skip_shape_check": True}
        options = phase.slice_builder or SliceBuilderOptions.model_validate(whole)
        grids.append(build_slices(volume.shape, options, volume.labels[0] if volume.labels else None, name=volume.name))
    return Patches(
        volumes,
        grids,
        parse_lists(phase.transformer),
        seed,
        loaders.dataset != "LazyHDF5Dataset",
        [measure(volume.raw) for volume in volumes] if loaders.global_normalization else (),
        (loaders.random_scale or 0, loaders.random_scale_probability),
    )


def build_dataset(loaders: Mapping[str, object], phase: Literal["train", "val"], *, seed: int = 0) -> Patches:
    """The data set of a phase from the section ``loaders`` of a job file.

    Args:
        loaders: the section; paths in it are relative to the current folder.
        phase: ``train`` or ``val``.
        seed: seed of all random numbers; ``sample(epoch, index)`` depends on nothing else.

    Raises:
        OptionError: for values that break a rule.
        DataError: when files do not match each other, or no patch is left.
        MissingFileError: when a file is missing.

    Examples:
        >>> patches = build_dataset(config["loaders"], "train")  # doctest: +SKIP
        >>> patches.sample(epoch=0, index=0)["image"].shape  # doctest: +SKIP
        (1, 80, 170, 170)
    """
    return build_patches(validated(LoadersOptions, loaders, "loaders"), phase, seed=seed)
