"""The metrics of pytorch-3dunet under their names in job files; objects are compared by the native metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat
from scipy.ndimage import label
from torch import Tensor

from morula.core.errors import DataError
from morula.dialects.pytorch3dunet.keys import Section, Table, key
from morula.labels.size_filter import remove_small
from morula.metrics.channels import channel_dice, channel_iou
from morula.metrics.matching import accuracy, average_precision
from morula.metrics.rand import adapted_rand_error
from morula.metrics.restoration import mean_squared_error, peak_signal_noise_ratio

Array: TypeAlias = np.ndarray | Tensor


class MetricOptions(Section):
    """A score of predictions against targets, averaged over the batch, and the keys of every metric.

    Attributes:
        higher_is_better: whether higher is better; `trainer.eval_score_higher_is_better` should agree.
    """

    native_form = "the best weights are chosen by the native score"
    dead: ClassVar = {
        "threshold": "no version since 1.3 reads it. Write thresholds, a list.",
        "use_first_input": "no version since 1.3 reads it. Write input_channel.",
        "save_plots": "no version reads it.",
        "plots_dir": "no version reads it.",
    }
    higher_is_better: ClassVar[bool] = True
    name: str = key("MeanIoU", "Name of the metric.")

    @abstractmethod
    def _compute(self, predicted: np.ndarray, target: np.ndarray) -> float:
        """The score of arrays whose shapes match."""

    def __call__(self, prediction: Array, target: Array) -> float:
        """The score.

        Args:
            prediction: NK(Z)YX, after the final activation; `AdaptedRandError`, `AveragePrecision` and `Accuracy` take integers as label
                images.
            target: NC(Z)YX, or N(Z)YX without channels.

        Raises:
            DataError: for shapes that do not match, or a channel that does not exist.
        """
        predicted, true = (
            np.asarray(array.detach().cpu()) if isinstance(array, Tensor) else np.asarray(array) for array in (prediction, target)
        )
        if len(predicted) != len(true) or predicted.shape[2:] != true.shape[1 if true.ndim < predicted.ndim else 2 :]:
            raise DataError(
                "metric.shapes_differ",
                f"the target has shape {true.shape} but the prediction {predicted.shape}; they must be of the same images",
            )
        return self._compute(predicted, true)


# --- voxel by voxel ----------------------------------------------------------------------------------------------------------------------


class IgnoringMetric(MetricOptions):
    """Keys of metrics that leave out voxels."""

    ignore_index: float | None = key(None, "Target value of voxels that are ignored.")

    def _counted(self, target: np.ndarray) -> np.ndarray:
        return np.ones(target.shape, bool) if self.ignore_index is None else target != self.ignore_index


class MeanIoU(IgnoringMetric):
    """Intersection over union."""

    skip_background: bool = key(True, "Leave out class 0 where the target holds class numbers.")
    skip_channels: tuple[NonNegativeInt, ...] = key((), "Further classes to leave out, as in versions up to 1.8.")

    def _compute(self, predicted: np.ndarray, target: np.ndarray) -> float:
        channels = predicted.shape[1]
        exclusive = target.ndim < predicted.ndim and channels > 1
        target = target if target.ndim == predicted.ndim else target[:, None]
        if not exclusive and target.shape[1] != channels:
            rule = f"MeanIoU compares channel by channel, but the target has {target.shape[1]} and the prediction {channels}"
            raise DataError("metric.shapes_differ", rule)
        used = [number for number in range(int(exclusive and self.skip_background), channels) if number not in self.skip_channels]
        if not used:
            remedy = "Set skip_background to false or shorten skip_channels."
            raise DataError("metric.no_class", f"MeanIoU leaves out all {channels} classes", remedy=remedy)
        counted = self._counted(target)
        if exclusive:
            classes = np.reshape(used, (1, -1, *[1] * (predicted.ndim - 2)))
            return channel_iou(predicted.argmax(axis=1, keepdims=True) == classes, target == classes, counted)
        return channel_iou(predicted[:, used] > 0.5, np.trunc(target[:, used]) != 0, counted[:, used])


class DiceCoefficient(IgnoringMetric):
    """Dice."""

    epsilon: PositiveFloat = key(1e-06, "Smallest denominator.")

    def _compute(self, predicted: np.ndarray, target: np.ndarray) -> float:
        if target.shape != predicted.shape:
            raise DataError(
                "metric.shapes_differ",
                f"DiceCoefficient needs one target channel per prediction channel, but the target has shape {target.shape}",
            )
        return channel_dice(predicted, target, self._counted(target), least=self.epsilon)


class PSNR(MetricOptions):
    """Peak signal-to-noise ratio."""

    def _compute(self, predicted: np.ndarray, target: np.ndarray) -> float:
        low, high = float(target.min()), float(target.max())
        width = high - low if max(-low, high) > 1 else (1.0 if low >= 0 else 2.0)
        return peak_signal_noise_ratio(target, predicted, data_range=width)


class MSE(MetricOptions):
    """Mean squared error."""

    higher_is_better = False

    def _compute(self, predicted: np.ndarray, target: np.ndarray) -> float:
        return mean_squared_error(target, predicted)


# --- object by object --------------------------------------------------------------------------------------------------------------------
#
# A prediction is a map of boundaries or of objects. Each threshold (and channel) gives one segmentation of it, and the best score counts:
#
#   prediction --threshold--> mask --components--> objects --compare with the true labels--> score --best--> score of the sample


def _channel(sample: np.ndarray, number: int) -> np.ndarray:
    if number >= len(sample):
        raise DataError(
            "metric.no_such_channel", f"eval_metric names channel {number}, but the prediction has {len(sample)}, counted from 0"
        )
    return sample[number]


class ObjectMetric(MetricOptions):
    """Keys of metrics that compare objects.

    Attributes:
        of_labels: whether predictions of integers are label images; those of other metrics are always maps.
    """

    of_labels: ClassVar[bool] = False
    thresholds: tuple[float, ...] = key((0.3, 0.4, 0.5, 0.6), "Thresholds of the predicted map; the best score counts.")
    use_last_target: bool = key(False, "Read the labels from the last channel of the target instead of the first.")

    @abstractmethod
    def _segmentations(self, sample: np.ndarray) -> Iterator[np.ndarray]:
        """Label images of a prediction KZYX, of which the best counts."""

    def _true_labels(self, predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The label images of the target, N(Z)YX int64."""
        if target.ndim == predicted.ndim:
            target = target[:, -1 if self.use_last_target else 0]
        return target.astype(np.int64)

    def _objects(self, channel: np.ndarray, *, inverted: bool = False) -> Iterator[np.ndarray]:
        """Connected objects (voxels that share a face) of a map at each threshold; with `inverted` they are where the map is low."""
        if self.of_labels and channel.dtype.kind in "iub":
            yield channel
            return
        for threshold in self.thresholds:
            yield label((channel > threshold) != inverted)[0]


