"""What a job file may say under `objects:`. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field, field_validator

from morula.core.options import Options
from morula.core.variants import ManyOf, OneOf
from morula.decoders import DECODERS
from morula.decoders.options import DecoderOptions
from morula.labels.refine import REFINEMENTS, RefinementOptions
from morula.measurement.calibration import Calibration
from morula.measurement.conditions import AnyOfAll
from morula.measurement.measure import check_extra

Export: TypeAlias = Literal["rois", "geojson", "coco", "preview", "parquet"]
EXPORTS: dict[Export, str] = {
    "rois": "_rois.zip",
    "geojson": ".geojson",
    "coco": "_coco.json",
    "preview": "_preview.tif",
    "parquet": ".parquet",
}
"""Results for other programs, and the ends of the names of their files."""


class Measurement(Options):
    """Properties that are measured on each object."""

    intensity: bool = True
    """Mean, minimum, maximum and standard deviation of the raw image in each object."""
    statistics: bool = False
    """Write `NAME_statistics.csv` too: the columns of CellSeg3D's statistics, with physical units."""
    extra: tuple[str, ...] = ()
    """Further columns: names of scikit-image's region properties that are numbers, for example `solidity`; slow."""

    surface: Literal["crofton", "mesh"] = "crofton"
    """Surface area in 3D and perimeter in 2D: `crofton`, without bias for smooth objects, or `mesh`, the area of the triangulated surface,
    which is 9 % too large for a ball, and the length along the border pixels, which is 5 % too long for a disc. `sphericity`, `circularity`
    and `elongation` follow from them."""

    @field_validator("extra")
    @classmethod
    def _known_properties(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:  # the list of properties needs scikit-image, which is slow to import
            check_extra(value)
        return value


class Tuning(Options):
    """How thresholds and operations on objects are searched for."""

    metric: str | None = None
    """Score to maximise: `f1` or `panoptic_quality` for objects, `iou` or `dice` for classes; the first of them where left out."""
    thresholds: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(default=None, min_length=1)
    """Average the score over these thresholds of the intersection over union; those of the method where left out."""


class Tuned(Options):
    """Result of the search: the values before and after by dotted key, and the score on the validation images."""

    metric: str
    """Score that was maximised."""
    thresholds: tuple[float, ...] = ()
    """Thresholds of the intersection over union that the score is averaged over."""
    images: int
    """Number of validation images."""
    trials: int
    """Settings that were tried."""
    score_before: float
    """Score with the values before."""
    score_after: float
    """Score with the values after, which the job holds now."""
    before: dict[str, Any] = Field({})
    """Values that were replaced."""
    after: dict[str, Any] = Field({})
    """Values that replaced them."""


class ObjectOptions(Options):
    """How objects are made of predicted channels, refined and measured."""

    earlier_names: ClassVar[Mapping[str, str]] = {"process": "decoder"}

    model_config = ConfigDict(defer_build=True)  # the unions of decoders and operations import all of them

    decoder: Annotated[DecoderOptions, OneOf(DECODERS, default="watershed")] | None = None
    """Decoder; left out: the one that fits the channels."""
    refine: Annotated[tuple[RefinementOptions, ...], ManyOf(REFINEMENTS)] = ()
    """Operations on the objects, in this order."""
    measure: Measurement = Measurement()
    """Properties that are measured on each object."""
    tune: bool | Tuning = False
    """After training, search thresholds and operations on the validation images: true, or how."""
    tuned: Tuned | None = None
    """Result of the search. `morula tune` writes it into the run's `job.yaml`."""
    calibrate: bool = True
    """After training, learn from the objects of labelled validation images how often objects like them are right, so that `confidence` is
    the probability that an object matches a true one. It needs a prediction of these images."""
    calibration: Calibration | None = None
    """What was learned. `morula train` and `morula tune` write it into the run's `job.yaml`."""
    filter: AnyOfAll = ()
    """Objects to remove, by measured properties: lists of conditions such as `[[area > 500], [npixels < 100, circularity <= 0.7]]`; an
    object is removed when it satisfies all conditions of one of the lists."""
    colour: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Intersections over union at which evaluation writes an image with found objects green, missed ones red and false ones blue, to
    `associations/`."""
    export: tuple[Export, ...] = ()
    """Results for other programs, beside the label images: `rois` (ImageJ), `geojson` (QuPath, with the measurements), `coco` (2D),
    `preview` (a picture with one colour per object) and `parquet` (the table; extra: parquet)."""
    intermediates: bool = False
    """Write the intermediate results of the decoder (seeds, surface, growth mask) to `objects/intermediates/`. `morula segment`
    then also writes the labels before refinement and filter, to `before/`."""
