"""The section ``predictor`` of a job file of pytorch-3dunet. Needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt

from morula.core.options import Options


class PredictorOptions(Options):
    """How predictions are made and stored."""

    name: Literal["StandardPredictor", "LazyPredictor", "DSB2018Predictor"] = "StandardPredictor"
    """Keep the prediction in memory, write it to the file tile by tile, or predict whole images of a folder."""
    output_dataset: str = Field("predictions", min_length=1)
    """Data set of the output file."""
    save_segmentation: bool = False
    """Write the class of each voxel instead of the channels: the highest channel, or, of a single channel, whether it is above 0.5."""
    prediction_channel: NonNegativeInt | None = None
    """Write only this channel."""
    performance_metric: Literal["dice", "mean_iou"] | None = None
    """Score the prediction against the data set `gt_internal_path`."""
    gt_internal_path: str | None = None
    """Data set of the ground truth in the file of the raw data."""
    pmaps_threshold: float = Field(0.5, ge=0, le=1)
    """Probability above which a pixel belongs to an object (`DSB2018Predictor`)."""
    blend: Literal["smooth", "last"] = "smooth"
    """Voxels in several patches: the weighted mean of all patches, or the value of the last one as in 1.9 (not in the original)."""
    tiles: Literal["patch", "planned"] = "patch"
    """Input of the network: the patches of the slice builder, or tiles that are fastest for no more memory than a patch with its halo and
    overlap by the receptive field. A network that normalises over space then gives other values (not in the original)."""
    backend: Literal["torch", "openvino"] = "torch"
    """Library that computes the network; `openvino` needs the extra of that name and runs on CPUs (not in the original)."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the network (not in the original). 16 bits are several times as fast on GPUs, and on CPUs with hardware support;
    `openvino` has `fp32` and `fp16`, and always computes the encoder in `fp32`."""


DEAD_PREDICTOR = {
    "patch_halo": "no version since 1.8.6 reads it; earlier ones mirrored patches. Write loaders.test.slice_builder.halo_shape.",
    "pmaps_thershold": "write pmaps_threshold.",
    "mirror_padding": "only versions before 1.5 read it. Write loaders.test.slice_builder.halo_shape.",
}
