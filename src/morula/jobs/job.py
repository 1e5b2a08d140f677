"""The job: everything that a run needs to know, as one frozen, strict model built from the families."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, create_model, field_validator, model_validator

from morula.core.options import Options
from morula.core.variants import expand_variant, many_of, one_of
from morula.inference.median import Options as Median
from morula.labels.pseudo_labels import Pseudo


class Source(Options):
    """Where images lie, and their labels."""

    raw: str
    """A folder, a file or a pattern such as `data/*.tif`; relative to the job file."""
    labels: str | None = None
    """Label images of the same names, as a folder, a file or a pattern. Of two channels the second is the class of each object."""
    classes: str | None = None
    """Class images of the same names: in each object the number of its class."""
    mask: str | None = None
    """Masks of the same names for labels that cover a part: where a mask is 0 nobody has looked, and nothing is learned or scored."""
    pseudo: Pseudo | None = None
    """Instead of labels, in a job of several stages: learn from what the stage before is sure of in these images; `{}` for defaults."""

    @model_validator(mode="after")
    def _with_labels(self) -> Source:
        surplus = [name for name in ("classes", "mask") if getattr(self, name) is not None]
        if surplus and self.labels is None:
            raise ValueError(f"{surplus[0]} is given without labels; state labels too")
        if self.pseudo is not None and self.labels is not None:
            raise ValueError("pseudo is given besides labels; state one of the two")
        return self


class Images(Options):
    """The images of a job."""

    train: Source | None = None
    """Images with labels to learn from."""
    validate_: Source | float | str | None = Field(
        default="10%",
        alias="validate",
        description="Images to choose the best epoch by: a share of the training images (`10%` or 0.1; of the volume where there is one), "
        "or a source.",
    )
    test: Source | None = None
    """Images to predict; scored where labels are given."""
    unlabelled: int | None = Field(default=None, ge=1, le=2**32 - 1)
    """Value in the label images of voxels that nobody has looked at, for example 255: they are never background, and nothing is learned
    or scored there."""
    voxel_size: dict[str, float | str] | Literal["auto"] = "auto"
    """Edge lengths `{z, y, x, unit}`; `auto` takes them from the files."""
    axes: str | None = None
    """Axes of the files where they do not tell, for example `ZYX` or `YXC`."""

    @field_validator("validate_")
    @classmethod
    def _share(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, Source) else share(value)

    @field_validator("voxel_size")
    @classmethod
    def _lengths(cls, value: Any) -> Any:
        from morula.core.voxel_size import VoxelSize

        return value if value == "auto" else VoxelSize.of(value, 3 if "z" in value else 2).asdict()


def share(value: float | str) -> float:
    """A share between 0 and 1, from ``0.1`` or ``"10%"``.

    Examples:
        >>> share("25%"), share(0.1)
        (0.25, 0.1)
    """
    try:
        number = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no share; write a percentage such as '10%' or a number between 0 and 1") from None
    if not 0 <= number < 1:
        raise ValueError(f"{value!r} is not between 0 and 100 %")
    return number


class Prediction(Options):
    """How whole images are predicted."""

    overlap: float | str = "25%"
    """Share of a tile that overlaps its neighbour where tiles are blended."""
    tile: tuple[PositiveInt, ...] | None = None
    """Edge lengths (Z)YX of the tiles in voxels, rounded up to what the network can pool. Left out: the training patch where the network
    normalises over space, else as large as the memory allows."""
    augment: Literal["none", "flips", "all"] = "none"
    """Average the predictions over the image's flips, or flips and quarter turns."""
    memory: str | None = None
    """Memory that tiles may take, for example `8GB`; most of what is free when left out."""
    median: tuple[Median, ...] = ()
    """Median filters of the predicted channels, in this order: `[{axes: z, size: 5}]` takes out what single planes have alone."""
    save_channels: bool = False
    """Write the predicted channels to `predictions/` too."""
    backend: Literal["torch", "openvino"] = "torch"
    """What computes the network; `openvino` is faster on some CPUs and needs `pip install 'morula[openvino]'`."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network. The shorter numbers are several times as fast on GPUs and on CPUs that multiply them in hardware, and
    change predictions by some hundredths (bf16) or thousandths (fp16); `openvino` knows `fp32` and `fp16`, encoders always in `fp32`."""

    @model_validator(mode="after")
    def _known(self) -> Prediction:
        if (self.backend, self.precision) == ("openvino", "bf16"):
            raise ValueError("backend openvino does not compute in bf16. Write precision: fp16, which is as fast and more exact, or fp32.")
        return self

    @field_validator("overlap")
    @classmethod
    def _share(cls, value: Any) -> Any:
        if share(value) > 0.5:
            raise ValueError(f"{value!r} is more than half a tile; use at most '50%'")
        return share(value)


class Measurement(Options):
    """What is measured on each object."""

    intensity: bool = True
    """Mean, minimum, maximum and standard deviation of the raw image in each object."""
    statistics: bool = False
    """Write `NAME_statistics.csv` too: the columns of CellSeg3D's statistics, with physical units."""
    extra: tuple[str, ...] = ()
    """Further columns: names of scikit-image's region properties that are numbers, for example `solidity`; slow."""

    @field_validator("extra")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value:  # scikit-image is slow to import
            from morula.measurement.measure import check_extra

            check_extra(value)
        return value


