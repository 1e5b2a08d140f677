"""The metrics of pytorch-3dunet under their names in job files: native figures of patches, see `training.monitor`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from morula.core.errors import DataError
from morula.dialects.pytorch3dunet.keys import Section, Table, key
from morula.methods.patch_scores import Patchwise, figure_of
from morula.training.monitors import MSE as NativeMSE
from morula.training.monitors import PSNR as NativePSNR
from morula.training.monitors import Dice, IoU, Objects

Array: TypeAlias = np.ndarray | Tensor


def _array(values: Array) -> np.ndarray:
    return np.asarray(values.detach().cpu()) if isinstance(values, Tensor) else np.asarray(values)


class MetricOptions(Section):
    """A score of predictions against targets, averaged over the batch, and the keys of every metric."""

    native_form = "`training.monitor`"
    dead: ClassVar = {
        "threshold": "no version since 1.3 reads it. Write thresholds, a list.",
        "use_first_input": "no version since 1.3 reads it. Write input_channel.",
        "save_plots": "no version reads it.",
        "plots_dir": "no version reads it.",
    }
    name: str = key("MeanIoU", "Name of the metric.")

    @abstractmethod
    def native(self, channels: int, *, exclusive: bool) -> Patchwise:
        """The native figure.

        Args:
            channels: number of predicted channels.
            exclusive: whether they are classes that exclude each other.

        Raises:
            DataError: where no channel is left.
        """

    def __call__(self, prediction: Array, target: Array, counted: Array | None = None) -> float:
        """The score.

        Args:
            prediction: NK(Z)YX, after the final activation; `AdaptedRandError`, `AveragePrecision` and `Accuracy` take integers as label
                images.
            target: NC(Z)YX, or N(Z)YX without channels.
            counted: mask N1(Z)YX of the voxels that are compared; all when left out.

        Raises:
            DataError: for shapes that do not match, or a channel that does not exist.
        """
        predicted, true = _array(prediction), _array(target)
        exclusive = true.ndim < predicted.ndim
        if len(predicted) != len(true) or predicted.shape[2:] != true.shape[1 if exclusive else 2 :]:
            raise DataError(
                "metric.shapes_differ",
                f"the target has shape {true.shape} but the prediction {predicted.shape}; they must be of the same images",
            )
        known = np.ones((len(true), 1, *predicted.shape[2:]), bool) if counted is None else _array(counted)
        return self._compute(predicted, true[:, None] if exclusive else true, known, exclusive=exclusive and predicted.shape[1] > 1)

    def _compute(self, predicted: np.ndarray, target: np.ndarray, counted: np.ndarray, *, exclusive: bool) -> float:
        """The score of arrays NK(Z)YX and NC(Z)YX whose shapes match."""
        if target.shape != predicted.shape:
            rule = f"{self.name} needs one target channel per prediction channel, but the target has shape {target.shape}"
            raise DataError("metric.shapes_differ", rule)
        return figure_of(self.native(predicted.shape[1], exclusive=exclusive), predicted, target, counted)


# --- voxel by voxel ----------------------------------------------------------------------------------------------------------------------


class IgnoringMetric(MetricOptions):
    """Keys of metrics that leave out voxels."""

    ignore_index: float | None = key(None, "Target value of voxels that are ignored.", native="as that of the loss")

    def _compute(self, predicted: np.ndarray, target: np.ndarray, counted: np.ndarray, *, exclusive: bool) -> float:
        counted = counted if self.ignore_index is None else counted & (target != self.ignore_index)
        return super()._compute(predicted, target, counted, exclusive=exclusive)


class MeanIoU(IgnoringMetric):
    """Intersection over union."""

    skip_background: bool = key(True, "Leave out class 0 where the target holds class numbers.")
    skip_channels: tuple[NonNegativeInt, ...] = key((), "Further classes to leave out, as in versions up to 1.8.")

    def native(self, channels: int, *, exclusive: bool) -> IoU:
        """See `MetricOptions.native`."""
        used = tuple(number for number in range(int(exclusive and self.skip_background), channels) if number not in self.skip_channels)
        if not used:
            remedy = "Set skip_background to false or shorten skip_channels."
            raise DataError("metric.no_class", f"MeanIoU leaves out all {channels} classes", remedy=remedy)
        return IoU(channels=None if used == tuple(range(int(exclusive), channels)) else used)

    def _compute(self, predicted: np.ndarray, target: np.ndarray, counted: np.ndarray, *, exclusive: bool) -> float:
        monitor = self.native(predicted.shape[1], exclusive=exclusive)
        if self.ignore_index is not None:
            counted = counted & (target != self.ignore_index)
        if exclusive:
            target = target == np.arange(predicted.shape[1]).reshape(1, -1, *[1] * (predicted.ndim - 2))
        elif target.shape[1] != predicted.shape[1]:
            rule = f"MeanIoU compares channel by channel, but the target has {target.shape[1]} and the prediction {predicted.shape[1]}"
            raise DataError("metric.shapes_differ", rule)
        return figure_of(monitor, predicted, np.trunc(target) != 0, counted, exclusive=exclusive)


class DiceCoefficient(IgnoringMetric):
    """Dice."""

    epsilon: PositiveFloat = key(1e-06, "Smallest denominator.")

    def native(self, channels: int, *, exclusive: bool) -> Dice:
        """See `MetricOptions.native`."""
        return Dice(least=self.epsilon)


class PSNR(MetricOptions):
    """Peak signal-to-noise ratio."""

    def native(self, channels: int, *, exclusive: bool) -> NativePSNR:
        """See `MetricOptions.native`."""
        return NativePSNR()


class MSE(MetricOptions):
    """Mean squared error."""

    def native(self, channels: int, *, exclusive: bool) -> NativeMSE:
        """See `MetricOptions.native`."""
        return NativeMSE()


# --- object by object --------------------------------------------------------------------------------------------------------------------
#
# A prediction is a map of boundaries or of objects. Each threshold (and channel) gives one segmentation of it, and the best score counts:
#
#   prediction --threshold--> mask --components--> objects --compare with the true labels--> score --best--> score of the sample


class ObjectMetric(MetricOptions):
    """Keys of metrics that compare objects.

    Attributes:
        of_labels: whether predictions of integers are label images; those of other metrics are always maps.
    """

    of_labels: ClassVar[bool] = False
    thresholds: tuple[float, ...] = key((0.3, 0.4, 0.5, 0.6), "Thresholds of the predicted map; the best score counts.")
    use_last_target: bool = key(False, "Read the labels from the last channel of the target instead of the first.")

    @property
    def below(self) -> tuple[float, ...]:
        """The thresholds of 1 - p, which is high in objects, where those of p are stated."""
        return tuple(round(1 - threshold, 9) for threshold in self.thresholds)

    def _compute(self, predicted: np.ndarray, target: np.ndarray, counted: np.ndarray, *, exclusive: bool) -> float:
        labels = target[:, -1 if self.use_last_target else 0].astype(np.int64)
        values = predicted if self.of_labels and predicted.dtype.kind in "iub" else predicted.astype(np.float32, copy=False)
        return figure_of(self.native(predicted.shape[1], exclusive=exclusive), values, target, counted, labels=labels)


class RandMetric(ObjectMetric):
    """Keys of the adapted Rand errors. Samples without objects have no error and are left out."""

    ignore_index: int | None = key(None, "Label whose voxels are ignored, as are those of label 0.", native="as that of the loss")

    def _compute(self, predicted: np.ndarray, target: np.ndarray, counted: np.ndarray, *, exclusive: bool) -> float:
        if self.ignore_index is not None:
            target = np.where(target == self.ignore_index, 0, target)
        return super()._compute(predicted, target, counted, exclusive=exclusive)


class AdaptedRandError(RandMetric):
    """Adapted Rand error of the objects between boundaries."""

    of_labels = True
    input_channel: NonNegativeInt | None = key(None, "Channel of the boundary map; all are tried when left out.")
    invert_pmaps: bool = key(True, "Whether objects are where the map is low.")

    def native(self, channels: int, *, exclusive: bool) -> Objects:
        """See `MetricOptions.native`."""
        tried = None if self.input_channel is None else (self.input_channel,)
        thresholds = self.below if self.invert_pmaps else self.thresholds
        return Objects(measure="adapted_rand_error", thresholds=thresholds, channels=tried, inverted=self.invert_pmaps)


class BoundaryAdaptedRandError(AdaptedRandError):
    """Adapted Rand error of the objects between boundaries."""

    of_labels = False
    use_last_target: bool = key(True, "Read the labels from the last channel of the target instead of the first.")


class GenericAdaptedRandError(RandMetric):
    """Adapted Rand error of several maps."""

    use_last_target: bool = key(True, "Read the labels from the last channel of the target instead of the first.")
    input_channels: tuple[NonNegativeInt, ...] = key(..., "Channels to try.")
    invert_channels: tuple[NonNegativeInt, ...] = key((), "Those of them that are high on boundaries.")

    def native(self, channels: int, *, exclusive: bool) -> Objects:
        """See `MetricOptions.native`."""
        tried, inverted = self.input_channels, self.invert_channels
        return Objects(measure="adapted_rand_error", thresholds=self.thresholds, channels=tried, inverted=inverted or False)


class AveragePrecision(ObjectMetric):
    """Average precision of the objects between boundaries."""

    of_labels = True
    min_instance_size: NonNegativeInt | None = key(None, "Objects of fewer voxels are left out on both sides.")
    input_channel: NonNegativeInt = key(0, "Channel of the prediction.")
    metric: Literal["ap", "acc"] = key("ap", "Average over IoU 0.5 to 0.95, or the accuracy at 0.5.")

    def native(self, channels: int, *, exclusive: bool) -> Objects:
        """See `MetricOptions.native`."""
        return self._objects(channels=(self.input_channel,), inverted=True, thresholds=self.below)

    def _objects(self, **where: Any) -> Objects:
        limits: dict[str, Any] = {} if self.metric == "ap" else {"iou": (0.5,)}
        return Objects(least_size=self.min_instance_size or 0, **limits, **where)


class Accuracy(AveragePrecision):
    """Accuracy of the objects between boundaries."""

    metric: Literal["ap", "acc"] = key("acc", "Average over IoU 0.5 to 0.95, or the accuracy at 0.5.")


class BoundaryAveragePrecision(AveragePrecision):
    """Average precision of the objects between boundaries."""

    of_labels = False
    use_last_target: bool = key(True, "Read the labels from the last channel of the target instead of the first.")


class BlobsAveragePrecision(BoundaryAveragePrecision):
    """Average precision of the objects of a mask."""

    thresholds: tuple[float, ...] = key((0.4, 0.5, 0.6, 0.7, 0.8), "Thresholds of the predicted map; the best score counts.")

    def native(self, channels: int, *, exclusive: bool) -> Objects:
        """See `MetricOptions.native`."""
        return self._objects(channels=(self.input_channel,), thresholds=self.thresholds)


class BlobsBoundaryAveragePrecision(BoundaryAveragePrecision):
    """Average precision of the objects of a mask without its boundaries."""

    thresholds: tuple[float, ...] = key((0.3, 0.4, 0.5, 0.6, 0.7), "Thresholds of the predicted map; the best score counts.")

    def native(self, channels: int, *, exclusive: bool) -> Objects:
        """See `MetricOptions.native`."""
        return self._objects(channels=(0,), minus=1, thresholds=self.thresholds)  # foreground minus boundary


_KINDS: tuple[type[MetricOptions], ...] = (
    MeanIoU,
    DiceCoefficient,
    AdaptedRandError,
    BoundaryAdaptedRandError,
    GenericAdaptedRandError,
    AveragePrecision,
    Accuracy,
    BoundaryAveragePrecision,
    BlobsAveragePrecision,
    BlobsBoundaryAveragePrecision,
    PSNR,
    MSE,
)
METRICS: Table[MetricOptions] = Table({kind.__name__: kind for kind in _KINDS})


def build_metric(config: Mapping[str, Any] | None) -> MetricOptions:
    """The metric of the section ``eval_metric`` of a job file of pytorch-3dunet; ``MeanIoU`` where it is missing.

    Raises:
        UnknownNameError: for a metric that does not exist.
        OptionError: for a value that breaks a rule.

    Examples:
        >>> metric = build_metric({"name": "MeanIoU"})
        >>> metric(np.array([[[[0.9, 0.2]], [[0.1, 0.8]]]]), np.array([[[0, 1]]]))
        1.0
    """
    return METRICS.read({"name": "MeanIoU", **(config or {})}, "eval_metric")
