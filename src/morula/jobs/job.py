"""The job: everything that a run needs to know, as one frozen, strict model with typed sections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from morula.core.errors import OptionError
from morula.core.fraction import fraction
from morula.core.options import Options
from morula.core.variants import OneOf
from morula.core.voxel_size import VoxelSize
from morula.data.options import Augment, Sampling
from morula.inference.options import Prediction
from morula.labels.pseudo_labels import Pseudo
from morula.methods import METHODS
from morula.methods.object_options import ObjectOptions
from morula.methods.options import MethodOptions
from morula.nn import NETWORKS
from morula.nn.options import NetworkOptions, UNetOptions
from morula.training.options import Training


class Source(Options):
    """Images and their labels."""

    raw: str | tuple[str, ...]
    """A folder, a file or a pattern such as `data/*.tif`, or a list of them; relative to the job file."""
    labels: str | tuple[str, ...] | None = None
    """Label images of the same names, as a folder, a file, a pattern or a list of them. If they have two channels, the second is the class
    of each object."""
    classes: str | None = None
    """Class images of the same names: in each object the number of its class."""
    mask: str | None = None
    """Masks of the same names for partially annotated images: where a mask is 0, nothing is learned or scored."""
    weights: str | tuple[str, ...] | None = None
    """Images of the same names that say how much each voxel counts in the loss: 1 as usual, 0 not at all."""
    axes: str | None = None
    """Axes of these files, where they are not those of `images.axes`."""
    pseudo: Pseudo | None = None
    """Instead of labels, in a job of several stages: learn from the confident results of the previous stage in these images; `{}` for
    defaults."""

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        surplus = [name for name in ("classes", "mask", "weights") if getattr(self, name) is not None]
        if surplus and self.labels is None:
            raise OptionError("images.labels_missing", f"{surplus[0]} is given without labels", key=surplus[0], remedy="Give labels too.")
        if self.pseudo is not None and self.labels is not None:
            raise OptionError("images.labels_and_pseudo", "pseudo and labels are both given", key="pseudo", remedy="Give one of the two.")
        return self


def _share_as_number(value: object) -> object:
    """A share as a number; anything else is returned as it is."""
    return fraction(value) if isinstance(value, str | float | int) and not isinstance(value, bool) else value


ShareOrSource = Annotated[Source | float, BeforeValidator(_share_as_number, json_schema_input_type=Source | float | str)]
"""A share of the training images, also written as a percentage, or images of their own."""


class Images(Options):
    """The images of a job."""

    earlier_names: ClassVar[Mapping[str, str]] = {"unlabelled": "ignore_label"}

    train: Source | None = None
    """Images with labels to learn from."""
    validate_: Annotated[ShareOrSource | None, BeforeValidator(_share_as_number, json_schema_input_type=ShareOrSource | str | None)] = (
        Field(
            default=0.1,
            alias="validate",
            description="Images to choose the best epoch by: a share of the training images (`10%` or 0.1; of the volume if there is only "
            "one; of an image above 16.8 million voxels the part with the most labels), or a source.",
        )
    )
    test: Source | None = None
    """Images to predict; scored where labels are given."""
    ignore_label: int | None = Field(default=None, ge=1, le=2**32 - 1)
    """Value of unannotated voxels in the label images, for example 255: they are never background, and nothing is learned or scored
    there."""
    components: bool = False
    """Whether the label images are masks, for example with values 0 and 255: each connected component becomes an object."""
    voxel_size: dict[str, float | str] | Literal["auto"] = "auto"
    """Edge lengths `{z, y, x, unit}`; `auto` reads them from the files."""
    diameter: Annotated[float, Field(gt=0)] | Literal["auto"] | None = "auto"
    """Diameter of the objects in voxels, for a training that starts from a model for objects of one size, such as a bundled one
    (`network.from`): images are rescaled to the size of that model's objects, results have the size of the images. `auto` measures the
    labels, and estimates it in test images; with `none`, images keep their own scale."""
    axes: str | None = None
    """Axes of the files where their metadata do not state them, for example `ZYX` or `YXC`."""
    channel: int | None = Field(default=None, ge=0)
    """Use only this channel of the images, counted from 0."""
    dataset: str | None = None
    """Name of the data set in the image files (HDF5, Zarr), or of the image in files of several (LIF)."""
    scene: int | None = Field(default=None, ge=0)
    """Number of the image in files of several (TIFF, CZI, LIF, ND2), counted from 0."""
    time: int | None = Field(default=None, ge=0)
    """Use only this time point of images and labels, counted from 0. Left out: each time point of a series is an image."""
    level: int = 0
    """Level of the pyramid of the images (slides, OME-Zarr, CZI): 0 is the finest, -1 the coarsest."""
    missing: Literal["error", "zeros"] = "error"
    """What becomes of planes, strips and chunks that a file declares but does not contain: an `error`, or `zeros` with a warning."""

    def of(self, source: Source | None) -> Images:
        """How the files of a source are read: with its own axes where it states them."""
        return self if source is None or source.axes is None else self.model_copy(update={"axes": source.axes})

    @property
    def name_inside(self) -> str | None:
        """Name or number of the image in files of several."""
        return self.dataset if self.scene is None else str(self.scene)

    @model_validator(mode="after")
    def _one_name(self) -> Images:
        if self.dataset is not None and self.scene is not None:
            rule = "is given together with dataset, which also names an image in the file"
            raise OptionError("reading.scene_and_dataset", rule, key="scene", value=self.scene, remedy="Give one of the two.")
        return self

    @model_validator(mode="after")
    def _no_value_for_unannotated(self) -> Images:
        if self.components and self.ignore_label is not None:
            rule = "has no meaning for masks, whose components get new ids (images.components: true)"
            remedy = "Mark unannotated voxels in mask images (images.train.mask)."
            raise OptionError("images.components_and_ignore", rule, key="ignore_label", value=self.ignore_label, remedy=remedy)
        return self

    @model_validator(mode="after")
    def _no_weights_to_predict(self) -> Images:
        if self.test is not None and self.test.weights is not None:
            rule, remedy = "has no effect: nothing is learned from these images", "Leave it out, or state a mask of what is scored."
            raise OptionError("images.test_weights", rule, key="test.weights", remedy=remedy)
        return self

    @field_validator("voxel_size")
    @classmethod
    def _lengths(cls, value: dict[str, float | str] | Literal["auto"]) -> dict[str, float | str] | Literal["auto"]:
        return value if value == "auto" else VoxelSize.of(value, 3 if "z" in value else 2).asdict()


class Job(Options):
    """A job. Every key but `images` and `method` has a planned or documented default."""

    model_config = ConfigDict(defer_build=True)  # the unions of the families import all of their members

    _notes: tuple[str, ...] = PrivateAttr(())

    images: Images
    """The images, their labels and their voxel size."""
    method: Annotated[MethodOptions, OneOf(METHODS)]
    """The method, with its options."""
    network: Annotated[NetworkOptions, OneOf(NETWORKS, default="unet")] = UNetOptions()
    """The network."""
    sampling: Sampling = Sampling()
    """Patches and their normalisation."""
    augment: Augment = None
    """Augmentations, in this order; left out or `auto`: planned; `none`: no augmentation."""
    training: Training = Training()
    """The training loop."""
    prediction: Prediction = Prediction()
    """How whole images are predicted."""
    objects: ObjectOptions = Field(default_factory=lambda: ObjectOptions())
    """From predicted channels to objects."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the job's text, for example keys that were renamed."""
        return self._notes

    def with_notes(self, notes: Iterable[str]) -> Job:
        """The same job with further notes."""
        job = self.model_copy()  # jobs are frozen and may be shared
        job._notes = (*self._notes, *notes)
        return job