class RandMetric(ObjectMetric):
    """Keys of the adapted Rand errors."""

    higher_is_better = False
    ignore_index: int | None = key(None, "Label whose voxels are ignored, as are those of label 0.")

    def _compute(self, predicted: np.ndarray, target: np.ndarray) -> float:
        """Mean over the samples of the lowest error. Samples without objects have no error and are left out."""
        scores = []
        for sample, truth in zip(predicted, self._true_labels(predicted, target)):
            if self.ignore_index is not None:
                truth = np.where(truth == self.ignore_index, 0, truth)
            if truth.any():
                scores.append(min(adapted_rand_error(truth, found) for found in self._segmentations(sample)))
        # the error is NaN where every object is a single voxel: it has no pairs
        known = [score for score in scores if score == score]
        return float(np.mean(known)) if known else 0.0


class AdaptedRandError(RandMetric):
    """Adapted Rand error of the objects between boundaries."""

    of_labels = True
    input_channel: NonNegativeInt | None = key(None, "Channel of the boundary map; all are tried when left out.")
    invert_pmaps: bool = key(True, "Whether objects are where the map is low.")

    def _segmentations(self, sample: np.ndarray) -> Iterator[np.ndarray]:
        for channel in sample if self.input_channel is None else [_channel(sample, self.input_channel)]:
            yield from self._objects(channel, inverted=self.invert_pmaps)


class BoundaryAdaptedRandError(AdaptedRandError):
    """Adapted Rand error of the objects between boundaries."""

    of_labels = False
    use_last_target: bool = key(True, "Read the labels from the last channel of the target instead of the first.")


class GenericAdaptedRandError(RandMetric):
    """Adapted Rand error of several maps."""

    use_last_target: bool = key(True, "Read the labels from the last channel of the target instead of the first.")
    input_channels: tuple[NonNegativeInt, ...] = key(..., "Channels to try.")
    invert_channels: tuple[NonNegativeInt, ...] = key((), "Those of them that are high on boundaries.")

    def _segmentations(self, sample: np.ndarray) -> Iterator[np.ndarray]:
        for number in self.input_channels:
            channel = _channel(sample, number)
            yield from self._objects(1 - channel if number in self.invert_channels else channel)


class AveragePrecision(ObjectMetric):
    """Average precision of the objects between boundaries."""

    of_labels = True
    min_instance_size: NonNegativeInt | None = key(None, "Objects of fewer voxels are left out on both sides.")
    input_channel: NonNegativeInt = key(0, "Channel of the prediction.")
    metric: Literal["ap", "acc"] = key("ap", "Average over IoU 0.5 to 0.95, or the accuracy at 0.5.")

    def _segmentations(self, sample: np.ndarray) -> Iterator[np.ndarray]:
        return self._objects(_channel(sample, self.input_channel), inverted=True)

    def _compute(self, predicted: np.ndarray, target: np.ndarray) -> float:
        """Mean over the samples of the highest score."""
        scores = []
        for sample, truth in zip(predicted, self._true_labels(predicted, target)):
            true = self._large(truth)
            scores.append(max(self._score(true, self._large(labels)) for labels in self._segmentations(sample)))
        return float(np.mean(scores))

    def _large(self, labels: np.ndarray) -> np.ndarray:
        return labels if self.min_instance_size is None else remove_small(labels, self.min_instance_size)

    def _score(self, truth: np.ndarray, found: np.ndarray) -> float:
        if not truth.any() and not found.any():
            return 1.0  # no object is right where there is none
        return average_precision(truth, found) if self.metric == "ap" else accuracy(truth, found)


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

    def _segmentations(self, sample: np.ndarray) -> Iterator[np.ndarray]:
        return self._objects(_channel(sample, self.input_channel))


class BlobsBoundaryAveragePrecision(BoundaryAveragePrecision):
    """Average precision of the objects of a mask without its boundaries."""

    thresholds: tuple[float, ...] = key((0.3, 0.4, 0.5, 0.6, 0.7), "Thresholds of the predicted map; the best score counts.")

    def _segmentations(self, sample: np.ndarray) -> Iterator[np.ndarray]:
        return self._objects(_channel(sample, 0) - _channel(sample, 1))  # foreground minus boundary


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
