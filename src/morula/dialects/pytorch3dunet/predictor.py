"""What may stand under ``predictor`` in a job file of pytorch-3dunet. Needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt

from morula.core.options import Options


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
