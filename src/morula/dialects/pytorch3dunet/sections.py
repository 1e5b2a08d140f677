"""The sections ``loaders``, ``trainer`` and ``predictor`` of a job file of pytorch-3dunet. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt

from morula.core.errors import OptionError
from morula.dialects.pytorch3dunet.keys import Edges, Names, Section, Share, key

PhaseName = Literal["train", "val", "test"]


def _as_list(values: object) -> object:
    return (values,) if isinstance(values, str | Mapping) else values


class PlainOptions(Section):
    """Keys outside the sections."""

    device: Literal["cuda", "mps", "cpu"] | None = key(None, "Kind of processor; the fastest one present when left out.")
    manual_seed: NonNegativeInt | None = key(None, "Seed of all random numbers.")
    model_path: str | None = key(None, "Checkpoint to predict with.")


class FileOptions(Section):
    """One image in several files (not in the original)."""

    raw: str = key(..., "File of the raw data.")
    label: str | None = key(None, "File of the labels.")
    weight: str | None = key(None, "File of the weights of the voxels.")


class SliceBuilderOptions(Section):
    """Positions of the patches."""

    dead: ClassVar = {
        "stride": "write stride_shape.",
        "lazy_loader": "loaders.dataset decides it.",
    }
    name: Literal["SliceBuilder", "FilterSliceBuilder"] = key(
        "SliceBuilder", "`SliceBuilder` takes all patches; `FilterSliceBuilder` only those with enough labels."
    )
    patch_shape: Edges = key(..., "Edges of a patch (z, y, x) in voxels.")
    stride_shape: Edges = key(..., "Distance between neighbouring patches (z, y, x) in voxels.")
    skip_shape_check: bool = key(False, "Allow patches of fewer than 64 voxels along y or x.")
    halo_shape: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = key(
        (0, 0, 0), "Voxels around each patch that are input of the network as well (prediction only)."
    )
    threshold: Share = key(0.6, "Share of labelled voxels above which `FilterSliceBuilder` keeps a patch.")
    slack_acceptance: Share = key(0.01, "Probability that it keeps any other patch.")
    ignore_index: int | None = key(None, "Label whose voxels count as unlabelled.")

    def check(self) -> None:
        """See `Section.check`."""
        if not self.skip_shape_check and min(self.patch_shape[1:]) < 64:
            raise OptionError(
                "patch.too_small",
                f"patch_shape must be at least 64 voxels along y and x, but is {list(self.patch_shape)}",
                remedy="Enlarge the patch, or write skip_shape_check: true.",
            )


class TransformerOptions(Section):
    """Transforms of each patch, in order."""

    raw: tuple[Mapping[str, Any], ...] = key((), "Transforms of the raw data.")
    label: tuple[Mapping[str, Any], ...] = key((), "Transforms of the labels.")
    weight: tuple[Mapping[str, Any], ...] = key((), "Transforms of the weights of the voxels.")


class PhaseOptions(Section):
    """The sections ``loaders.train``, ``loaders.val`` and ``loaders.test``."""

    file_paths: Annotated[tuple[str | FileOptions, ...], Field(min_length=1), BeforeValidator(_as_list)] = key(
        ..., "Files, and folders, of which all files are used."
    )
    slice_builder: SliceBuilderOptions | None = key(None, "Positions of the patches; `DSB2018Dataset` uses whole images instead.")
    transformer: TransformerOptions = key(TransformerOptions(), "Transforms of each patch.")


class LoadersOptions(Section):
    """Files, patches and transforms."""

    dead: ClassVar = {
        "mirror_padding": "only versions before 1.5 read it. Write loaders.test.slice_builder.halo_shape.",
        "pin_memory": "no version reads it; it is on where there is a CUDA GPU.",
        "transformer": "only versions before 1.1 read it here. Write loaders.train.transformer and loaders.val.transformer.",
        "train_path": "only versions before 1.1 read it. Write loaders.train.file_paths.",
        "train_patch": "only versions before 1.1 read it. Write loaders.train.slice_builder.patch_shape.",
        "train_stride": "only versions before 1.1 read it. Write loaders.train.slice_builder.stride_shape.",
        "val_path": "only versions before 1.1 read it. Write loaders.val.file_paths.",
        "val_patch": "only versions before 1.1 read it. Write loaders.val.slice_builder.patch_shape.",
        "val_stride": "only versions before 1.1 read it. Write loaders.val.slice_builder.stride_shape.",
    }
    notes: ClassVar = {"weight_internal_path": "weights of voxels are left out; native jobs have only masks."}
    dataset: Literal["StandardHDF5Dataset", "LazyHDF5Dataset", "DSB2018Dataset"] = key(
        "StandardHDF5Dataset", "Volumes in memory, volumes that are read patch by patch, or images in the folders ``images`` and ``masks``."
    )
    batch_size: PositiveInt = key(1, "Patches per step and device.")
    num_workers: NonNegativeInt = key(1, "Processes that prepare patches.")
    raw_internal_path: Names = key("raw", "Data set of the raw data; several are used as channels.")
    label_internal_path: Names = key("label", "Data set of the labels; several are transformed separately and used as channels.")
    weight_internal_path: Names | None = key(None, "Data set of the weights of the voxels.")
    global_normalization: bool = key(
        False, "Whether intensities are normalised by the statistics of the whole volume instead of the patch."
    )
    random_scale: PositiveInt | None = key(
        None, "Voxels by which one side of a patch is moved at random along each axis, before the patch is resampled to its size."
    )
    random_scale_probability: Share = key(0.5, "Share of the patches whose scale is changed.")
    output_dir: str | None = key(None, "Folder of the predictions; that of the image when left out.")
    expand_dims: bool = key(True, "Whether the images of `DSB2018Dataset` get a z axis of one voxel.")
    train: PhaseOptions | None = key(None, "Data to train on.")
    val: PhaseOptions | None = key(None, "Data to validate on.")
    test: PhaseOptions | None = key(None, "Data to predict.")

    def phase(self, name: PhaseName) -> PhaseOptions | None:
        """The section of a phase."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def check(self) -> None:
        """See `Section.check`."""
        for name in ("train", "val", "test"):
            phase = self.phase(name)
            # whole images have no slice builder
            if phase is None or self.dataset == "DSB2018Dataset":
                continue
            if phase.slice_builder is None:
                raise OptionError("patch.missing", f"{name}.slice_builder is missing", remedy="Write patch_shape and stride_shape.")
            # patches of one plane are not scaled along z
            least = min((edge for edge in phase.slice_builder.patch_shape if edge > 1), default=1)
            if name != "test" and self.random_scale is not None and self.random_scale >= least:
                rule = f"random_scale must be below the shortest edge of the patches of {name}, {least} voxels, but is {self.random_scale}"
                raise OptionError("patch.random_scale", rule)
        both = [path for path in self.train.file_paths if path in self.val.file_paths] if self.train and self.val else []
        if both:
            remedy = "Scores on training data say nothing about new data, so use other files."
            raise OptionError("loaders.shared_file", f"train and val share {both[0]!r}", remedy=remedy)


