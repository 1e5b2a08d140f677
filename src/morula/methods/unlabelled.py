"""Warnings for training a W-Net without labels: images that are unsuitable, and losses that develop badly.

The rules follow the troubleshooting section of CellSeg3D's documentation of WNet3D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from morula.decoders.statistics import ChannelStatistics
from morula.kernels.components import connected_components
from morula.kernels.smoothing import gaussian_smooth

EMPTY = 0.005
"""Share of voxels in bright objects below which an image counts as almost empty."""
LARGE = 0.05
"""Largest share of the image that one bright region may cover."""
HOLE = 0.6
"""Largest share of the image in boxes without a bright voxel."""
FILL = 0.01
"""Least share of voxels of exactly the smallest value at which this value counts as padding."""
_BOX = 16
"""Edge in voxels of the boxes that are tested for bright voxels."""
_PATIENCE = 5
"""Epochs before the first advice: losses change fast at the start of a training."""


def image_warnings(image: np.ndarray, name: str, spacing: Sequence[float]) -> list[str]:
    """Warnings of images that are almost empty, or have large bright or large empty regions.

    Args:
        image: C(Z)YX; its channels are averaged.
        name: name of the image in the messages.
        spacing: edge lengths of a voxel.

    Examples:
        >>> image_warnings(np.zeros((1, 8, 8), np.float32), "a.tif", (1, 1))
        ['a.tif is empty: all its voxels have the same value. Leave it out.']
    """
    plane = image.mean(axis=0)
    if plane.min() == plane.max():
        return [f"{name} is empty: all its voxels have the same value. Leave it out."]
    bright = bright_voxels(plane, spacing)
    share = float(bright.mean())
    if share < EMPTY and (filled := without_fill(plane)) is not None:
        # a region of one value (padding, dead camera rows) raises the spread of the dark part, and with it the threshold above all objects
        bright = bright_voxels(filled, spacing)
        share = float(bright.mean())
    ids, number = connected_components(bright)
    largest = np.bincount(ids.ravel(), minlength=number + 1)[1:].max(initial=0) / bright.size
    warnings = []
    if share < EMPTY:
        warnings.append(f"{name} is almost empty: bright objects cover {share:.2%} of it. Leave it out, or crop it to the objects.")
    elif empty_share(bright) > HOLE:
        warnings.append(
            f"{name} has large empty regions: {empty_share(bright):.0%} of it is in boxes of {_BOX} voxels without a bright voxel. "
            "Crop it to the objects."
        )
    if largest > LARGE:
        warnings.append(
            f"{name} has a very large bright region of {largest:.0%} of the image, for which the network will use a class of its own. "
            "Crop it away, or set more classes (method.classes)."
        )
    return warnings


def without_fill(plane: np.ndarray) -> np.ndarray | None:
    """The image (Z)YX with its smallest value replaced by the median of the others, `None` where less than 1 % has that value.

    Examples:
        >>> without_fill(np.array([[0.0, 0.0, 5.0, 7.0]])), without_fill(np.arange(200.0).reshape(1, 200)) is None
        (array([[6., 6., 5., 7.]]), True)
    """
    fill = plane == plane.min()
    return np.where(fill, np.median(plane[~fill]), plane) if fill.mean() >= FILL else None


def bright_voxels(plane: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Mask of the bright voxels of an image (Z)YX.

    They are above Otsu's threshold of the smoothed image, and five standard deviations above the mean of its dark part.
    """
    smoothed = gaussian_smooth(plane, 1.0, spacing)
    low, quarter, high = np.percentile(smoothed, (5, 25, 99.8))
    deviation = (quarter - low) / 0.971  # a normal distribution has 0.971 standard deviations between its 5th and 25th percentile
    otsu = ChannelStatistics.of(np.minimum(smoothed, high)[None]).otsu(0)  # clipped, so that a few hot pixels do not set the threshold
    # the 25th percentile is 0.674 standard deviations below the mean
    return smoothed > max(otsu, quarter + 5.674 * deviation)


def empty_share(bright: np.ndarray) -> float:
    """Share of the boxes, of 16 voxels per axis, in which a mask is false everywhere.

    Examples:
        >>> empty_share(np.eye(32, dtype=bool))
        0.5
    """
    for axis, length in enumerate(bright.shape):
        bright = np.logical_or.reduceat(bright, np.arange(0, length, _BOX), axis=axis)
    return float(1 - bright.mean())


def advice_on_balance(history: Sequence[Mapping[str, float]], reconstruction: str) -> list[str]:
    """Advice on the two losses of WNet3D, from the figures of the epochs.

    `history` holds `ncuts` and `reconstruction` (without their weights) and `loss_ncuts`, `loss_reconstruction` (with them).

    Examples:
        >>> epochs = [{"ncuts": 0.5, "reconstruction": 60.0, "loss_ncuts": 0.25, "loss_reconstruction": 0.3}] * 5
        >>> advice_on_balance([*epochs, {**epochs[0], "ncuts": 0.9}], "mse")  # doctest: +ELLIPSIS
        ['the normalised cuts diverge (lowest value 0.5, now 0.9): divide training.optimiser.lr by two, or by ten if that is not enough']
    """
    if len(history) <= _PATIENCE or "ncuts" not in history[-1] or "reconstruction" not in history[-1]:
        return []
    first, last = history[0], history[-1]
    lowest = min(epoch["ncuts"] for epoch in history)
    best = min(epoch["reconstruction"] for epoch in history)
    warnings = []
    if last["ncuts"] > 1.5 * lowest and last["ncuts"] - lowest > 0.2:
        warnings.append(
            f"the normalised cuts diverge (lowest value {lowest:.2g}, now {last['ncuts']:.2g}): "
            "divide training.optimiser.lr by two, or by ten if that is not enough"
        )
    elif last["ncuts"] < 0.8 * first["ncuts"] and last["reconstruction"] > max(0.97 * first["reconstruction"], 1.05 * best):
        warnings.append(
            "the normalised cuts dominate: they fall while the reconstruction gets worse, and classes separate bright from dim "
            "regions; raise method.reconstruction_weight"
        )
    elif last["loss_reconstruction"] < 0.05 * last["loss_ncuts"]:
        warnings.append(
            f"the normalised cuts dominate: they are {_share(last):.0%} of the loss; if the previews show bright and dim regions "
            "instead of objects, raise method.reconstruction_weight"
        )
    if len(history) >= 2 * _PATIENCE and best > 0.9 * first["reconstruction"]:
        other = ", then method.reconstruction: bce with a reconstruction_weight of 0.5" if reconstruction == "mse" else ""
        warnings.append(f"the reconstruction hardly improves: raise method.reconstruction_weight{other}")
    return warnings


def _share(figures: Mapping[str, float]) -> float:
    return figures["loss_ncuts"] / max(figures["loss_ncuts"] + figures["loss_reconstruction"], 1e-12)
