"""The lists of transforms of a phase: reading, and what they do to raw data and labels. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from morula.core.errors import UnknownNameError
from morula.data.augment.base import AnyIntensity, Intensity, draw
from morula.dialects.pytorch3dunet import targets, transforms
from morula.dialects.pytorch3dunet.keys import Table
from morula.dialects.pytorch3dunet.sections import TransformerOptions
from morula.dialects.pytorch3dunet.targets import LabelTransform
from morula.dialects.pytorch3dunet.transforms import CropToFixed, ToTensor, Transform, augmentations, scaling_of

_KINDS: tuple[type[Transform], ...] = (
    transforms.Standardize,
    transforms.PercentileNormalizer,
    transforms.Normalize,
    transforms.ToTensor,
    transforms.Identity,
    transforms.RandomFlip,
    transforms.RandomRotate90,
    transforms.RandomRotate,
    transforms.ElasticDeformation,
    transforms.CropToFixed,
    transforms.RandomContrast,
    transforms.RandomGammaCorrection,
    transforms.GaussianBlur3D,
    transforms.AdditiveGaussianNoise,
    transforms.AdditivePoissonNoise,
    targets.StandardLabelToBoundary,
    targets.BlobsToMask,
    targets.LabelToAffinities,
    targets.LabelToZAffinities,
    targets.RandomLabelToAffinities,
    targets.LabelToBoundaryAndAffinities,
    targets.LabelToMaskAndAffinities,
    targets.Relabel,
    targets.RgbToLabel,
    targets.LabelToTensor,
)
TRANSFORMS: Table[Transform] = Table({kind.__name__: kind for kind in _KINDS})


class Lists(NamedTuple):
    """The transforms of a phase."""

    raw: tuple[Transform, ...] = ()
    label: tuple[Transform, ...] = ()
    weight: tuple[Transform, ...] = ()

    @property
    def crop(self) -> CropToFixed | None:
        """The crop of the raw data; it comes first, whatever its place in the list."""
        return next((transform for transform in self.raw if isinstance(transform, CropToFixed)), None)


def without_chance(lists: Lists) -> Lists:
    """The lists without what moves voxels or changes values at random; a random crop becomes that of the middle.

    Examples:
        >>> flip, crop = parse([{"name": "RandomFlip"}, {"name": "CropToFixed"}])
        >>> [(each.name, each.centered) for each in without_chance(Lists(raw=(flip, crop))).raw]
        [('CropToFixed', True)]
    """
    return Lists(*(tuple(map(_settled, filter(lambda each: each.augmentation() is None, transforms))) for transforms in lists))


def _settled(transform: Transform) -> Transform:
    return transform.model_copy(update={"centered": True}) if isinstance(transform, CropToFixed) else transform


def differences(lists: Lists) -> list[str]:
    """Lists of labels or weights whose spatial transforms differ from those of the raw data, which are applied to all of them."""
    raw = _moves(lists.raw)
    return [
        f"the list {name} moves patches by {_named(_moves(transforms))}, but the list raw by {_named(raw)}; the latter is applied to both. "
        "Write the same in both."
        for name, transforms in (("label", lists.label), ("weight", lists.weight))
        if transforms and _moves(transforms) != raw
    ]


def _moves(transforms: Sequence[Transform]) -> list[dict[str, object]]:
    # raw data and labels rightly differ in their interpolation
    interpolation = {"order", "spline_order", "mode"}
    return [transform.model_dump(exclude=interpolation) for transform in transforms if transform.role in ("spatial", "crop")]


def _named(moves: Sequence[Mapping[str, object]]) -> str:
    texts = [f"{move['name']} { ({key: value for key, value in move.items() if key != 'name'}) }".removesuffix(" {}") for move in moves]
    return ", ".join(texts) or "nothing"


def spline_order(transforms: Sequence[Transform], default: int) -> int:
    """Order of the interpolation: the highest in the list, because all moves are composed and interpolated once.

    Examples:
        >>> turn, bend = parse([{"name": "RandomRotate"}, {"name": "ElasticDeformation", "spline_order": 3}])
        >>> spline_order([turn, bend], 1), spline_order([turn], 1), spline_order([turn], 0)
        (3, 1, 0)
    """
    orders = [transform.interpolation() for transform in transforms]
    return max((order for order in orders if order is not None), default=default)


def parsed(entry: Mapping[str, object]) -> Transform:
    """The transform of an entry of a list; keys that nothing reads are left out."""
    kind = TRANSFORMS[str(entry["name"])]
    return kind.model_validate({key: value for key, value in entry.items() if key in kind.model_fields})


def parse(entries: Sequence[Mapping[str, object]]) -> tuple[Transform, ...]:
    """The transforms of a list.

    Raises:
        UnknownNameError: for a name that does not exist.

    Examples:
        >>> parse([{"name": "RandomFlip"}])[0].axis_prob
        0.5
    """
    for entry in entries:
        name = entry.get("name")
        if name not in TRANSFORMS:
            rule = f"must be one of {', '.join(TRANSFORMS)}"
            raise UnknownNameError("transform.unknown", rule, key="name", value=name, remedy=TRANSFORMS.nearest(name))
    return tuple(parsed(entry) for entry in entries)


def parse_lists(transformer: TransformerOptions) -> Lists:
    """The transforms of a phase, which were checked with the job."""
    return Lists(*(tuple(parsed(entry) for entry in entries) for entries in (transformer.raw, transformer.label, transformer.weight)))


def values(transforms: Sequence[Transform]) -> list[AnyIntensity]:
    """Those of `augmentations` that change values."""
    return [augmentation for augmentation in augmentations(transforms) if isinstance(augmentation, Intensity)]


def transform_raw(transforms: Sequence[Mapping[str, object]], raw: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Apply the transforms of a list ``transformer.raw`` that change values; `build_dataset` applies those that move voxels too.

    Args:
        transforms: entries of the list, as in a job file.
        raw: patch (Z, Y, X) or (C, Z, Y, X).
        seed: for the random transforms.

    Returns:
        The patch as float32 of the same shape.

    Raises:
        UnknownNameError: for a transform that does not exist.

    Examples:
        >>> transform_raw([{"name": "Normalize", "norm01": True}], np.array([[[2, 4, 6]]])).tolist()
        [[[0.0, 0.5, 1.0]]]
    """
    volume = (raw if raw.ndim == 4 else raw[None]).astype(np.float32)
    changes = draw(values(parse(transforms)), np.random.default_rng(seed), volume.shape[1:], (1.0, 1.0, 1.0))
    changed = changes.apply_intensity(volume, (1.0, 1.0, 1.0)).astype(np.float32, copy=False)
    return changed if raw.ndim == 4 else changed[0]


