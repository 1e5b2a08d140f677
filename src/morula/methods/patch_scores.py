"""Figures of validation patches while a network trains; see `training.monitor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label

from morula.core.errors import DataError
from morula.labels.size_filter import remove_small
from morula.methods.training_task import Batch, TrainingTask
from morula.metrics.channels import channel_dice, channel_iou
from morula.metrics.matching import average_precision
from morula.metrics.rand import adapted_rand_error
from morula.metrics.restoration import mean_squared_error, peak_signal_noise_ratio
from morula.training.monitors import MSE, PSNR, Dice, IoU, Objects

if TYPE_CHECKING:
    from torch import Tensor

Patchwise = IoU | Dice | MSE | PSNR | Objects
"""Figures that are averaged over patches."""


def patch_scores(monitor: Patchwise, task: TrainingTask, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """The figure of a batch by its kind; voxels without a weight in the loss are left out."""
    predicted, target, weights = (_array(values) for values in (task.activate(outputs), batch["targets"], batch["weights"]))
    labels = np.asarray(batch["labels"].cpu()) if "labels" in batch else None
    return {monitor.kind: figure_of(monitor, predicted, target, weights > 0, labels=labels, exclusive=task.exclusive_channels)}


def figure_of(
    monitor: Patchwise,
    predicted: np.ndarray,
    target: np.ndarray,
    counted: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    exclusive: bool = False,
) -> float:
    """Agreement of predicted channels with their targets.

    Args:
        monitor: the figure.
        predicted: channels NK(Z)YX; for objects, a channel of whole numbers is a label image.
        target: likewise.
        counted: mask that broadcasts to them; the voxels that are compared.
        labels: true objects N(Z)YX.
        exclusive: whether the channels are classes that exclude each other, the background first.

    Raises:
        DataError: for a channel that does not exist.

    Examples:
        >>> predicted, target = np.array([[[[0.9, 0.6, 0.2]]]]), np.array([[[[1, 0, 0]]]])
        >>> figure_of(IoU(), predicted, target, np.ones((1, 1, 1, 3), bool))
        0.5
        >>> figure_of(Objects(thresholds=(0.5, 0.7), iou=(0.5, 0.9)), predicted, target, np.ones((1, 1, 1, 3), bool), labels=target[:, 0])
        1.0
    """
    match monitor:
        case Dice():
            return channel_dice(predicted, target, counted, least=monitor.least)
        case IoU():
            return _iou(monitor, predicted, target, counted, exclusive=exclusive)
        case Objects():
            truth = labels if monitor.truth is None else _channel(target, monitor.truth).astype(np.int64)
            assert truth is not None
            return _objects(monitor, predicted, truth, np.broadcast_to(counted, target.shape).max(axis=1))
    counted = np.broadcast_to(counted, target.shape)
    if not counted.any():
        return 0.0
    true, found = target[counted], predicted[counted]
    if isinstance(monitor, MSE):
        return mean_squared_error(true, found)
    low, high = float(true.min()), float(true.max())
    width = high - low if max(-low, high) > 1 else (1.0 if low >= 0 else 2.0)
    return peak_signal_noise_ratio(true, found, data_range=width)


def _iou(monitor: IoU, predicted: np.ndarray, target: np.ndarray, counted: np.ndarray, *, exclusive: bool) -> float:
    number = predicted.shape[1]
    used = list(range(int(exclusive), number) if monitor.channels is None else monitor.channels)
    if max(used) >= number:
        _channel(predicted, max(used))
    if exclusive:
        classes = np.arange(number).reshape(1, -1, *[1] * (predicted.ndim - 2))
        found = predicted.argmax(axis=1, keepdims=True) == classes
    else:
        found = predicted > 0.5
    return channel_iou(found[:, used], target[:, used] > 0.5, np.broadcast_to(counted, target.shape)[:, used])


def _objects(monitor: Objects, predicted: np.ndarray, labels: np.ndarray, counted: np.ndarray) -> float:
    """Mean over the patches of the best score; errors of patches without pairs of voxels in objects are left out."""
    scores = []
    for sample, truth, known in zip(predicted, labels, counted, strict=True):
        true = np.where(known, truth, 0)
        if monitor.measure == "accuracy":
            true = remove_small(true, monitor.least_size)
            scores.append(max(_accuracy(monitor, true, found) for found in _segmentations(monitor, sample, known)))
        elif true.any():
            scores.append(min(adapted_rand_error(true, found) for found in _segmentations(monitor, sample, known)))
    numbers = [score for score in scores if score == score]
    return float(np.mean(numbers)) if numbers else 0.0


def _accuracy(monitor: Objects, truth: np.ndarray, found: np.ndarray) -> float:
    found = remove_small(found, monitor.least_size)
    return average_precision(truth, found, thresholds=monitor.iou) if truth.any() or found.any() else 1.0


def _segmentations(monitor: Objects, sample: np.ndarray, known: np.ndarray) -> Iterator[np.ndarray]:
    """Label images of a patch K(Z)YX, of which the best counts."""
    for number in range(len(sample)) if monitor.channels is None else monitor.channels:
        values = _channel(sample[None], number)[0]
        if values.dtype.kind in "iub":
            yield np.where(known, values, 0)
            continue
        if monitor.inverted is True or (monitor.inverted and number in monitor.inverted):
            values = 1 - values
        if monitor.minus is not None:
            values = values - _channel(sample[None], monitor.minus)[0]
        for threshold in monitor.thresholds:
            yield np.where(known, label(values > threshold)[0], 0)


def _channel(channels: np.ndarray, number: int) -> np.ndarray:
    if number >= channels.shape[1]:
        rule = f"the score is of channel {number}, but there are {channels.shape[1]}, counted from 0"
        raise DataError("metric.no_such_channel", rule)
    return channels[:, number]


def _array(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().float().cpu().numpy()
    return array
