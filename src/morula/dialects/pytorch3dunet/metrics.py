"""The metrics of pytorch-3dunet by the names that its job files give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from morula.core.errors import DataError
from morula.core.options import Options
from morula.dialects.pytorch3dunet.ignored_keys import read_section, take_name
from morula.metrics.matching import average_precision, match
from morula.metrics.rand import adapted_rand_error
from morula.metrics.restoration import mean_squared_error, peak_signal_noise_ratio


class MetricOptions(Options):
    """What may stand under ``eval_metric`` whatever its name."""

    name: str = "MeanIoU"
    """Name of the metric."""


class DiceOptions(MetricOptions):
    """Options of ``DiceCoefficient``."""

    epsilon: PositiveFloat = 1e-6
    """Least denominator."""

    ignore_index: float | None = None
    """Value of the target of voxels that count nowhere."""


class IoUOptions(MetricOptions):
    """Options of ``MeanIoU``."""

    skip_background: bool = True
    """Leave out class 0 where the target holds class numbers."""

    skip_channels: tuple[NonNegativeInt, ...] = ()
    """Classes to leave out besides, as in versions up to 1.8."""

    ignore_index: float | None = None
    """Value of the target of voxels that count nowhere."""


class RandOptions(MetricOptions):
    """Options of ``AdaptedRandError``."""

    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6)
    """Thresholds of the boundary map, of which the best one counts."""

    use_last_target: bool = False
    """Take the labels from the last channel of the target instead of the first."""

    ignore_index: int | None = None
    """Label whose voxels count nowhere, as do those of label 0."""

    input_channel: NonNegativeInt | None = None
    """Channel that holds the boundary map; without, all are tried."""

    invert_pmaps: bool = True
    """Whether objects are where the map is low."""


class BoundaryRandOptions(RandOptions):
    """Options of ``BoundaryAdaptedRandError``."""

    use_last_target: bool = True
    """Take the labels from the last channel of the target instead of the first."""


class GenericRandOptions(MetricOptions):
    """Options of ``GenericAdaptedRandError``."""

    input_channels: tuple[NonNegativeInt, ...]
    """Channels to try."""

    invert_channels: tuple[NonNegativeInt, ...] = ()
    """Those of them that are high on boundaries."""

    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6)
    """Thresholds, of which the best one counts."""

    use_last_target: bool = True
    """Take the labels from the last channel of the target instead of the first."""

    ignore_index: int | None = None
    """Label whose voxels count nowhere, as do those of label 0."""


class PrecisionOptions(MetricOptions):
    """Options of ``AveragePrecision`` and ``Accuracy``."""

    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6)
    """Thresholds of the boundary map, of which the best one counts."""

    min_instance_size: NonNegativeInt | None = None
    """Objects of fewer voxels are left out on both sides."""

    input_channel: NonNegativeInt = 0
    """Channel of the prediction."""

    use_last_target: bool = False
    """Take the labels from the last channel of the target instead of the first."""

    metric: Literal["ap", "acc"] = "ap"
    """Average over IoU 0.5 to 0.95, or the accuracy at 0.5."""


class AccuracyOptions(PrecisionOptions):
    """Options of ``Accuracy``."""

    metric: Literal["ap", "acc"] = "acc"
    """Average over IoU 0.5 to 0.95, or the accuracy at 0.5."""


class BoundaryPrecisionOptions(PrecisionOptions):
    """Options of ``BoundaryAveragePrecision``."""

    use_last_target: bool = True
    """Take the labels from the last channel of the target instead of the first."""


class BlobsOptions(BoundaryPrecisionOptions):
    """Options of ``BlobsAveragePrecision``."""

    thresholds: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7, 0.8)
    """Thresholds of the foreground map, of which the best one counts."""


class BlobsBoundaryOptions(BoundaryPrecisionOptions):
    """Options of ``BlobsBoundaryAveragePrecision``."""

    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    """Thresholds of foreground minus boundary, of which the best one counts."""


_OF_INSTANCES = ("AdaptedRandError", "AveragePrecision", "Accuracy")
"""Metrics that also score label images, given as integers. The others always score maps."""

Array: TypeAlias = np.ndarray | Tensor
_Score: TypeAlias = Callable[[Any, np.ndarray, np.ndarray], float]


class Metric:
    """A score of predictions against targets, averaged over the batch.

    Attributes:
        name: its name in job files.
        higher_is_better: which way is better; `trainer.eval_score_higher_is_better` ought to agree.
    """

    def __init__(self, options: MetricOptions, score: _Score, higher_is_better: bool) -> None:
        self.name = options.name
        self.options = options
        self.higher_is_better = higher_is_better
        self._score = score

    def __call__(self, prediction: Array, target: Array) -> float:
        """The score.

        Args:
            prediction: NK(Z)YX, after the final activation; `AdaptedRandError`, `AveragePrecision` and `Accuracy` take integers as label
                images.
            target: NC(Z)YX, or N(Z)YX without channels.

        Raises:
            DataError: for shapes that do not fit, or a channel that is not there.
        """
        predicted, true = (
            np.asarray(each.detach().cpu()) if isinstance(each, Tensor) else np.asarray(each) for each in (prediction, target)
        )
        if len(predicted) != len(true) or predicted.shape[2:] != true.shape[1 if true.ndim < predicted.ndim else 2 :]:
            raise DataError(
                "metric.shapes_differ",
                f"the target has shape {true.shape} but the prediction {predicted.shape}; they must be of the same images",
            )
        return self._score(self.options, predicted, true)


def build_metric(config: Mapping[str, Any] | None) -> Metric:
    """The metric that stands under ``eval_metric`` in a job file of pytorch-3dunet; ``MeanIoU`` where nothing stands.

    Raises:
        UnknownNameError: for a metric that does not exist.
        OptionError: for a value that breaks a rule.

    Examples:
        >>> metric = build_metric({"name": "MeanIoU"})
        >>> metric(np.array([[[[0.9, 0.2]], [[0.1, 0.8]]]]), np.array([[[0, 1]]]))
        1.0
    """
    config = {"name": "MeanIoU", **(config or {})}
    kind, score, higher_is_better = METRICS[take_name(config, METRICS, "eval_metric")]
    return Metric(read_section(kind, config, "eval_metric", DEAD), score, higher_is_better)


# --- voxel by voxel ----------------------------------------------------------------------------------------------------------------------


def _counted(target: np.ndarray, ignore: float | None) -> np.ndarray:
    return np.ones(target.shape, bool) if ignore is None else target != ignore


def _dice(options: DiceOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    if target.shape != predicted.shape:
        raise DataError(
            "metric.shapes_differ",
            f"DiceCoefficient needs one target channel per prediction channel, but the target has shape {target.shape}",
        )
    counted = _counted(target, options.ignore_index)
    p, t = (np.moveaxis(np.where(counted, each, 0), 1, 0).reshape(each.shape[1], -1).astype(np.float64) for each in (predicted, target))
    size = (p * p).sum(axis=1) + (t * t).sum(axis=1)
    return float((2 * (p * t).sum(axis=1) / np.maximum(size, options.epsilon)).mean())


def _mean_iou(options: IoUOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    scores = []
    for prediction, truth in zip(predicted, target):
        pairs = [
            _iou(mask, true, counted)
            for number, mask, true, counted in _masks(options, prediction, truth)
            if number not in options.skip_channels
        ]
        if not pairs:
            raise DataError(
                "metric.no_class",
                f"MeanIoU leaves out all {len(prediction)} classes",
                remedy="Set skip_background to false or shorten skip_channels.",
            )
        scores.append(np.mean(pairs))
    return float(np.mean(scores))


def _masks(options: IoUOptions, prediction: np.ndarray, truth: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Number, predicted mask, true mask and counted voxels of each class of one sample."""
    counted = _counted(truth, options.ignore_index)
    if truth.ndim == prediction.ndim:  # a mask a channel
        if len(truth) != len(prediction):
            raise DataError(
                "metric.shapes_differ",
                f"MeanIoU compares channel by channel, but the target has {len(truth)} and the prediction {len(prediction)}",
            )
        for channel, mask in enumerate(prediction):
            yield channel, mask > 0.5, np.trunc(truth[channel]) != 0, counted[channel]
    elif len(prediction) == 1:  # one class against the background
        yield 0, prediction[0] > 0.5, np.trunc(truth) != 0, counted
    else:
        classes = prediction.argmax(axis=0)
        for number in range(int(options.skip_background), len(prediction)):
            yield number, classes == number, truth == number, counted


