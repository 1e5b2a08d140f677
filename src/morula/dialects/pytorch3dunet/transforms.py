"""The transforms of pytorch-3dunet by the names that its job files give them: what may stand beside each name. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import Field, PositiveInt, field_validator, model_validator

from morula.core.errors import OptionError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.options import Options

Pair: TypeAlias = tuple[float, float]
Plane: TypeAlias = tuple[Annotated[int, Field(ge=0, le=2)], Annotated[int, Field(ge=0, le=2)]]
Chance = Annotated[float, Field(ge=0, le=1)]
Offsets: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class Transform(Options):
    """What stands beside the name of a transform."""

    name: str
    """Name of the transform."""


class Standardize(Transform):
    """Mean 0 and standard deviation 1."""

    eps: float = 1e-10
    """Least standard deviation."""
    mean: float | None = None
    """Mean, instead of the patch's."""
    std: float | None = None
    """Standard deviation, instead of the patch's."""
    channelwise: bool = False
    """Each channel by itself."""

    @model_validator(mode="after")
    def _both(self) -> Standardize:
        if (self.mean is None) != (self.std is None):
            raise OptionError("transform.mean_and_std", "mean and std belong together", remedy="Give both or none.")
        return self


class PercentileNormalizer(Transform):
    """Two percentiles become 0 and 1."""

    pmin: float = Field(1.0, ge=0, le=100)
    """Percentile that becomes 0."""
    pmax: float = Field(99.6, ge=0, le=100)
    """Percentile that becomes 1."""
    channelwise: bool = False
    """Each channel by itself."""
    eps: float = 1e-10
    """Added to the distance of both."""

    @model_validator(mode="after")
    def _ordered(self) -> PercentileNormalizer:
        if self.pmin >= self.pmax:
            raise OptionError("transform.percentiles", f"pmin is {self.pmin:g} and pmax {self.pmax:g}. pmin must be the lower one")
        return self


class Normalize(Transform):
    """The least value becomes -1, the greatest 1."""

    min_value: float | None = None
    """Least value, instead of the patch's."""
    max_value: float | None = None
    """Greatest value, instead of the patch's."""
    norm01: bool = False
    """0 to 1 instead of -1 to 1."""
    eps: float = 1e-10
    """Added to the distance of both."""

    @model_validator(mode="after")
    def _ordered(self) -> Normalize:
        if self.min_value is not None and self.max_value is not None and self.min_value >= self.max_value:
            raise OptionError(
                "transform.limits", f"min_value is {self.min_value:g} and max_value {self.max_value:g}. min_value must be the lower one"
            )
        return self


class RandomFlip(Transform):
    """Mirrors axes."""

    axis_prob: Chance = 0.5
    """Chance of each axis to stay as it is."""


class RandomRotate90(Transform):
    """Quarter turns about z."""


class RandomRotate(Transform):
    """Turns by any angle."""

    angle_spectrum: float = Field(30, gt=0, le=180)
    """Largest angle in degrees, in both directions."""
    axes: tuple[Plane, ...] = Field(((1, 0), (2, 1), (2, 0)), min_length=1)
    """Planes, of which one is drawn."""
    mode: str = "reflect"
    """What lies beyond the volume; its mirror image here, whatever is written."""
    order: int | None = Field(None, ge=0, le=5)
    """Interpolation: 0 takes the nearest voxel, 1 is linear, from 2 on splines; left out, the nearest for labels, linear for others."""

    @field_validator("axes")
    @classmethod
    def _planes(cls, axes: tuple[Plane, ...]) -> tuple[Plane, ...]:
        if any(a == b for a, b in axes):
            raise OptionError("transform.axes", "a plane has two different axes (0 is z, 1 is y, 2 is x), for example [2, 1]")
        return axes


class RandomContrast(Transform):
    """Stretches about a value, and cuts to -1 ... 1."""

    alpha: Pair = (0.5, 1.5)
    """Least and greatest factor."""
    mean: float = 0.0
    """Value that stays."""
    execution_probability: Chance = 0.1
    """Share of the patches that it happens to."""


class RandomGammaCorrection(Transform):
    """Scales to 0 ... 1 and raises to a power."""

    gamma: Pair = (0.5, 1.5)
    """Least and greatest exponent."""
    execution_probability: Chance = 0.1
    """Share of the patches that it happens to."""


