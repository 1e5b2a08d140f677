"""Overlap of predicted channels with their targets in a batch of patches."""

from __future__ import annotations

import numpy as np


def channel_iou(predicted: np.ndarray, target: np.ndarray, counted: np.ndarray | None = None) -> float:
    """Intersection over union of the masks of each sample and channel, averaged over channels, then over samples.

    Args:
        predicted: masks NK(Z)YX.
        target: likewise.
        counted: mask that broadcasts to them; the voxels that are compared. All when left out.

    Returns:
        0 to 1. A channel that is empty in prediction and target counts as 1.

    Examples:
        >>> channel_iou(np.array([[[[True, True, False]]]]), np.array([[[[True, False, False]]]]))
        0.5
    """
    axes = tuple(range(2, predicted.ndim))
    predicted = predicted if counted is None else predicted & counted
    target = target if counted is None else target & counted
    union, common = (np.count_nonzero(mask, axis=axes) for mask in (predicted | target, predicted & target))
    return float(np.where(union > 0, common / np.maximum(union, 1), 1.0).mean())


def channel_dice(predicted: np.ndarray, target: np.ndarray, counted: np.ndarray | None = None, *, least: float = 1e-6) -> float:
    """2 Σ p t / Σ (p² + t²) of each channel over all samples, averaged over channels (V-Net, https://arxiv.org/abs/1606.04797).

    Args:
        predicted: probabilities NK(Z)YX.
        target: likewise.
        counted: mask that broadcasts to them; the voxels that are compared. All when left out.
        least: smallest denominator.

    Returns:
        0 to 1. A channel that is empty in prediction and target counts as 0.

    Examples:
        >>> channel_dice(np.array([[[[1.0, 1.0, 0.0]]]]), np.array([[[[1.0, 0.0, 0.0]]]]))
        0.6666666666666666
    """
    axes = tuple(axis for axis in range(predicted.ndim) if axis != 1)
    p, t = (np.where(True if counted is None else counted, array, 0).astype(np.float64) for array in (predicted, target))
    size = (p * p).sum(axes) + (t * t).sum(axes)
    return float((2 * (p * t).sum(axes) / np.maximum(size, least)).mean())