def _iou(mask: np.ndarray, true: np.ndarray, counted: np.ndarray) -> float:
    union = np.count_nonzero((mask | true) & counted)
    return np.count_nonzero(mask & true & counted) / union if union else 1.0


def _psnr(options: MetricOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    low, high = float(target.min()), float(target.max())
    width = high - low if max(-low, high) > 1 else (1.0 if low >= 0 else 2.0)
    return peak_signal_noise_ratio(target, predicted, data_range=width)


def _mse(options: MetricOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    return mean_squared_error(target, predicted)


# --- object by object --------------------------------------------------------------------------------------------------------------------


def _labels(options: Any, predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The target's label images, N(Z)YX int64."""
    if target.ndim == predicted.ndim:
        target = target[:, -1 if options.use_last_target else 0]
    return target.astype(np.int64)


def _channel(sample: np.ndarray, number: int) -> np.ndarray:
    if number >= len(sample):
        raise DataError(
            "metric.no_such_channel", f"eval_metric asks for channel {number} but the prediction has {len(sample)}, counted from 0"
        )
    return sample[number]


def _components(masks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    from scipy.ndimage import label

    for mask in masks:
        yield label(mask)[0]  # neighbours share a face


def _objects(
    channels: Sequence[np.ndarray], thresholds: Sequence[float], *, inverted: bool = True, instances: bool = False
) -> Iterator[np.ndarray]:
    """Objects of each channel at each threshold. With `instances`, a channel of integers is a label image already."""
    for channel in channels:
        if instances and channel.dtype.kind in "iub":
            yield channel
        else:
            yield from _components((channel > threshold) != inverted for threshold in thresholds)


def _rand(options: RandOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    def objects(sample: np.ndarray) -> Iterator[np.ndarray]:
        channels = list(sample) if options.input_channel is None else [_channel(sample, options.input_channel)]
        return _objects(channels, options.thresholds, inverted=options.invert_pmaps, instances=options.name in _OF_INSTANCES)

    return _least_rand(options, predicted, target, objects)


def _generic_rand(options: GenericRandOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    def objects(sample: np.ndarray) -> Iterator[np.ndarray]:
        for number in options.input_channels:
            channel = _channel(sample, number)
            yield from _objects([1 - channel if number in options.invert_channels else channel], options.thresholds, inverted=False)

    return _least_rand(options, predicted, target, objects)


def _least_rand(options: Any, predicted: np.ndarray, target: np.ndarray, objects: Callable[[np.ndarray], Iterator[np.ndarray]]) -> float:
    """Mean over the samples of the least error; a sample without objects says nothing and is left out."""
    scores = []
    for sample, truth in zip(predicted, _labels(options, predicted, target)):
        if options.ignore_index is not None:
            truth = np.where(truth == options.ignore_index, 0, truth)
        if truth.any():
            scores.append(min(adapted_rand_error(truth, each) for each in objects(sample)))
    told = [score for score in scores if score == score]
    return float(np.mean(told)) if told else 0.0


def _boundary_precision(options: PrecisionOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    def objects(sample: np.ndarray) -> Iterator[np.ndarray]:
        return _objects([_channel(sample, options.input_channel)], options.thresholds, instances=options.name in _OF_INSTANCES)

    return _best_precision(options, predicted, target, objects)


def _blobs_precision(options: BlobsOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    def objects(sample: np.ndarray) -> Iterator[np.ndarray]:
        return _objects([_channel(sample, options.input_channel)], options.thresholds, inverted=False)

    return _best_precision(options, predicted, target, objects)


def _blobs_boundary_precision(options: BlobsBoundaryOptions, predicted: np.ndarray, target: np.ndarray) -> float:
    def objects(sample: np.ndarray) -> Iterator[np.ndarray]:
        inside = _channel(sample, 0) - _channel(sample, 1)
        return _components(inside > threshold for threshold in options.thresholds)

    return _best_precision(options, predicted, target, objects)


def _best_precision(
    options: PrecisionOptions, predicted: np.ndarray, target: np.ndarray, objects: Callable[[np.ndarray], Iterator[np.ndarray]]
) -> float:
    """Mean over the samples of the greatest score; nothing there and nothing found is a perfect answer."""
    scores = []
    for sample, truth in zip(predicted, _labels(options, predicted, target)):
        true = _without_small(truth, options.min_instance_size)
        scores.append(max(_precision(true, _without_small(each, options.min_instance_size), options.metric) for each in objects(sample)))
    return float(np.mean(scores))


def _precision(truth: np.ndarray, found: np.ndarray, metric: Literal["ap", "acc"]) -> float:
    if not truth.any() and not found.any():
        return 1.0
    return average_precision(truth, found) if metric == "ap" else match(truth, found)[0].accuracy


def _without_small(labels: np.ndarray, size: int | None) -> np.ndarray:
    if size is None:
        return labels
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.where((counts < size)[place.reshape(labels.shape)], 0, labels)


METRICS: dict[str, tuple[type[MetricOptions], _Score, bool]] = {
    "MeanIoU": (IoUOptions, _mean_iou, True),
    "DiceCoefficient": (DiceOptions, _dice, True),
    "AdaptedRandError": (RandOptions, _rand, False),
    "BoundaryAdaptedRandError": (BoundaryRandOptions, _rand, False),
    "GenericAdaptedRandError": (GenericRandOptions, _generic_rand, False),
    "AveragePrecision": (PrecisionOptions, _boundary_precision, True),
    "Accuracy": (AccuracyOptions, _boundary_precision, True),
    "BoundaryAveragePrecision": (BoundaryPrecisionOptions, _boundary_precision, True),
    "BlobsAveragePrecision": (BlobsOptions, _blobs_precision, True),
    "BlobsBoundaryAveragePrecision": (BlobsBoundaryOptions, _blobs_boundary_precision, True),
    "PSNR": (MetricOptions, _psnr, True),
    "MSE": (MetricOptions, _mse, False),
}
DEAD = {
    "threshold": "no version since 1.3 reads it. Write thresholds, a list.",
    "use_first_input": "no version since 1.3 reads it. Write input_channel.",
    "save_plots": "no version reads it.",
    "plots_dir": "no version reads it.",
}