class FormatterOptions(Section):
    """The section ``trainer.tensorboard_formatter``."""

    skip_last_target: bool = key(False, "Leave out the last channel of the target in the pictures.")
    log_channelwise: bool = key(False, "Show each channel of a prediction instead of the class with the highest value.")


class TrainerOptions(Section):
    """The section ``trainer``."""

    strict = True
    dead: ClassVar = {
        "epochs": "only versions before 1.3 read it. Write max_num_epochs.",
        "iters": "only versions before 1.3 read it. Write max_num_iterations.",
        "max_patience": "no version since 1.3 reads it. Use lr_scheduler, or stop the training with Ctrl-C.",
    }
    notes: ClassVar = {
        "validate_iters": "has no counterpart and is left out.",
        "resume": "has no counterpart and is left out.",
        "num_iterations": "has no counterpart and is left out.",
        "num_epoch": "has no counterpart and is left out.",
    }
    checkpoint_dir: str = key(..., "Folder of the checkpoints and the run folder.")
    max_num_epochs: PositiveInt = key(..., "Maximum number of epochs.")
    max_num_iterations: PositiveInt = key(..., "Maximum number of steps; exactly this many are taken unless the epochs end first.")
    validate_after_iters: PositiveInt = key(200, "Steps between validations; there is also one after the last step.")
    log_after_iters: PositiveInt = key(100, "Steps between entries of the training in TensorBoard.")
    validate_iters: PositiveInt | None = key(None, "Batches per validation; all when left out.")
    eval_score_higher_is_better: bool = key(True, "Whether a higher score is better.")
    skip_train_validation: bool = key(False, "Do not compute the metric on training patches.")
    resume: str | None = key(None, "Checkpoint to resume from.")
    pre_trained: str | None = key(None, "Checkpoint with the weights to start from.")
    max_val_images: NonNegativeInt = key(100, "Maximum number of validation batches that are shown as pictures.")
    num_iterations: PositiveInt = key(1, "Number of the first step.")
    num_epoch: NonNegativeInt = key(0, "Number of the first epoch.")
    tensorboard_formatter: FormatterOptions | None = key(None, "How pictures are made.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key(
        "auto", "Precision (not in the original): auto is bf16, or else fp16, on a CUDA GPU, bf16 on a CPU with AMX, and fp32 otherwise."
    )

    def check(self) -> None:
        """See `Section.check`."""
        if self.num_iterations > self.max_num_iterations:
            rule = f"num_iterations is {self.num_iterations}, but max_num_iterations only {self.max_num_iterations}"
            raise OptionError("trainer.iterations", rule, remedy="Increase max_num_iterations.")


