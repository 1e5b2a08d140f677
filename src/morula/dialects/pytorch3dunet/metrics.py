"""The metrics of pytorch-3dunet under their names in job files; objects are compared by the native metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from scipy.ndimage import label
from torch import Tensor

from morula.core.errors import DataError
from morula.dialects.pytorch3dunet.keys import Section, table
from morula.labels.size_filter import remove_small
from morula.metrics.matching import accuracy, average_precision
from morula.metrics.rand import adapted_rand_error
from morula.metrics.restoration import mean_squared_error, peak_signal_noise_ratio


class MetricOptions(Section):
    """Keys of every metric.

    Attributes:
        compute: the score, from predictions NK(Z)YX and targets.
        higher_is_better: whether higher is better.
    """

    compute: ClassVar[Callable[[Any, np.ndarray, np.ndarray], float]]
    higher_is_better: ClassVar[bool] = True


_OF_INSTANCES = ("AdaptedRandError", "AveragePrecision", "Accuracy")
"""Metrics that also score label images, given as integers; the others always score maps."""

Array: TypeAlias = np.ndarray | Tensor


class Metric:
    """A score of predictions against targets, averaged over the batch.

    Attributes:
        name: its name in job files.
        higher_is_better: whether higher is better; `trainer.eval_score_higher_is_better` should agree.
    """

    def __init__(self, options: Section) -> None:
        assert isinstance(options, MetricOptions)
        self.name = options.name
        self.options = options
        self.higher_is_better = options.higher_is_better

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
        return self.options.compute(predicted, true)


def build_metric(config: Mapping[str, Any] | None) -> Metric:
    """The metric of the section ``eval_metric`` of a job file of pytorch-3dunet; ``MeanIoU`` where it is missing.

    Raises:
        UnknownNameError: for a metric that does not exist.
        OptionError: for a value that breaks a rule.

    Examples:
        >>> metric = build_metric({"name": "MeanIoU"})
        >>> metric(np.array([[[[0.9, 0.2]], [[0.1, 0.8]]]]), np.array([[[0, 1]]]))
        1.0
    """
    return Metric(METRICS.read({"name": "MeanIoU", **(config or {})}, "eval_metric"))


# --- voxel by voxel ----------------------------------------------------------------------------------------------------------------------


def _counted(target: np.ndarray, ignore: float | None) -> np.ndarray:
    return np.ones(target.shape, bool) if ignore is None else target != ignore


def _dice(options: Section, predicted: np.ndarray, target: np.ndarray) -> float:
    if target.shape != predicted.shape:
        raise DataError(
            "metric.shapes_differ",
            f"DiceCoefficient needs one target channel per prediction channel, but the target has shape {target.shape}",
        )
    counted = _counted(target, options.ignore_index)
    p, t = (np.moveaxis(np.where(counted, array, 0), 1, 0).reshape(array.shape[1], -1).astype(np.float64) for array in (predicted, target))
    size = (p * p).sum(axis=1) + (t * t).sum(axis=1)
    return float((2 * (p * t).sum(axis=1) / np.maximum(size, options.epsilon)).mean())


def _mean_iou(options: Section, predicted: np.ndarray, target: np.ndarray) -> float:
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


def _masks(options: Section, prediction: np.ndarray, truth: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Number, predicted mask, true mask and counted voxels of each class of one sample."""
    counted = _counted(truth, options.ignore_index)
    if truth.ndim == prediction.ndim:  # one mask per channel
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


def _psnr(options: Section, predicted: np.ndarray, target: np.ndarray) -> float:
    low, high = float(target.min()), float(target.max())
    width = high - low if max(-low, high) > 1 else (1.0 if low >= 0 else 2.0)
    return peak_signal_noise_ratio(target, predicted, data_range=width)


def _mse(options: Section, predicted: np.ndarray, target: np.ndarray) -> float:
    return mean_squared_error(target, predicted)


# --- object by object --------------------------------------------------------------------------------------------------------------------
#
# A prediction is a map of boundaries or of objects. Each threshold (and channel) gives one segmentation of it, and the best score counts:
#
#   prediction --threshold--> mask --components--> objects --compare with the true labels--> score --best--> score of the sample


