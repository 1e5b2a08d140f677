"""The section ``loaders`` of a job file of pytorch-3dunet. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from morula.core.errors import OptionError
from morula.core.options import Options

Edges: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]
Names: TypeAlias = str | tuple[str, ...]


class SliceBuilderOptions(Options):
    """Positions of the patches."""

    name: Literal["SliceBuilder", "FilterSliceBuilder"] = "SliceBuilder"
    """`SliceBuilder` takes all patches; `FilterSliceBuilder` only those with enough labels."""
    patch_shape: Edges
    """Edges of a patch (z, y, x) in voxels."""
    stride_shape: Edges
    """Distance between neighbouring patches (z, y, x) in voxels."""
    skip_shape_check: bool = False
    """Allow patches of fewer than 64 voxels along y or x."""
    halo_shape: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = (0, 0, 0)
    """Voxels around each patch that are input of the network as well (prediction only)."""
    threshold: float = Field(0.6, ge=0, le=1)
    """Share of labelled voxels above which `FilterSliceBuilder` keeps a patch."""
    slack_acceptance: float = Field(0.01, ge=0, le=1)
    """Probability that it keeps any other patch."""
    ignore_index: int | None = None
    """Label whose voxels count as unlabelled."""

    @model_validator(mode="after")
    def _not_tiny(self) -> SliceBuilderOptions:
        if not self.skip_shape_check and min(self.patch_shape[1:]) < 64:
            raise OptionError(
                "patch.too_small",
                f"patch_shape must be at least 64 voxels along y and x, but is {list(self.patch_shape)}",
                remedy="Enlarge the patch, or write skip_shape_check: true.",
            )
        return self


class TransformerOptions(Options):
    """Transforms of each patch, in order."""

    raw: tuple[Mapping[str, Any], ...] = ()
    """Transforms of the raw data."""
    label: tuple[Mapping[str, Any], ...] = ()
    """Transforms of the labels."""
    weight: tuple[Mapping[str, Any], ...] = ()
    """Transforms of the weights of the voxels."""


class FileOptions(Options):
    """One image in several files (not in the original)."""

    raw: str
    """File of the raw data."""
    label: str | None = None
    """File of the labels."""
    weight: str | None = None
    """File of the weights of the voxels."""


class PhaseOptions(Options):
    """The sections ``loaders.train``, ``loaders.val`` and ``loaders.test``."""

    file_paths: tuple[str | FileOptions, ...] = Field(min_length=1)
    """Files, and folders, of which all files are used."""
    slice_builder: SliceBuilderOptions | None = None
    """Positions of the patches; `DSB2018Dataset` uses whole images instead."""
    transformer: TransformerOptions = TransformerOptions()
    """Transforms of each patch."""

    @field_validator("file_paths", mode="before")
    @classmethod
    def _several(cls, paths: Any) -> Any:
        return (paths,) if isinstance(paths, str | Mapping) else paths


class LoadersOptions(Options):
    """Files, patches and transforms."""

    dataset: Literal["StandardHDF5Dataset", "LazyHDF5Dataset", "DSB2018Dataset"] = "StandardHDF5Dataset"
    """Volumes in memory, volumes that are read patch by patch, or images in the folders ``images`` and ``masks``."""
    batch_size: PositiveInt = 1
    """Patches per step and device."""
    num_workers: NonNegativeInt = 1
    """Processes that prepare patches."""
    raw_internal_path: Names = "raw"
    """Data set of the raw data; several are used as channels."""
    label_internal_path: Names = "label"
    """Data set of the labels; several are transformed separately and used as channels."""
    weight_internal_path: Names | None = None
    """Data set of the weights of the voxels."""
    global_normalization: bool = False
    """Whether intensities are normalised by the statistics of the whole volume instead of the patch."""
    random_scale: PositiveInt | None = None
    """Voxels by which one side of a patch is moved at random along each axis, before the patch is resampled to its size."""
    random_scale_probability: float = Field(0.5, ge=0, le=1)
    """Share of the patches whose scale is changed."""
    output_dir: str | None = None
    """Folder of the predictions; that of the image when left out."""
    expand_dims: bool = True
    """Whether the images of `DSB2018Dataset` get a z axis of one voxel."""
    train: PhaseOptions | None = None
    """Data to train on."""
    val: PhaseOptions | None = None
    """Data to validate on."""
    test: PhaseOptions | None = None
    """Data to predict."""

    @model_validator(mode="after")
    def _fits(self) -> LoadersOptions:
        for name in ("train", "val", "test"):
            phase = getattr(self, name)
            # whole images have no slice builder
            if phase is None or (self.dataset == "DSB2018Dataset"):
                continue
            if phase.slice_builder is None:
                raise OptionError("patch.missing", f"{name}.slice_builder is missing", remedy="Write patch_shape and stride_shape.")
            # patches of one plane are not scaled along z
            least = min((edge for edge in phase.slice_builder.patch_shape if edge > 1), default=1)
            if name != "test" and self.random_scale is not None and self.random_scale >= least:
                raise OptionError(
                    "patch.random_scale",
                    f"random_scale must be below the shortest edge of the patches of {name}, {least} voxels, but is {self.random_scale}",
                )
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> LoadersOptions:
        if self.train is not None and self.val is not None:
            both = [path for path in self.train.file_paths if path in self.val.file_paths]
            if both:
                raise OptionError(
                    "loaders.shared_file",
                    f"train and val share {both[0]!r}",
                    remedy="Scores on training data say nothing about new data, so use other files.",
                )
        return self


DEAD_SLICE_BUILDER = {
    "stride": "write stride_shape.",
    "lazy_loader": "loaders.dataset decides it.",
}
DEAD_LOADERS = {
    "mirror_padding": "only versions before 1.5 read it. Write loaders.test.slice_builder.halo_shape.",
    "pin_memory": "no version reads it; it is on where there is a CUDA GPU.",
    "transformer": "only versions before 1.1 read it here. Write loaders.train.transformer and loaders.val.transformer.",
    **{
        f"{phase}_{key}": f"only versions before 1.1 read it. Write loaders.{phase}.{present}."
        for phase in ("train", "val")
        for key, present in (("path", "file_paths"), ("patch", "slice_builder.patch_shape"), ("stride", "slice_builder.stride_shape"))
    },
}
