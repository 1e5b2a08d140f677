"""Structural similarity of images as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from morula.losses.sums import Sums, mean_sums, prepare

WINDOW = 7
"""Edge of the window in voxels."""

_K1, _K2 = 0.01, 0.03  # stabilisers of the paper, in units of the target's range
_POOL = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def ssim_sums(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Sums:
    """1 - SSIM (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861), averaged over windows and channels.

    Per window, with means m, sample variances s² and covariance s_xy of prediction x and target y, and a range R of the target::

        SSIM = (2 m_x m_y + (0.01 R)²) (2 s_xy + (0.03 R)²) / ((m_x² + m_y² + (0.01 R)²) (s_x² + s_y² + (0.03 R)²))

    Windows have 7 voxels per axis (the largest odd number that fits, where the patch is thinner) and lie inside the patch. R is
    measured per sample.

    Args:
        logits: NC(Z)YX, the predicted image.
        target: NC(Z)YX.
        weight: broadcastable to the logits; a window has the weight of its central voxel.

    Returns:
        Parts (2, C): Σ w loss and Σ w over windows.

    Raises:
        DataError: when target or weight do not fit the prediction.

    Examples:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> round(float(ssim_sums(image, image).total), 6)
        0.0
    """
    logits, target, weight = prepare(logits, target, weight, None)
    spatial = target.shape[2:]
    edges = [min(WINDOW, n - (n + 1) % 2) for n in spatial]
    axes = tuple(range(1, target.ndim))
    width = (target.amax(dim=axes, keepdim=True) - target.amin(dim=axes, keepdim=True)).clamp_min(1e-6)
    a, b = (_K1 * width) ** 2, (_K2 * width) ** 2

    def mean(values: Tensor) -> Tensor:
        pooled: Tensor = _POOL[len(spatial)](values, edges, stride=1)
        return pooled

    mean_x, mean_y = mean(logits), mean(target)
    n = float(torch.tensor(edges).prod())
    sample = n / max(1.0, n - 1)  # from the variance of a population to that of a sample
    var_x = sample * (mean(logits.square()) - mean_x.square())
    var_y = sample * (mean(target.square()) - mean_y.square())
    covariance = sample * (mean(logits * target) - mean_x * mean_y)
    similarity = (2 * mean_x * mean_y + a) * (2 * covariance + b) / ((mean_x.square() + mean_y.square() + a) * (var_x + var_y + b))
    if weight is not None:
        inner = tuple(slice(edge // 2, n - edge // 2) for edge, n in zip(edges, spatial, strict=True))
        weight = weight.expand(weight.shape[0], weight.shape[1], *spatial)[(slice(None), slice(None), *inner)]
    return mean_sums(1 - similarity, weight)
