"""What may stand under ``predictor`` in a job file of pytorch-3dunet. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeInt

from morula.core.options import Options
from morula.dialects.pytorch3dunet.loaders import LoadersOptions


class PredictorOptions(Options):
    """How predictions are made and stored."""

    name: Literal["StandardPredictor", "LazyPredictor", "DSB2018Predictor"] = "StandardPredictor"
    """Hold the prediction in memory, write it to the file piece by piece, or predict a folder of images as wholes."""

    output_dataset: str = Field("predictions", min_length=1)
    """Name of the data set in the file that is written."""

    save_segmentation: bool = False
    """Write the class of each voxel instead of the channels: that of the greatest channel, of a single one whether it is above 0.5."""

    prediction_channel: NonNegativeInt | None = None
    """Write this channel alone."""

    performance_metric: Literal["dice", "mean_iou"] | None = None
    """Score the prediction against the data set `gt_internal_path`."""

    gt_internal_path: str | None = None
    """Data set of the truth in the file of the raw data."""

    pmaps_threshold: float = Field(0.5, ge=0, le=1)
    """Probability above which a pixel belongs to an object (`DSB2018Predictor`)."""

    blend: Literal["smooth", "last"] = "smooth"
    """What counts where patches overlap: all of them, weighted smoothly, or the last one as in 1.9 (not in the original)."""

    tiles: Literal["patch", "planned"] = "patch"
    """What the network is given at a time: patches as the slice builder lays them, or tiles that cost least for no more memory than a patch
    with its halo, overlapping by what the network sees; one that normalises over space answers differently then (not in the original)."""

    backend: Literal["torch", "openvino"] = "torch"
    """What computes the network; `openvino` needs the extra of that name and runs on CPUs (not in the original)."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network (not in the original). The shorter numbers are several times as fast on GPUs and on CPUs that multiply them
    in hardware; `openvino` knows `fp32` and `fp16` and computes the encoder in `fp32` always."""


DEAD_PREDICTOR = {
    "patch_halo": "versions from 1.8.6 on read it no more, and mirrored patches before. Write loaders.test.slice_builder.halo_shape.",
    "pmaps_thershold": "write pmaps_threshold.",
    "mirror_padding": "only versions before 1.5 knew it. Write loaders.test.slice_builder.halo_shape.",
}


def misfits(predictor: PredictorOptions, loaders: LoadersOptions, model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Dotted keys whose values do not go with those of other sections, each with the rule and the remedy.

    Examples:
        >>> list(misfits(PredictorOptions(prediction_channel=2), LoadersOptions(), {"out_channels": 2}))
        [('predictor.prediction_channel', 'is 2 but the model has the channels 0 to 1. Choose one of them.')]
    """
    channels = model.get("out_channels")
    channel = predictor.prediction_channel
    if channel is not None and isinstance(channels, int) and channel >= channels:
        yield "predictor.prediction_channel", f"is {channel} but the model has the channels 0 to {channels - 1}. Choose one of them."
    if channel is not None and predictor.save_segmentation:
        yield "predictor.prediction_channel", "does not go with save_segmentation, which looks at all channels. Leave one of the two out."
    if predictor.performance_metric is not None and predictor.gt_internal_path is None:
        yield "predictor.gt_internal_path", "is missing; performance_metric needs the data set of the truth."
    if (predictor.backend, predictor.precision) == ("openvino", "bf16"):
        yield (
            "predictor.precision",
            "is bf16, which does not go with backend openvino. Write fp16, which is as fast and more exact, or fp32.",
        )
    folders, images = loaders.dataset == "DSB2018Dataset", predictor.name == "DSB2018Predictor"
    if folders != images:
        yield "predictor.name", f"{predictor.name} does not go with loaders.dataset {loaders.dataset}. DSB2018 goes with DSB2018."
    builder = None if loaders.test is None else loaders.test.slice_builder
    if builder is None:
        return
    if any(stride > patch for stride, patch in zip(builder.stride_shape, builder.patch_shape, strict=True)):
        yield (
            "loaders.test.slice_builder.stride_shape",
            f"{list(builder.stride_shape)} is longer than patch_shape {list(builder.patch_shape)}; voxels between patches would get no "
            "prediction. Write strides of at most the patch's edges.",
        )
    if str(model.get("name")).endswith("2D") and (builder.patch_shape[0], builder.halo_shape[0]) != (1, 0):
        yield (
            "loaders.test.slice_builder.patch_shape",
            f"{list(builder.patch_shape)} with the halo {list(builder.halo_shape)} has more than one plane but {model['name']} sees one. "
            "Write 1 for z, and 0 in halo_shape.",
        )