def encoded(transforms: Sequence[Transform], labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels ZYX or CZYX after the transforms of a list that do not move voxels.

    Args:
        transforms: the list.
        labels: of a patch, after flips, rotations and deformations.
        rng: for random transforms.

    Raises:
        DataError: for labels with channels where a transform needs one label image.
    """
    for transform in transforms:
        if isinstance(transform, ToTensor):
            labels = _typed(transform, labels)
        elif isinstance(transform, LabelTransform):
            labels = transform.apply(labels, rng)
        elif transform.role == "values":
            volume = labels if labels.ndim == 4 else labels[None]
            for change in values([transform]):
                record = change.draw(rng, volume.shape[1:], (1.0, 1.0, 1.0))
                volume = volume if record is None else change.apply(volume.astype(np.float32), record, (1.0, 1.0, 1.0))
            labels = volume if labels.ndim == 4 else volume[0]
    return labels


def _typed(transform: ToTensor, labels: np.ndarray) -> np.ndarray:
    if transform.expand_dims and labels.ndim == 3:
        labels = labels[None]
    scale = scaling_of(transform)
    if scale is not None:
        labels = scale(labels if labels.ndim == 4 else labels[None]).reshape(labels.shape)
    # losses need float32 or int64, and torch has the other types under several names
    names = {"float": "float32", "float64": "float32", "long": "int64", "int": "int64", "int32": "int64"}
    return labels.astype(names.get(transform.dtype, transform.dtype))


def transform_label(transforms: Sequence[Mapping[str, object]], label: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Apply the transforms of a list ``transformer.label`` that make targets; `build_dataset` applies those that move voxels too.

    Args:
        transforms: entries of the list, as in a job file.
        label: label image (Z, Y, X), or channels (C, Z, Y, X).
        seed: for `RandomLabelToAffinities`.

    Returns:
        The target, (C, Z, Y, X) after a transform that makes channels.

    Raises:
        UnknownNameError: for a transform that does not exist.
        DataError: for labels that a transform cannot use.

    Examples:
        >>> transform_label([{"name": "BlobsToMask"}], np.array([[[0, 3, 3]]])).tolist()
        [[[[0, 1, 1]]]]
    """
    return encoded(parse(transforms), label, np.random.default_rng(seed))
