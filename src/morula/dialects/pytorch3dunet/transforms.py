"""The transforms of pytorch-3dunet under their names in job files: the options of each. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import Field, PositiveInt, field_validator, model_validator

from morula.core.errors import OptionError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.options import Options

Pair: TypeAlias = tuple[float, float]
Plane: TypeAlias = tuple[Annotated[int, Field(ge=0, le=2)], Annotated[int, Field(ge=0, le=2)]]
Chance = Annotated[float, Field(ge=0, le=1)]
Offsets: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


Role = Literal["spatial", "crop", "values", "labels"]


class Transform(Options):
    """Keys of every transform."""

    role: ClassVar[Role] = "values"
    """Whether it moves voxels, crops, changes values, or makes targets from labels."""
    name: str
    """Name of the transform."""


class RandomTransform(Transform):
    """A transform that is applied to some of the patches."""

    execution_probability: Chance = 0.1
    """Share of the patches that are changed."""


class Target(Transform):
    """A transform that makes channels from labels."""

    role = "labels"
    append_label: bool = False
    """Append the labels as the last channel."""


class IgnoringTarget(Target):
    """A target that keeps one label."""

    ignore_index: int | None = None
    """Label that is kept as it is in the target, for the loss to ignore."""


class BoundaryTarget(IgnoringTarget):
    """A target with boundaries."""

    mode: Literal["thick", "inner", "outer"] = "thick"
    """Side of the objects on which boundaries are."""
    foreground: bool = False
    """Put the mask of objects in front as the first channel."""


class Standardize(Transform):
    """Mean 0 and standard deviation 1."""

    eps: float = 1e-10
    """Smallest standard deviation."""
    mean: float | None = None
    """Mean to use instead of that of the patch."""
    std: float | None = None
    """Standard deviation to use instead of that of the patch."""
    channelwise: bool = False
    """Normalise each channel separately."""

    @model_validator(mode="after")
    def _both(self) -> Standardize:
        if (self.mean is None) != (self.std is None):
            raise OptionError("transform.mean_and_std", "mean and std are used together", remedy="Give both or none.")
        return self


class PercentileNormalizer(Transform):
    """Map two percentiles to 0 and 1."""

    pmin: float = Field(1.0, ge=0, le=100)
    """Percentile that becomes 0."""
    pmax: float = Field(99.6, ge=0, le=100)
    """Percentile that becomes 1."""
    channelwise: bool = False
    """Normalise each channel separately."""
    eps: float = 1e-10
    """Added to the difference of the two."""

    @model_validator(mode="after")
    def _ordered(self) -> PercentileNormalizer:
        if self.pmin >= self.pmax:
            raise OptionError("transform.percentiles", f"pmin must be below pmax, but they are {self.pmin:g} and {self.pmax:g}")
        return self


class Normalize(Transform):
    """Map the lowest value to -1 and the highest to 1."""

    min_value: float | None = None
    """Lowest value, instead of that of the patch."""
    max_value: float | None = None
    """Highest value, instead of that of the patch."""
    norm01: bool = False
    """Map to 0 and 1 instead of -1 and 1."""
    eps: float = 1e-10
    """Added to the difference of the two."""

    @model_validator(mode="after")
    def _ordered(self) -> Normalize:
        if self.min_value is not None and self.max_value is not None and self.min_value >= self.max_value:
            raise OptionError(
                "transform.limits", f"min_value must be below max_value, but they are {self.min_value:g} and {self.max_value:g}"
            )
        return self


class RandomFlip(Transform):
    """Flip along axes."""

    role = "spatial"
    axis_prob: Chance = 0.5
    """Probability of each axis to stay as it is."""


class RandomRotate90(Transform):
    """Rotate about z by multiples of 90 degrees."""

    role = "spatial"


class RandomRotate(Transform):
    """Rotate by any angle."""

    role = "spatial"
    angle_spectrum: float = Field(30, gt=0, le=180)
    """Largest angle in degrees, in both directions."""
    axes: tuple[Plane, ...] = Field(((1, 0), (2, 1), (2, 0)), min_length=1)
    """Planes, one of which is drawn."""
    mode: str = "reflect"
    """Values beyond the volume. They are its mirror image here, whatever is written."""
    order: int | None = Field(None, ge=0, le=5)
    """Interpolation: 0 takes the nearest voxel, 1 is linear, 2 to 5 are splines. Left out: nearest for labels, linear for others."""

    @field_validator("axes")
    @classmethod
    def _planes(cls, axes: tuple[Plane, ...]) -> tuple[Plane, ...]:
        if any(a == b for a, b in axes):
            raise OptionError("transform.axes", "a plane has two different axes (0 is z, 1 is y, 2 is x), for example [2, 1]")
        return axes


class RandomContrast(RandomTransform):
    """Scale values about a fixed one, and clip to -1 ... 1."""

    alpha: Pair = (0.5, 1.5)
    """Smallest and largest factor."""
    mean: float = 0.0
    """Value that stays as it is."""


class RandomGammaCorrection(RandomTransform):
    """Scale to 0 ... 1 and raise to a power."""

    gamma: Pair = (0.5, 1.5)
    """Smallest and largest exponent."""


class ElasticDeformation(RandomTransform):
    """Smooth random deformation."""

    role = "spatial"
    spline_order: int = Field(ge=0, le=5)
    """Interpolation: 0 takes the nearest voxel (for labels), 1 is linear, 2 to 5 are splines."""
    alpha: float = Field(2000, ge=0)
    """Factor of the smoothed noise that is the displacement."""
    sigma: float = Field(50, gt=0)
    """Standard deviation of the Gaussian that smooths it, in voxels."""
    apply_3d: bool = True
    """Whether voxels move along z too."""


class CropToFixed(Transform):
    """Crop each plane to a fixed size; smaller planes are extended by their mirror image."""

    role = "crop"
    size: tuple[PositiveInt, PositiveInt] = (256, 256)
    """Edges (y, x) in voxels."""
    centered: bool = False
    """Crop the middle instead of a random part."""


class GaussianBlur3D(RandomTransform):
    """Gaussian blur."""

    sigma: Pair = (0.1, 2.0)
    """Smallest and largest standard deviation, in voxels."""
    execution_probability: Chance = 0.5
    """Share of the patches that are changed."""


class AdditiveGaussianNoise(RandomTransform):
    """Add normally distributed noise."""

    scale: Pair = (0.0, 1.0)
    """Smallest and largest standard deviation."""


class AdditivePoissonNoise(RandomTransform):
    """Add Poisson distributed noise."""

    lam: Pair = (0.0, 1.0)
    """Smallest and largest mean."""


class StandardLabelToBoundary(BoundaryTarget):
    """Boundaries of objects."""


class BlobsToMask(Target):
    """Mask of objects."""

    boundary: bool = False
    """Append the outer boundary as a further channel."""
    cross_entropy: bool = False
    """Make the boundary class 2 of one channel instead."""


class LabelToAffinities(IgnoringTarget):
    """Voxels whose ids differ at given distances along x, y and z."""

    offsets: Offsets
    """Distances along x and y."""
    z_offsets: Offsets | None = None
    """Distances along z; those of x and y when left out."""
    aggregate_affinities: bool = False
    """One channel per distance, of all axes together."""

    @model_validator(mode="after")
    def _as_many(self) -> LabelToAffinities:
        if self.z_offsets is not None and len(self.z_offsets) != len(self.offsets):
            rule = f"there must be as many offsets as z_offsets, not {len(self.offsets)} and {len(self.z_offsets)}"
            raise OptionError("transform.offsets", rule)
        if len(set(self.offsets)) != len(self.offsets):
            raise OptionError("transform.offsets", "offsets must be different from each other")
        return self


class LabelToZAffinities(IgnoringTarget):
    """Voxels whose ids differ at given distances along z."""

    offsets: Offsets
    """Distances."""


class RandomLabelToAffinities(IgnoringTarget):
    """Voxels whose ids differ at a random distance along a random axis."""

    max_offset: PositiveInt = 10
    """Largest distance."""
    z_offset_scale: PositiveInt = 2
    """Divisor of distances along z."""


class LabelToBoundaryAndAffinities(BoundaryTarget):
    """Boundaries, then affinities."""

    xy_offsets: Offsets
    """Distances along x and y."""
    z_offsets: Offsets
    """Distances along z, as many as along x and y."""


class LabelToMaskAndAffinities(IgnoringTarget):
    """Mask of objects, then affinities."""

    xy_offsets: Offsets
    """Distances along x and y."""
    z_offsets: Offsets
    """Distances along z, as many as along x and y."""
    background: int = 0
    """Highest label of voxels that belong to no object."""


class Relabel(Transform):
    """Consecutive ids."""

    role = "labels"
    append_original: bool = False
    """Append the labels as they were as the last channel."""
    run_cc: bool = True
    """Number connected components instead of ids."""
    ignore_label: int | None = None
    """Label that becomes 0; needs append_original."""

    @model_validator(mode="after")
    def _recoverable(self) -> Relabel:
        if self.ignore_label is not None and not self.append_original:
            rule = "ignore_label needs append_original: true; otherwise ignored voxels look like background"
            raise OptionError("transform.relabel", rule)
        return self


class ToTensor(Transform):
    """Data type of the values, and a channel axis."""

    expand_dims: bool = True
    """Add a channel axis where there is none."""
    dtype: Literal["float32", "float64", "float", "int64", "int32", "long", "int", "uint8"] = "float32"
    """Data type of the values."""
    normalize: bool = False
    """Scale to 0 ... 1."""


class Identity(Transform):
    """No change."""


class RgbToLabel(Transform):
    """Ids from three colour channels."""

    role = "labels"


class LabelToTensor(Transform):
    """Integers of 64 bits."""

    role = "labels"


TRANSFORMS: dict[str, type[Transform]] = {
    kind.__name__: kind
    for kind in (
        *(Standardize, PercentileNormalizer, Normalize, RandomContrast, RandomGammaCorrection, GaussianBlur3D),
        *(AdditiveGaussianNoise, AdditivePoissonNoise, ToTensor, Identity),
        *(RandomFlip, RandomRotate90, RandomRotate, ElasticDeformation, CropToFixed),
        *(StandardLabelToBoundary, BlobsToMask, LabelToAffinities, LabelToZAffinities, RandomLabelToAffinities),
        *(LabelToBoundaryAndAffinities, LabelToMaskAndAffinities, Relabel, RgbToLabel, LabelToTensor),
    )
}
DEAD = {
    "random_state": "random numbers follow manual_seed.",
    "blur": "only versions before 1.3 read it.",
    "sigma": "only ElasticDeformation and GaussianBlur3D have a width.",
    "axis": "no version since 1.3 reads it.",
}
"""Keys that the original has or had but does not read, and what to do instead."""


class Lists(NamedTuple):
    """The transforms of a phase."""

    raw: tuple[Transform, ...] = ()
    label: tuple[Transform, ...] = ()
    weight: tuple[Transform, ...] = ()


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
        >>> turn, bend = RandomRotate(name="RandomRotate"), ElasticDeformation(name="ElasticDeformation", spline_order=3)
        >>> spline_order([turn, bend], 1), spline_order([turn], 1), spline_order([turn], 0)
        (3, 1, 0)
    """
    # RandomRotate and ElasticDeformation name their order differently
    orders = [getattr(transform, "order", getattr(transform, "spline_order", None)) for transform in transforms]
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
            remedy = did_you_mean(str(name), list(TRANSFORMS)).strip()
            raise UnknownNameError("transform.unknown", f"must be one of {', '.join(TRANSFORMS)}", key="name", value=name, remedy=remedy)
    return tuple(parsed(entry) for entry in entries)
