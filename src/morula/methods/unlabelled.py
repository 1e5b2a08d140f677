"""What to warn of when a W-Net learns without labels: images that are unfit for it, and losses that go astray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from morula.decoders.statistics import ChannelStatistics
from morula.kernels.components import connected_components
from morula.kernels.smoothing import gaussian_smooth

EMPTY = 0.005
"""Share of voxels in bright objects below which an image counts as almost empty."""
LARGE = 0.05
"""Share of the image that one bright region may take."""
HOLE = 0.6
"""Share of the image that may lie in boxes without any bright voxel."""
FILL = 0.01
"""Share of voxels of exactly the smallest value from which that value counts as padding."""
_BOX = 16
_PATIENCE = 5


def image_warnings(image: np.ndarray, name: str, spacing: Sequence[float]) -> list[str]:
    """What WNet3D's document says to avoid: images that are almost empty, have large bright regions, or large empty ones.

    Args:
        image: C(Z)YX; the mean of its channels is looked at.
        name: what messages call it.
        spacing: edge lengths of a voxel.

    Examples:
        >>> image_warnings(np.zeros((1, 8, 8), np.float32), "a.tif", (1, 1))
        ['a.tif is empty: all its voxels are alike, so there is nothing to learn. Leave it out.']
    """
    plane = image.mean(axis=0)
    if plane.min() == plane.max():
        return [f"{name} is empty: all its voxels are alike, so there is nothing to learn. Leave it out."]
    bright = bright_voxels(plane, spacing)
    share = float(bright.mean())
    if share < EMPTY and (filled := without_fill(plane)) is not None:
        # a region of one value (padding, dead camera rows) widens the spread of the dark part, so that no object stands out
        bright = bright_voxels(filled, spacing)
        share = float(bright.mean())
    ids, number = connected_components(bright)
    largest = np.bincount(ids.ravel(), minlength=number + 1)[1:].max(initial=0) / bright.size
    said = []
    if share < EMPTY:
        said.append(f"{name} is almost empty: bright objects take {share:.2%} of it. Leave it out, or crop it to where objects are.")
    elif empty_share(bright) > HOLE:
        said.append(
            f"{name} has large empty regions: {empty_share(bright):.0%} of it lies in boxes of {_BOX} voxels without a bright voxel. "
            "Crop it to where objects are."
        )
    if largest > LARGE:
        said.append(
            f"{name} has a very large bright region of {largest:.0%} of the image, which takes a class for itself. "
            "Crop it away, or give more classes (method.classes)."
        )
    return said


def without_fill(plane: np.ndarray) -> np.ndarray | None:
    """The image (Z)YX with its smallest value replaced by the median of the others, `None` where less than 1 % has that value.

    Examples:
        >>> without_fill(np.array([[0.0, 0.0, 5.0, 7.0]])), without_fill(np.arange(200.0).reshape(1, 200)) is None
        (array([[6., 6., 5., 7.]]), True)
    """
    fill = plane == plane.min()
    return np.where(fill, np.median(plane[~fill]), plane) if fill.mean() >= FILL else None


def bright_voxels(plane: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """What is brighter than Otsu's threshold of the smoothed image (Z)YX, and than its dark part by five standard deviations of that."""
    smoothed = gaussian_smooth(plane, 1.0, spacing)
    low, quarter, high = np.percentile(smoothed, (5, 25, 99.8))
    deviation = (quarter - low) / 0.971  # of a normal distribution, between these two
    otsu = ChannelStatistics.of(np.minimum(smoothed, high)[None]).otsu(0)  # a few hot pixels must not set it
    return smoothed > max(otsu, quarter + 5.674 * deviation)


def empty_share(bright: np.ndarray) -> float:
    """Share of the boxes of 16 voxels an axis that hold nothing of a mask.

    Examples:
        >>> empty_share(np.eye(32, dtype=bool))
        0.5
    """
    for axis, length in enumerate(bright.shape):
        bright = np.logical_or.reduceat(bright, np.arange(0, length, _BOX), axis=axis)
    return float(1 - bright.mean())


def advice_on_balance(history: Sequence[Mapping[str, float]], reconstruction: str) -> list[str]:
    """Troubleshooting of WNet3D's document, when the figures of the epochs call for it.

    `history` holds `ncuts` and `reconstruction` (without their weights) and `loss_ncuts`, `loss_reconstruction` (with them).

    Examples:
        >>> epochs = [{"ncuts": 0.5, "reconstruction": 60.0, "loss_ncuts": 0.25, "loss_reconstruction": 0.3}] * 5
        >>> advice_on_balance([*epochs, {**epochs[0], "ncuts": 0.9}], "mse")  # doctest: +ELLIPSIS
        ['the normalised cuts explode (0.5 at their best, now 0.9): lower training.optimiser.lr, by two first, then by ten']
    """
    if len(history) <= _PATIENCE or "ncuts" not in history[-1] or "reconstruction" not in history[-1]:
        return []
    first, last = history[0], history[-1]
    lowest = min(epoch["ncuts"] for epoch in history)
    best = min(epoch["reconstruction"] for epoch in history)
    said = []
    if last["ncuts"] > 1.5 * lowest and last["ncuts"] - lowest > 0.2:
        said.append(
            f"the normalised cuts explode ({lowest:.2g} at their best, now {last['ncuts']:.2g}): "
            "lower training.optimiser.lr, by two first, then by ten"
        )
    elif last["ncuts"] < 0.8 * first["ncuts"] and last["reconstruction"] > max(0.97 * first["reconstruction"], 1.05 * best):
        said.append(
            "the normalised cuts are taking over: they fall while the reconstruction gets worse, and classes part bright from dim "
            "regions; raise method.reconstruction_weight"
        )
    elif last["loss_reconstruction"] < 0.05 * last["loss_ncuts"]:
        said.append(
            f"the normalised cuts are taking over: they make {_share(last):.0%} of the loss; if the previews show bright and dim regions "
            "instead of objects, raise method.reconstruction_weight"
        )
    if len(history) >= 2 * _PATIENCE and best > 0.9 * first["reconstruction"]:
        other = ", then method.reconstruction: bce with a reconstruction_weight of 0.5" if reconstruction == "mse" else ""
        said.append(f"the reconstruction hardly improves: raise method.reconstruction_weight{other}")
    return said


def _share(figures: Mapping[str, float]) -> float:
    return figures["loss_ncuts"] / max(figures["loss_ncuts"] + figures["loss_reconstruction"], 1e-12)
