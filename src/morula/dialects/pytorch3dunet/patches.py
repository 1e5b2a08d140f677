"""Patches of a job of pytorch-3dunet, as a native data set with its own positions, order of interpolation and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Literal

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError
from morula.core.image import Image
from morula.core.options import validated
from morula.core.region import Region
from morula.data.augment.base import AnyAugmentation
from morula.data.labelled_grid import labelled_boxes
from morula.data.normalise import Normalisation
from morula.data.patches import PatchDataset, Source
from morula.data.sampling import Boxes, Grid, Options
from morula.dialects.pytorch3dunet.sections import LoadersOptions, SliceBuilderOptions
from morula.dialects.pytorch3dunet.targets import LabelTransform
from morula.dialects.pytorch3dunet.transform_lists import Lists, encoded, parse_lists, spline_order, without_chance
from morula.dialects.pytorch3dunet.transforms import ToTensor, Transform, augmentations, records_of
from morula.dialects.pytorch3dunet.volumes import FileArray, Volume, open_volumes
from morula.io.lazy import Stack, without_z


class _AsIs(Normalisation):
    """The values as float32; the transforms bring them to scale."""

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The array C(Z)YX as float32."""
        return array.astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class _Encoder:
    """Makes the targets: the labels of each data set by itself, concatenated along the channels.

    Attributes:
        transforms: of the labels.
        stored: the data sets.
    """

    transforms: Sequence[Transform]
    stored: Sequence[FileArray]

    def __call__(self, labels: np.ndarray, rng: np.random.Generator) -> SimpleNamespace:
        """Targets of a patch of all data sets, (C)ZYX; of images of two dimensions, Z has length 1."""
        ends = np.cumsum([dataset.shape[0] for dataset in self.stored])
        parts = np.split(_in_3d(labels if ends[-1] > 1 else labels[None]), ends[:-1])
        # random transforms change all data sets alike
        state = rng.bit_generator.state
        found = []
        for dataset, part in zip(self.stored, parts, strict=True):
            rng.bit_generator.state = state
            found.append(encoded(self.transforms, part if dataset.channels else part[0], rng))
        # targets without channels become one channel each
        whole = np.concatenate([target if target.ndim == 4 else target[None] for target in found]) if len(found) > 1 else found[0]
        whole = whole.astype(np.float32 if whole.dtype.kind == "f" else np.int64, copy=False)
        return SimpleNamespace(channels=whole, weights=np.ones((1, 1, 1), np.float32), instances=None)


@dataclass(frozen=True, eq=False)
class Patches(PatchDataset):
    """Patches of volumes, for a loader. Make them with `patches_of`.

    Attributes:
        volumes: their volumes.
        lists: their transforms.
        records: of each volume and transform, where intensities are normalised by the statistics of whole volumes.
    """

    volumes: Sequence[Volume] = ()
    lists: Lists = field(default_factory=Lists)
    records: Sequence[Sequence[Normalisation | None]] = ()

    @property
    def in_channels(self) -> int:
        """Channels of the raw data."""
        return int(self.volumes[0].raw.shape[0])

    def augmentations_of(self, number: int) -> Sequence[AnyAugmentation]:
        """See `PatchDataset.augmentations_of`."""
        return augmentations(self.lists.raw, self.records[number] if self.records else ())

    def sample(self, epoch: int, index: int) -> dict[str, np.ndarray]:
        """A patch: ``image`` CZYX float32, ``targets`` as the label list makes them, ``weight`` where there is one, ``name``.

        Raises:
            DataError: for labels that a transform cannot use.
        """
        sample = super().sample(epoch, index)
        sample["image"] = _in_3d(sample["image"])
        weight = sample.pop("weights")
        if self.sources[0].weights is not None:
            sample["weight"] = np.ascontiguousarray(encoded(self.lists.weight, _in_3d(weight), self._rng(epoch, index, 2)), np.float32)
        return sample