class ElasticDeformation(Transform):
    """Smooth random deformation."""

    spline_order: int = Field(ge=0, le=5)
    """Interpolation: 0 takes the nearest voxel (for labels), 1 is linear, from 2 on splines."""
    alpha: float = Field(2000, ge=0)
    """Factor of the smoothed noise that is the displacement."""
    sigma: float = Field(50, gt=0)
    """Standard deviation of the Gaussian that smooths it, in voxels."""
    execution_probability: Chance = 0.1
    """Share of the patches that it happens to."""
    apply_3d: bool = True
    """Whether voxels move along z too."""


class CropToFixed(Transform):
    """Cuts a piece of a fixed size out of each plane, or mirrors it up to that size."""

    size: tuple[PositiveInt, PositiveInt] = (256, 256)
    """Edges (y, x)."""
    centered: bool = False
    """From the middle instead of anywhere."""


class GaussianBlur3D(Transform):
    """Gaussian blur."""

    sigma: Pair = (0.1, 2.0)
    """Least and greatest standard deviation, in voxels."""
    execution_probability: Chance = 0.5
    """Share of the patches that it happens to."""


class AdditiveGaussianNoise(Transform):
    """Adds normally distributed noise."""

    scale: Pair = (0.0, 1.0)
    """Least and greatest standard deviation."""
    execution_probability: Chance = 0.1
    """Share of the patches that it happens to."""


class AdditivePoissonNoise(Transform):
    """Adds Poisson distributed noise."""

    lam: Pair = (0.0, 1.0)
    """Least and greatest mean."""
    execution_probability: Chance = 0.1
    """Share of the patches that it happens to."""


class StandardLabelToBoundary(Transform):
    """Boundaries of objects."""

    ignore_index: int | None = None
    """Label that is put back where it was."""
    append_label: bool = False
    """Add the labels as the last channel."""
    mode: Literal["thick", "inner", "outer"] = "thick"
    """On which side of objects."""
    foreground: bool = False
    """Add the mask of objects as the first channel."""


class BlobsToMask(Transform):
    """Mask of objects."""

    append_label: bool = False
    """Add the labels as the last channel."""
    boundary: bool = False
    """Add the outer boundary as a further channel."""
    cross_entropy: bool = False
    """The boundary is class 2 of one channel instead."""


class LabelToAffinities(Transform):
    """Where ids differ over distances, along x, y and z."""

    offsets: Offsets
    """Distances along x and y."""
    z_offsets: Offsets | None = None
    """Distances along z; those of x and y when left out."""
    ignore_index: int | None = None
    """Label that is put back where it was."""
    append_label: bool = False
    """Add the labels as the last channel."""
    aggregate_affinities: bool = False
    """One channel a distance, of all axes together."""

    @model_validator(mode="after")
    def _as_many(self) -> LabelToAffinities:
        if self.z_offsets is not None and len(self.z_offsets) != len(self.offsets):
            raise OptionError(
                "transform.offsets",
                f"{len(self.offsets)} offsets and {len(self.z_offsets)} z_offsets were given",
                remedy="Give as many of both.",
            )
        if len(set(self.offsets)) != len(self.offsets):
            raise OptionError("transform.offsets", "offsets must be different from each other")
        return self


class LabelToZAffinities(Transform):
    """Where ids differ over distances along z."""

    offsets: Offsets
    """Distances."""
    ignore_index: int | None = None
    """Label that is put back where it was."""
    append_label: bool = False
    """Add the labels as the last channel."""


class RandomLabelToAffinities(Transform):
    """Where ids differ over a random distance along a random axis."""

    max_offset: PositiveInt = 10
    """Greatest distance."""
    ignore_index: int | None = None
    """Label that is put back where it was."""
    append_label: bool = False
    """Add the labels as the last channel."""
    z_offset_scale: PositiveInt = 2
    """Divisor of distances along z."""


class LabelToBoundaryAndAffinities(Transform):
    """Boundaries, then affinities."""

    xy_offsets: Offsets
    """Distances along x and y."""
    z_offsets: Offsets
    """Distances along z, as many."""
    append_label: bool = False
    """Add the labels as the last channel."""
    ignore_index: int | None = None
    """Label that is put back where it was."""
    mode: Literal["thick", "inner", "outer"] = "thick"
    """On which side of objects boundaries lie."""
    foreground: bool = False
    """Add the mask of objects as the first channel."""


class LabelToMaskAndAffinities(Transform):
    """Mask of objects, then affinities."""

    xy_offsets: Offsets
    """Distances along x and y."""
    z_offsets: Offsets
    """Distances along z, as many."""
    append_label: bool = False
    """Add the labels as the last channel."""
    background: int = 0
    """Label up to which a voxel belongs to no object."""
    ignore_index: int | None = None
    """Label that is put back where it was in the affinities."""


