"""The sections ``loaders``, ``trainer`` and ``predictor`` of a job file of pytorch-3dunet. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt

from morula.core.errors import OptionError
from morula.dialects.pytorch3dunet.keys import Edges, Names, Section, Share, key

PhaseName = Literal["train", "val", "test"]
_LEFT_OUT = "has no counterpart and is left out."


def _as_list(values: object) -> object:
    return (values,) if isinstance(values, str | Mapping) else values


class PlainOptions(Section):
    """Keys outside the sections."""

    device: Literal["cuda", "mps", "cpu"] | None = key(
        None, "Kind of processor; the fastest one present when left out.", copy="training.device"
    )
    manual_seed: NonNegativeInt | None = key(None, "Seed of all random numbers.", native="`training.seed`; 0 when left out")
    model_path: str | None = key(None, "Checkpoint to predict with.", native="prediction only")


class FileOptions(Section):
    """One image in several files (not in the original)."""

    native_form = "`images.train.raw`, `labels`"
    raw: str = key(..., "File of the raw data.")
    label: str | None = key(None, "File of the labels.")
    weight: str | None = key(None, "File of the weights of the voxels.", native="as `weight_internal_path`")


class SliceBuilderOptions(Section):
    """Positions of the patches."""

    native_form = "`sampling.kind: grid`, `patches_per_epoch: grid`"
    dead: ClassVar = {
        "stride": "write stride_shape.",
        "lazy_loader": "loaders.dataset decides it.",
    }
    name: Literal["SliceBuilder", "FilterSliceBuilder"] = key(
        "SliceBuilder", "`SliceBuilder` takes all patches; `FilterSliceBuilder` only those with enough labels."
    )
    patch_shape: Edges = key(..., "Edges of a patch (z, y, x) in voxels.", native="`sampling.patch`")
    stride_shape: Edges = key(..., "Distance between neighbouring patches (z, y, x) in voxels.", native="`sampling.overlap`")
    skip_shape_check: bool = key(False, "Allow patches of fewer than 64 voxels along y or x.", native="always allowed")
    halo_shape: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = key(
        (0, 0, 0), "Voxels around each patch that are input of the network as well.", native="prediction only"
    )
    threshold: Share = key(
        0.6, "Share of labelled voxels above which `FilterSliceBuilder` keeps a patch.", native="`sampling.least_labelled`"
    )
    slack_acceptance: Share = key(0.01, "Probability that it keeps any other patch.", native="`sampling.accept_unlabelled`")
    ignore_index: int | None = key(
        None, "Label whose voxels count as unlabelled.", native="`sampling.ignored_label`, where the loss does not ignore it too"
    )

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

    raw: tuple[Mapping[str, Any], ...] = key((), "Transforms of the raw data.", native="`sampling.normalise`, `augment`")
    label: tuple[Mapping[str, Any], ...] = key((), "Transforms of the labels.", native="`method.channels`")
    weight: tuple[Mapping[str, Any], ...] = key((), "Transforms of the weights of the voxels.", native="as `weight_internal_path`")


class PhaseOptions(Section):
    """The sections ``loaders.train``, ``loaders.val`` and ``loaders.test``."""

    file_paths: Annotated[tuple[str | FileOptions, ...], Field(min_length=1), BeforeValidator(_as_list)] = key(
        ..., "Files, and folders, of which all files are used.", native="`images.train.raw`, `labels`; lists of files"
    )
    slice_builder: SliceBuilderOptions | None = key(
        None, "Positions of the patches; `DSB2018Dataset` uses whole images instead.", native="as its section"
    )
    transformer: TransformerOptions = key(TransformerOptions(), "Transforms of each patch.", native="as its section")


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
    dataset: Literal["StandardHDF5Dataset", "LazyHDF5Dataset", "DSB2018Dataset"] = key(
        "StandardHDF5Dataset",
        "Volumes in memory, volumes that are read patch by patch, or images in the folders ``images`` and ``masks``.",
        native="`images.train`; volumes are kept in memory where they fit",
    )
    batch_size: PositiveInt = key(1, "Patches per step and device.", copy="sampling.batch")
    num_workers: NonNegativeInt = key(1, "Processes that prepare patches.", copy="training.workers")
    raw_internal_path: Names = key(
        "raw", "Data set of the raw data; several are used as channels.", native="`images.train.raw: FILE:/NAME`, or `FILE:/NAME,NAME`"
    )
    label_internal_path: Names = key(
        "label",
        "Data set of the labels; several are transformed separately and used as channels.",
        native="`images.train.labels: FILE:/NAME`; several are channels of the method `regression`",
    )
    weight_internal_path: Names | None = key(
        None, "Data set of the weights of the voxels, where `transformer.weight` is given.", native="`images.train.weights: FILE:/NAME`"
    )
    global_normalization: bool = key(
        False,
        "Whether intensities are normalised by the statistics of the whole volume instead of the patch.",
        native="`sampling.normalise.per: image`",
    )
    random_scale: PositiveInt | None = key(
        None,
        "Voxels by which one side of a patch is moved at random along each axis, before the patch is resampled to its size.",
        copy="sampling.scale_voxels",
    )
    random_scale_probability: Share = key(0.5, "Share of the patches whose scale is changed.", copy="sampling.scale_probability")
    output_dir: str | None = key(None, "Folder of the predictions; that of the image when left out.", native="prediction only")
    expand_dims: bool = key(True, "Whether the images of `DSB2018Dataset` get a z axis of one voxel.", native="not needed")
    train: PhaseOptions | None = key(None, "Data to train on.", native="`images.train`")
    val: PhaseOptions | None = key(None, "Data to validate on.", native="`images.validate`")
    test: PhaseOptions | None = key(None, "Data to predict.", native="`images.test`")

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

    native_form = "pictures only"
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
    checkpoint_dir: str = key(..., "Folder of the checkpoints and the run folder.", native="the run folder, named on the command line")
    max_num_epochs: PositiveInt = key(..., "Maximum number of epochs.", copy="training.epochs")
    max_num_iterations: PositiveInt = key(
        ..., "Maximum number of steps; exactly this many are taken unless the epochs end first.", native="`training.steps`"
    )
    validate_after_iters: PositiveInt = key(
        200,
        "Steps between validations; there is also one after the last step.",
        native="`training.validate_every`, `checkpoint_every`",
    )
    log_after_iters: PositiveInt = key(100, "Steps between entries of the training in TensorBoard.", native="pictures only")
    validate_iters: PositiveInt | None = key(None, "Batches per validation; all when left out.", copy="training.validation_batches")
    eval_score_higher_is_better: bool = key(True, "Whether a higher score is better.", native="as `eval_metric`")
    skip_train_validation: bool = key(False, "Do not compute the metric on training patches.", native="pictures only")
    resume: str | None = key(None, "Checkpoint to resume from.", native="refused; `pre_trained` is the way to start from weights")
    pre_trained: str | None = key(None, "Checkpoint with the weights to start from.", native="`network.from`")
    max_val_images: NonNegativeInt = key(100, "Maximum number of validation batches that are shown as pictures.", native="pictures only")
    num_iterations: PositiveInt = key(1, "Number of the first step.", native="`training.steps`, fewer by the steps before it")
    num_epoch: NonNegativeInt = key(0, "Number of the first epoch.", note=_LEFT_OUT)
    tensorboard_formatter: FormatterOptions | None = key(None, "How pictures are made.", native="pictures only")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key(
        "auto",
        "Precision (not in the original): auto is bf16, or else fp16, on a CUDA GPU, bf16 on a CPU with AMX, and fp32 otherwise.",
        copy="training.precision",
    )

    def check(self) -> None:
        """See `Section.check`."""
        if self.num_iterations > self.max_num_iterations:
            rule = f"num_iterations is {self.num_iterations}, but max_num_iterations only {self.max_num_iterations}"
            raise OptionError("trainer.iterations", rule, remedy="Increase max_num_iterations.")


class PredictorOptions(Section):
    """How predictions are made and stored."""

    native_form = "prediction only"
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
