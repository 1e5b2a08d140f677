"""The form of a prediction in the file: channels, one channel, or classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from morula.core.array import ArraySource
from morula.dialects.pytorch3dunet.sections import PredictorOptions

CHUNK = 64  # longest edge of a chunk in a file, voxels


def layout(options: PredictorOptions, channels: int, shape: Sequence[int]) -> tuple[tuple[int, ...], str, str]:
    """Shape, data type and axes of the output data set.

    Examples:
        >>> from morula.dialects.pytorch3dunet.sections import PredictorOptions
        >>> layout(PredictorOptions(), 2, (8, 64, 64))
        ((2, 8, 64, 64), 'float32', 'CZYX')
        >>> layout(PredictorOptions(save_segmentation=True), 2, (8, 64, 64))
        ((8, 64, 64), 'uint16', 'ZYX')
    """
    if options.save_segmentation:
        return tuple(shape), "uint16", "ZYX"
    return (channels if options.prediction_channel is None else 1, *shape), "float32", "CZYX"


def chunks(axes: str, shape: Sequence[int], stride: Sequence[int] | None) -> tuple[int, ...]:
    """Chunk shape that divides the strides of the patches, so that no chunk is written twice where patches do not overlap.

    Examples:
        >>> chunks("CZYX", (100, 512, 40), (80, 170, 97))
        (1, 40, 34, 40)
    """
    edges = []
    for n, step in zip(shape, stride or shape, strict=True):
        # chunks below a quarter of the usual edge would be slow to read
        divisors = [edge for edge in range(CHUNK // 4, CHUNK + 1) if step % edge == 0]
        edges.append(min(n, max(divisors, default=CHUNK)))
    return (1,) * (len(axes) - len(edges)) + tuple(edges)


def classes(values: np.ndarray) -> np.ndarray:
    """Class of each voxel of channels KZYX, uint16: the highest channel; for a single channel, whether it is above 0.5.

    Examples:
        >>> classes(np.array([[[[0.2, 0.9]]]])).tolist(), classes(np.array([[[[0.2, 0.9]]], [[[0.8, 0.1]]]])).tolist()
        ([[[0, 1]]], [[[1, 0]]])
    """
    if len(values) == 1:
        return (values[0] > 0.5).astype(np.uint16)
    return values.argmax(axis=0).astype(np.uint16)


class WritableArray(Protocol):
    """An array that is written box by box, in memory or in a file."""

    def __setitem__(self, key: tuple[slice, ...], values: np.ndarray, /) -> None: ...


class Sink:
    """Takes channels KZYX box by box and writes the classes or the chosen channel to an array with the shape of `layout`."""

    def __init__(self, target: WritableArray, options: PredictorOptions, channels: int, shape: Sequence[int]) -> None:
        self.shape = (channels, *shape)
        self._target, self._options = target, options

    def __setitem__(self, key: tuple[slice, ...], values: np.ndarray) -> None:
        channel = self._options.prediction_channel
        if self._options.save_segmentation:
            self._target[key[1:]] = classes(values)
        else:
            self._target[key] = values if channel is None else values[channel : channel + 1]


def class_scores(
    options: PredictorOptions, prediction: ArraySource, truth: ArraySource, channels: int, score: Callable[[np.ndarray, np.ndarray], float]
) -> list[float]:
    """Score of each class: of probabilities with Dice, of decisions with the intersection over union; NaN where a class is absent.

    Args:
        options: how the prediction was stored.
        prediction: what was stored, CZYX.
        truth: class numbers (1, Z, Y, X), or one mask per channel.
        channels: of the network.
        score: of a predicted and a true mask ZYX.
    """
    found = []
    for predicted, true in _pairs(options, prediction, np.asarray(truth[(slice(None),) * 4]), channels):
        found.append(float("nan") if not (true.any() or predicted.any()) else score(predicted, true))
    return found


def _pairs(options: PredictorOptions, prediction: ArraySource, truth: np.ndarray, channels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Predicted and true mask of each class. Class 0 of several is the background, unless the truth has one mask per channel."""
    one = options.prediction_channel
    masks = len(truth) == channels > 1
    names = [one] if one is not None else [0] if channels == 1 else range(channels) if masks else range(1, channels)
    hard = options.performance_metric == "mean_iou"
    # decisions need all channels at once; single masks are read channel by channel
    decided = None
    if options.save_segmentation or (hard and one is None and channels > 1 and not masks):
        values = np.asarray(prediction[(slice(None),) * 4])
        decided = values[0] if options.save_segmentation else classes(values)
    for name in names:
        true = truth[name] != 0 if masks else truth[0] != 0 if channels == 1 else truth[0] == name
        if decided is not None:
            predicted = decided != 0 if channels == 1 else decided == name
        else:
            channel = 0 if one is not None else name
            values = np.asarray(prediction[channel : channel + 1, :, :, :])[0]
            predicted = values > 0.5 if hard else values
        yield predicted, true