def patches_of(
    volumes: Sequence[Volume],
    grids: Sequence[Boxes],
    lists: Lists,
    *,
    seed: int = 0,
    in_memory: bool = True,
    whole: bool = False,
    scale: tuple[int | None, float] = (None, 0.0),
) -> Patches:
    """Patches of volumes.

    Args:
        volumes: their volumes.
        grids: their positions in each volume.
        lists: their transforms.
        seed: seed of all random numbers.
        in_memory: whether the volumes are read at the start and kept.
        whole: whether intensities are normalised by the statistics of whole volumes.
        scale: voxels by which one side of a patch is moved at random, and the share of patches whose scale is changed.
    """
    labels, (voxels, share) = volumes[0].labels, scale
    # ids may be stored as real numbers; what a network predicts directly is interpolated
    values = all(array.dtype.kind == "f" for array in labels) and not any(map(_makes_integers, lists.label))
    sources = [_source(volume) for volume in volumes]
    # planes move in two dimensions: nothing beyond them is drawn, as in native jobs
    if all(volume.shape[0] == 1 for volume in volumes):
        sources = [
            replace(source, image=without_z(source.image), labels=_flat(source.labels), weights=_flat(source.weights)) for source in sources
        ]
        grids = [[Region(box.start[1:], box.stop[1:]) for box in map(grid.__getitem__, range(len(grid)))] for grid in grids]
    crop, patch = lists.crop, None  # a crop sets the shape that all other transforms see
    if crop is not None:
        patch = (*grids[0][0].shape[:-2], *crop.size)
    return Patches(
        sources,
        patch,
        _AsIs((), ()),
        Options(
            kind="centre" if crop is not None and crop.centered else "grid",
            cell=patch,
            scale_voxels=voxels,
            scale_probability=share,
            spline_order=spline_order(lists.raw, 1),
            score_padding=True,
        ),
        targets=_Encoder(lists.label, labels) if labels else None,
        seed=seed,
        grids=grids,
        orders={
            "labels": spline_order(lists.label, 1) if values else 0,  # there is nothing between two ids
            "weights": spline_order(lists.weight, 1),
        },
        label_type=_label_type(volumes),
        target_type=None,
        random_targets=True,
        cache=2**63 if in_memory else 0,
        volumes=volumes,
        lists=lists,
        records=[records_of(lists.raw, source.image) for source in sources] if whole else (),
    )


def _source(volume: Volume) -> Source:
    def image(array: ArraySource | None) -> Image | None:
        # without voxel size: as in the original, all lengths are in voxels
        return None if array is None else Image(array, Axes("CZYX"), source=str(volume.path))

    labels = None if not volume.labels else volume.labels[0] if len(volume.labels) == 1 else Stack(volume.labels, volume.name)
    raw = image(volume.raw)
    assert raw is not None
    return Source(raw, image(labels), volume.name, weights=image(volume.weight))


def _flat(image: Image | None) -> Image | None:
    return None if image is None else without_z(image)


def _in_3d(patch: np.ndarray) -> np.ndarray:
    """A patch C(Z)YX as CZYX."""
    return patch if patch.ndim == 4 else patch[:, None]


def _makes_integers(transform: Transform) -> bool:
    return isinstance(transform, LabelTransform) or (isinstance(transform, ToTensor) and not transform.dtype.startswith("float"))


def _label_type(volumes: Sequence[Volume]) -> type[np.signedinteger]:
    """One of two types that hold all labels, because a kernel is compiled for each type."""
    types = [array.dtype for volume in volumes for array in volume.labels]
    return np.int32 if all(dtype.itemsize <= 2 or dtype == np.int32 for dtype in types) else np.int64


def build_patches(loaders: LoadersOptions, name: Literal["train", "val"], *, seed: int = 0, weights: bool = False) -> Patches:
    """The patches of a phase; those of the validation are not changed at random, so that validations compare.

    Args:
        loaders: the section of the job.
        name: of the phase.
        seed: of everything random.
        weights: whether voxels have weights.

    Raises:
        DataError: when files do not match each other, or no patch is left.
        MissingFileError: when a file is missing.
    """
    phase = loaders.phase(name)
    assert phase is not None  # `open_volumes` would raise
    volumes = open_volumes(loaders, name, weights=weights)
    channels = sorted({volume.raw.shape[0] for volume in volumes})
    if len(channels) > 1:
        raise DataError(
            "image.channels",
            f"the files of loaders.{name} have different numbers of channels ({channels})",
            remedy="Use files of one kind.",
        )
    lists, training = parse_lists(phase.transformer), name == "train"
    return patches_of(
        volumes,
        [build_slices(volume, phase.slice_builder) for volume in volumes],
        lists if training else without_chance(lists),
        seed=seed,
        in_memory=loaders.dataset != "LazyHDF5Dataset",
        whole=loaders.global_normalization,
        scale=(loaders.random_scale if training else None, loaders.random_scale_probability),
    )


def grid_of(shape: Sequence[int], builder: SliceBuilderOptions | None) -> Grid:
    """The patches of a volume (Z, Y, X); without a slice builder the whole volume is one.

    Examples:
        >>> from morula.dialects.pytorch3dunet.sections import SliceBuilderOptions
        >>> values = {"patch_shape": (2, 4, 6), "stride_shape": (2, 4, 6), "skip_shape_check": True}
        >>> grid = grid_of((4, 10, 6), SliceBuilderOptions.model_validate(values))
        >>> len(grid), grid[4].start
        (6, (2, 4, 0))
    """
    whole = tuple(shape)
    return Grid(Region.whole(whole), *((whole, whole) if builder is None else (builder.patch_shape, builder.stride_shape)))


def build_slices(volume: Volume, builder: SliceBuilderOptions | None) -> Boxes:
    """The patches of a volume that the slice builder keeps.

    Raises:
        DataError: when no patch is kept.
    """
    grid = grid_of(volume.shape, builder)
    if builder is None or builder.name == "SliceBuilder" or not volume.labels:
        return grid
    return labelled_boxes(
        volume.labels[0], grid, builder.threshold, accept=builder.slack_acceptance, ignored=builder.ignore_index, name=volume.name
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