class Tuning(Options):
    """How thresholds and operations on objects are searched for."""

    metric: str | None = None
    """Figure to raise: `f1` or `panoptic_quality` for objects, `iou` or `dice` for classes; the first of them where left out."""
    thresholds: tuple[float, ...] | None = Field(default=None, min_length=1)
    """The figure's mean over these thresholds of the intersection over union; those of the method where left out."""


class Tuned(Options):
    """What the search found: the values before and after by dotted key, and the figure on the validation images."""

    metric: str
    """Figure that was raised."""
    thresholds: tuple[float, ...] = ()
    """Thresholds of the intersection over union that it is the mean over."""
    images: int
    """Number of validation images."""
    trials: int
    """Settings that were tried."""
    score_before: float
    """The figure with the values before."""
    score_after: float
    """The figure with the values after, which the job holds now."""
    before: dict[str, Any] = Field({})
    """Values that were replaced."""
    after: dict[str, Any] = Field({})
    """Values that replaced them."""


def _auto_or_none(value: Any) -> Any:
    """The two words that stand for a list of augmentations."""
    return {"auto": None, "none": ()}.get(value, value) if isinstance(value, str) else value


@cache
def job_model() -> type[Options]:
    """The job's class, built from the families when first asked for."""
    from morula.data.augment import AUGMENTATIONS
    from morula.methods import METHODS
    from morula.nn import NETWORKS
    from morula.training.options import Training

    augment: Any = Annotated[many_of(AUGMENTATIONS) | None, BeforeValidator(_auto_or_none)]
    return create_model(
        "Job",
        __base__=Options,
        __doc__="A job. Every line but `images` and `method` has a planned or documented default.",
        images=(Images, Field(description="The images, their labels and their voxel size.")),
        method=(one_of(METHODS), Field(description="The way of working, with its options.")),
        network=(one_of(NETWORKS, default="unet"), Field({"kind": "unet"}, description="The network.")),
        sampling=(_sampling_model(), Field({}, description="Patches and their normalisation.")),
        augment=(
            augment,
            Field(None, description="Augmentations, in this order; left out or `auto`: planned; `none`: no augmentation."),
        ),
        training=(Training, Field({}, description="The training loop.")),
        prediction=(Prediction, Field({}, description="How whole images are predicted.")),
        objects=(_objects_model(), Field({}, description="From predicted channels to objects.")),
    )


def _objects_model() -> Any:
    """The class of the section `objects`."""
    from morula.decoders import DECODERS
    from morula.labels.refine import REFINEMENTS
    from morula.measurement.filter import AnyOfAll

    process: Any = one_of(DECODERS, default="watershed") | None
    return create_model(
        "Objects",
        __base__=Options,
        __doc__="How objects are made of predicted channels, refined and measured.",
        process=(process, Field(None, description="Decoder; left out: the one that fits the channels.")),
        refine=(many_of(REFINEMENTS), Field((), description="Operations on the objects, in this order.")),
        measure=(Measurement, Field(Measurement(), description="What is measured on each object.")),
        tune=(
            bool | Tuning,
            Field(False, description="After training, search thresholds and operations on the validation images: true, or how."),
        ),
        tuned=(Tuned | None, Field(None, description="What the search found. `morula tune` writes it into the run's `job.yaml`.")),
        filter=(
            AnyOfAll,
            Field(
                (),
                description="Objects to remove, by what was measured: lists of conditions such as `[[area > 500], [npixels < 100, "
                "circularity <= 0.7]]`; an object goes when it satisfies all conditions of one of the lists.",
            ),
        ),
        colour=(
            tuple[Annotated[float, Field(gt=0, le=1)], ...],
            Field(
                (),
                description="Intersections over union at which evaluation writes an image with found objects green, missed ones red and "
                "false ones blue, to `associations/`.",
            ),
        ),
        intermediates=(
            bool,
            Field(False, description="Write what the decoder looked at (seeds, surface, growth mask) to `objects/intermediates/`."),
        ),
    )


def _sampling_model() -> Any:
    """The class of the section `sampling`."""
    from morula.data.normalise import Options as Normalise
    from morula.data.sampling import Options as Sampling

    patch: Any = tuple[int, ...] | Literal["whole"] | None
    batch: Any = int | None
    normalise: Any = Annotated[Normalise, BeforeValidator(lambda value: expand_variant(value, {}, "percentile"))]
    return create_model(
        "Sampling",
        __base__=Sampling,
        __doc__=Sampling.__doc__,
        patch=(
            patch,
            Field(None, description="Edge lengths (Z)YX of the patches in voxels, or `whole` for images as wholes; left out: planned."),
        ),
        batch=(batch, Field(None, ge=1, description="Patches in a step; left out: planned.")),
        normalise=(
            normalise,
            Field({"kind": "percentile"}, description="How intensities are brought to one scale; stored with the model."),
        ),
    )
