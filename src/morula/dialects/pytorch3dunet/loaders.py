"""What may stand under ``loaders`` in a job file of pytorch-3dunet. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from morula.core.errors import OptionError
from morula.core.options import Options

Edges: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]
Names: TypeAlias = str | tuple[str, ...]


class SliceBuilderOptions(Options):
    """Where patches lie."""

    name: Literal["SliceBuilder", "FilterSliceBuilder"] = "SliceBuilder"
    """`SliceBuilder` takes all patches; `FilterSliceBuilder` only those with enough labels."""

    patch_shape: Edges
    """Edges of a patch (z, y, x) in voxels."""

    stride_shape: Edges
    """Distance of neighbouring patches (z, y, x) in voxels."""

    skip_shape_check: bool = False
    """Allow patches of fewer than 64 voxels along y or x."""

    halo_shape: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = (0, 0, 0)
    """Voxels around each patch that the network sees too (prediction only)."""

    threshold: float = Field(0.6, ge=0, le=1)
    """Share of labelled voxels above which `FilterSliceBuilder` keeps a patch."""

    slack_acceptance: float = Field(0.01, ge=0, le=1)
    """Chance of other patches to be kept nevertheless."""

    ignore_index: int | None = None
    """Label that counts as not labelled for `FilterSliceBuilder`."""

    @model_validator(mode="after")
    def _not_tiny(self) -> SliceBuilderOptions:
        if not self.skip_shape_check and min(self.patch_shape[1:]) < 64:
            raise OptionError(
                "patch.too_small",
                f"patch_shape is {list(self.patch_shape)} but y and x must be 64 voxels at least",
                remedy="Enlarge the patch, or write skip_shape_check: true.",
            )
        return self


class TransformerOptions(Options):
    """What is done to each patch, in order."""

    raw: tuple[Mapping[str, Any], ...] = ()
    """Transforms of the raw data."""

    label: tuple[Mapping[str, Any], ...] = ()
    """Transforms of the labels."""

    weight: tuple[Mapping[str, Any], ...] = ()
    """Transforms of the voxels' weights."""


class FileOptions(Options):
    """One image that lies in several files (not in the original)."""

    raw: str
    """File of the raw data."""

    label: str | None = None
    """File of the labels."""

    weight: str | None = None
    """File of the voxels' weights."""


class PhaseOptions(Options):
    """What stands under ``loaders.train``, ``loaders.val`` and ``loaders.test``."""

    file_paths: tuple[str | FileOptions, ...] = Field(min_length=1)
    """Files, and folders whose files are all taken."""

    slice_builder: SliceBuilderOptions | None = None
    """Where patches lie; `DSB2018Dataset` takes whole images instead."""

    transformer: TransformerOptions = TransformerOptions()
    """What is done to each patch."""

    @field_validator("file_paths", mode="before")
    @classmethod
    def _several(cls, paths: Any) -> Any:
        return (paths,) if isinstance(paths, str | Mapping) else paths


class LoadersOptions(Options):
    """Where the data come from and how they are cut."""

    dataset: Literal["StandardHDF5Dataset", "LazyHDF5Dataset", "DSB2018Dataset"] = "StandardHDF5Dataset"
    """Whether volumes are held in memory, read patch by patch, or are images in folders ``images`` and ``masks``."""

    batch_size: PositiveInt = 1
    """Patches a step; on each device where there are several."""

    num_workers: NonNegativeInt = 1
    """Processes that prepare patches."""

    raw_internal_path: Names = "raw"
    """Data set of the raw data; several become channels."""

    label_internal_path: Names = "label"
    """Data set of the labels; several are transformed each by itself and become channels."""

    weight_internal_path: Names | None = None
    """Data set of the voxels' weights."""

    global_normalization: bool = False
    """Whether intensities are brought to scale by those of the whole volume instead of the patch's."""

    random_scale: PositiveInt | None = None
    """Voxels by which a patch may reach further or less far along each axis before it is brought to size."""

    random_scale_probability: float = Field(0.5, ge=0, le=1)
    """Share of the patches that this happens to."""

    output_dir: str | None = None
    """Folder of the predictions; that of the input when left out."""

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
            if phase is None or (self.dataset == "DSB2018Dataset"):
                continue
            if phase.slice_builder is None:
                raise OptionError("patch.missing", f"{name}.slice_builder is missing", remedy="State patch_shape and stride_shape.")
            least = min((edge for edge in phase.slice_builder.patch_shape if edge > 1), default=1)
            if name != "test" and self.random_scale is not None and self.random_scale >= least:
                raise OptionError(
                    "patch.random_scale",
                    f"random_scale is {self.random_scale} but {name} has patches of {least} voxels",
                    remedy="It must be below them.",
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
                    remedy="Scores on training data say nothing about new data; keep the two apart.",
                )
        return self


DEAD_SLICE_BUILDER = {
    "stride": "write stride_shape.",
    "lazy_loader": "loaders.dataset decides it.",
}
DEAD_LOADERS = {
    "mirror_padding": "only versions before 1.5 knew it. Write loaders.test.slice_builder.halo_shape.",
    "pin_memory": "no version reads it; it is on where there is a CUDA GPU.",
    "train_path": "only versions before 1.1 knew it. Write loaders.train.file_paths.",
    "val_path": "only versions before 1.1 knew it. Write loaders.val.file_paths.",
    "train_patch": "only versions before 1.1 knew it. Write loaders.train.slice_builder.patch_shape.",
    "train_stride": "only versions before 1.1 knew it. Write loaders.train.slice_builder.stride_shape.",
    "val_patch": "only versions before 1.1 knew it. Write loaders.val.slice_builder.patch_shape.",
    "val_stride": "only versions before 1.1 knew it. Write loaders.val.slice_builder.stride_shape.",
    "transformer": "only versions before 1.1 knew it here. Write loaders.train.transformer and loaders.val.transformer.",
}