class Relabel(Transform):
    """Consecutive ids."""

    append_original: bool = False
    """Add the labels as they were as the last channel."""
    run_cc: bool = True
    """Number connected parts instead of ids."""
    ignore_label: int | None = None
    """Label that becomes 0; needs append_original."""

    @model_validator(mode="after")
    def _found_again(self) -> Relabel:
        if self.ignore_label is not None and not self.append_original:
            raise OptionError(
                "transform.relabel", "ignore_label needs append_original: true, for otherwise its voxels cannot be told from others"
            )
        return self


class ToTensor(Transform):
    """The type of the values, and the channel axis."""

    expand_dims: bool = True
    """Add a channel axis where there is none."""
    dtype: Literal["float32", "float64", "float", "int64", "int32", "long", "int", "uint8"] = "float32"
    """Type of the values."""
    normalize: bool = False
    """Scale to 0 ... 1."""


class Identity(Transform):
    """Nothing."""


class RgbToLabel(Transform):
    """Ids out of three colour channels."""


class LabelToTensor(Transform):
    """Whole numbers of 64 bits."""


Role = Literal["spatial", "crop", "values", "labels"]


class Kind(NamedTuple):
    """Options of a transform, and what it acts on."""

    options: type[Transform]
    role: Role


TRANSFORMS: dict[str, Kind] = {
    **{
        kind.__name__: Kind(kind, "values")
        for kind in (
            *(Standardize, PercentileNormalizer, Normalize, RandomContrast, RandomGammaCorrection, GaussianBlur3D),
            *(AdditiveGaussianNoise, AdditivePoissonNoise, ToTensor, Identity),
        )
    },
    **{kind.__name__: Kind(kind, "spatial") for kind in (RandomFlip, RandomRotate90, RandomRotate, ElasticDeformation)},
    "CropToFixed": Kind(CropToFixed, "crop"),
    **{
        kind.__name__: Kind(kind, "labels")
        for kind in (
            *(StandardLabelToBoundary, BlobsToMask, LabelToAffinities, LabelToZAffinities, RandomLabelToAffinities),
            *(LabelToBoundaryAndAffinities, LabelToMaskAndAffinities, Relabel, RgbToLabel, LabelToTensor),
        )
    },
}
DEAD = {
    "random_state": "what is random follows manual_seed.",
    "blur": "only versions before 1.3 knew it.",
    "sigma": "only ElasticDeformation and GaussianBlur3D have a width.",
    "axis": "no version since 1.3 knows it.",
}


class Lists(NamedTuple):
    """The transforms of a phase."""

    raw: tuple[Transform, ...] = ()
    label: tuple[Transform, ...] = ()
    weight: tuple[Transform, ...] = ()


def differences(lists: Lists) -> list[str]:
    """What moves raw data otherwise than labels or weights; everything moves as the raw data do."""
    said = []
    own = _moves(lists.raw)
    for name, transforms in (("label", lists.label), ("weight", lists.weight)):
        if transforms and _moves(transforms) != own:
            said.append(
                f"the list {name} moves patches by {_named(_moves(transforms))}, the list raw by {_named(own)}; the {name} is moved as the "
                "raw data are. Write the same in both."
            )
    return said


def _moves(transforms: Sequence[Transform]) -> list[dict[str, Any]]:
    without = {"order", "spline_order", "mode"}
    return [each.model_dump(exclude=without) for each in transforms if TRANSFORMS[each.name].role in ("spatial", "crop")]


def _named(moves: Sequence[Mapping[str, Any]]) -> str:
    return (
        ", ".join(
            f"{each['name']} { ({key: value for key, value in each.items() if key != 'name'}) }".removesuffix(" {}") for each in moves
        )
        or "nothing"
    )


def spline_order(transforms: Sequence[Transform], default: int) -> int:
    """The order of interpolation: the highest that stands in the list, as all moves together are interpolated once.

    Examples:
        >>> turn, bend = RandomRotate(name="RandomRotate"), ElasticDeformation(name="ElasticDeformation", spline_order=3)
        >>> spline_order([turn, bend], 1), spline_order([turn], 1), spline_order([turn], 0)
        (3, 1, 0)
    """
    orders = [getattr(each, "order", getattr(each, "spline_order", None)) for each in transforms]
    return max((order for order in orders if order is not None), default=default)


def parsed(entry: Mapping[str, Any]) -> Transform:
    """The options of an entry of a list; keys that nothing reads are left out."""
    kind = TRANSFORMS[str(entry["name"])].options
    return kind.model_validate({key: value for key, value in entry.items() if key in kind.model_fields})


def parse(entries: Sequence[Mapping[str, Any]]) -> tuple[Transform, ...]:
    """The options of all entries of a list.

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