class PredictorOptions(Section):
    """How predictions are made and stored."""

    dead: ClassVar = {
        "patch_halo": "no version since 1.8.6 reads it; earlier ones mirrored patches. Write loaders.test.slice_builder.halo_shape.",
        "pmaps_thershold": "write pmaps_threshold.",
        "mirror_padding": "only versions before 1.5 read it. Write loaders.test.slice_builder.halo_shape.",
    }
    name: Literal["StandardPredictor", "LazyPredictor", "DSB2018Predictor"] = key(
        "StandardPredictor", "Keep the prediction in memory, write it to the file tile by tile, or predict whole images of a folder."
    )
    output_dataset: Annotated[str, Field(min_length=1)] = key("predictions", "Data set of the output file.")
    save_segmentation: bool = key(
        False,
        "Write the class of each voxel instead of the channels: the highest channel, or, of a single channel, whether it is above 0.5.",
    )
    prediction_channel: NonNegativeInt | None = key(None, "Write only this channel.")
    performance_metric: Literal["dice", "mean_iou"] | None = key(None, "Score the prediction against the data set `gt_internal_path`.")
    gt_internal_path: str | None = key(None, "Data set of the ground truth in the file of the raw data.")
    pmaps_threshold: Share = key(0.5, "Probability above which a pixel belongs to an object (`DSB2018Predictor`).")
    blend: Literal["smooth", "last"] = key(
        "smooth",
        "Voxels in several patches: the weighted mean of all patches, or the value of the last one as in 1.9 (not in the original).",
    )
    tiles: Literal["patch", "planned"] = key(
        "patch",
        "Input of the network: the patches of the slice builder, or tiles that are fastest for no more memory than a patch with"
        " its halo and overlap by the receptive field. A network that normalises over space then gives other values (not in the"
        " original).",
    )
    backend: Literal["torch", "openvino"] = key(
        "torch", "Library that computes the network; `openvino` needs the extra of that name and runs on CPUs (not in the original)."
    )
    precision: Literal["fp32", "bf16", "fp16"] = key(
        "fp32",
        "Precision of the network (not in the original). 16 bits are several times as fast on GPUs, and on CPUs with hardware "
        "support; `openvino` has `fp32` and `fp16`, and always computes the encoder in `fp32`.",
    )