def _true_labels(options: Section, predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The label images of the target, N(Z)YX int64."""
    if target.ndim == predicted.ndim:
        target = target[:, -1 if options.use_last_target else 0]
    return target.astype(np.int64)


def _channel(sample: np.ndarray, number: int) -> np.ndarray:
    if number >= len(sample):
        raise DataError(
            "metric.no_such_channel", f"eval_metric names channel {number}, but the prediction has {len(sample)}, counted from 0"
        )
    return sample[number]


def _objects(channel: np.ndarray, thresholds: Sequence[float], *, inverted: bool) -> Iterator[np.ndarray]:
    """Connected objects (voxels that share a face) of a map at each threshold; with `inverted` they are where the map is low."""
    for threshold in thresholds:
        yield label((channel > threshold) != inverted)[0]


def _boundary_objects(options: Section, channel: np.ndarray, *, inverted: bool = True) -> Iterator[np.ndarray]:
    """Objects of a boundary map, or the labels themselves where the metric scores label images and was given one."""
    if options.name in _OF_INSTANCES and channel.dtype.kind in "iub":
        return iter([channel])
    return _objects(channel, options.thresholds, inverted=inverted)


def _rand(options: Section, predicted: np.ndarray, target: np.ndarray) -> float:
    def objects(sample: np.ndarray) -> Iterator[np.ndarray]:
        channels = sample if options.input_channel is None else [_channel(sample, options.input_channel)]
        for channel in channels:
            yield from _boundary_objects(options, channel, inverted=options.invert_pmaps)

    return _lowest_rand(options, options.ignore_index, predicted, target, objects)


def _generic_rand(options: Section, predicted: np.ndarray, target: np.ndarray) -> float:
    def objects(sample: np.ndarray) -> Iterator[np.ndarray]:
        for number in options.input_channels:
            channel = _channel(sample, number)
            yield from _objects(1 - channel if number in options.invert_channels else channel, options.thresholds, inverted=False)

    return _lowest_rand(options, options.ignore_index, predicted, target, objects)


def _lowest_rand(
    options: Section,
    ignored: int | None,
    predicted: np.ndarray,
    target: np.ndarray,
    objects: Callable[[np.ndarray], Iterator[np.ndarray]],
) -> float:
    """Mean over the samples of the lowest error. Samples without objects have no error and are left out."""
    scores = []
    for sample, truth in zip(predicted, _true_labels(options, predicted, target)):
        if ignored is not None:
            truth = np.where(truth == ignored, 0, truth)
        if truth.any():
            scores.append(min(adapted_rand_error(truth, found) for found in objects(sample)))
    # the error is NaN where every object is a single voxel: it has no pairs
    known = [score for score in scores if score == score]
    return float(np.mean(known)) if known else 0.0


def _precision(options: Section, predicted: np.ndarray, target: np.ndarray) -> float:
    """Mean over the samples of the highest score."""
    scores = []
    for sample, truth in zip(predicted, _true_labels(options, predicted, target)):
        match options.name:
            case "BlobsAveragePrecision":
                found = _objects(_channel(sample, options.input_channel), options.thresholds, inverted=False)
            case "BlobsBoundaryAveragePrecision":  # foreground minus boundary
                found = _objects(_channel(sample, 0) - _channel(sample, 1), options.thresholds, inverted=False)
            case _:
                found = _boundary_objects(options, _channel(sample, options.input_channel))
        true = _large(truth, options.min_instance_size)
        scores.append(max(_precision_of(true, _large(labels, options.min_instance_size), options.metric) for labels in found))
    return float(np.mean(scores))


def _large(labels: np.ndarray, size: int | None) -> np.ndarray:
    return labels if size is None else remove_small(labels, size)


def _precision_of(truth: np.ndarray, found: np.ndarray, metric: Literal["ap", "acc"]) -> float:
    if not truth.any() and not found.any():
        return 1.0  # no object is right where there is none
    return average_precision(truth, found) if metric == "ap" else accuracy(truth, found)


METRICS = table(
    "eval_metric",
    {
        "MeanIoU": {"compute": _mean_iou},
        "DiceCoefficient": {"compute": _dice},
        "AdaptedRandError": {"compute": _rand},
        "BoundaryAdaptedRandError": {"compute": _rand},
        "GenericAdaptedRandError": {"compute": _generic_rand},
        "AveragePrecision": {"compute": _precision},
        "Accuracy": {"compute": _precision},
        "BoundaryAveragePrecision": {"compute": _precision},
        "BlobsAveragePrecision": {"compute": _precision},
        "BlobsBoundaryAveragePrecision": {"compute": _precision},
        "PSNR": {"compute": _psnr},
        "MSE": {"compute": _mse},
    },
    base=MetricOptions,
)
