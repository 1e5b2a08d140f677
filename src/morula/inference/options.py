"""What a job file may say under `prediction:`. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, PositiveInt, model_validator

from morula.core.errors import OptionError
from morula.core.fraction import fraction
from morula.core.options import Options
from morula.inference.median import Options as Median
from morula.inference.memory import parse_bytes


def _overlap(value: float | str) -> float:
    """A fraction of at most one half: more would blend each voxel of more than two tiles per axis."""
    if fraction(value) > 0.5:
        raise OptionError("overlap.too_large", "must be at most half a tile", value=value, remedy="Use at most '50%'.")
    return fraction(value)


def _bytes(value: str) -> str:
    """An amount of memory, checked and kept as it is written."""
    parse_bytes(value)
    return value


class Prediction(Options):
    """How whole images are predicted."""

    earlier_names: ClassVar[Mapping[str, str]] = {"augment": "tta"}

    # the type of the input is stated: a JSON schema of float alone would reject texts such as "25%"
    overlap: Annotated[float, BeforeValidator(_overlap, json_schema_input_type=float | str)] = 0.25
    """Share of a tile that overlaps its neighbour where tiles are blended, for example `25%`."""
    tile: tuple[PositiveInt, ...] | None = None
    """Edge lengths (Z)YX of the tiles in voxels, rounded up to what the network can pool. Left out: the training patch where the network
    normalises over space, else as large as the memory allows."""
    tta: Literal["none", "flips", "all"] = "none"
    """Test-time augmentation: average the predictions over the image's flips, or flips and quarter turns."""
    tta_spread: bool = False
    """Add the column `tta_spread` to the tables of objects: how much the orientations of `tta` disagree on each. Predicts a second time."""
    memory: Annotated[str, AfterValidator(_bytes)] | None = None
    """Memory that tiles may take, for example `8GB`; most of the free memory when left out."""
    median: tuple[Median, ...] = ()
    """Median filters of the predicted channels, in this order: `[{axes: z, size: 5}]` removes what only single planes contain."""
    save_channels: bool = False
    """Write the predicted channels to `predictions/` too."""
    backend: Literal["torch", "openvino"] = "torch"
    """Library that computes the network; `openvino` is faster on some CPUs and needs `pip install 'morula[openvino]'`."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network. The shorter numbers are several times as fast on GPUs and on CPUs that multiply them in hardware, and
    change predictions by some hundredths (bf16) or thousandths (fp16); `openvino` supports `fp32` and `fp16`, encoders always in `fp32`."""

    @model_validator(mode="after")
    def _spread_has_orientations(self) -> Prediction:
        if self.tta_spread and self.tta == "none":
            rule = "is the spread over the orientations of tta, and there is one without it"
            remedy = "Write tta: flips, or leave it out."
            raise OptionError("prediction.spread_of_one", rule, key="tta_spread", value=True, remedy=remedy)
        return self

    @model_validator(mode="after")
    def _backend_has_precision(self) -> Prediction:
        # reported while the job is read, not after hours of training
        if (self.backend, self.precision) == ("openvino", "bf16"):
            raise OptionError(
                "prediction.precision_unsupported",
                "backend openvino does not compute in bf16",
                key="precision",
                value="bf16",
                remedy="Write precision: fp16, which is as fast and more exact, or fp32.",
            )
        return self
