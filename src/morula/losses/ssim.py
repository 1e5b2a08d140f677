"""Structural similarity of images as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from morula.losses.sums import Sums, mean_sums, prepare

WINDOW = 7
_K1, _K2 = 0.01, 0.03
_POOL = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def ssim_sums(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Sums:
    """One minus the structural similarity (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861), meaned; sums over samples add up.

    Windows have 7 voxels an axis (as many as there are where the patch is thinner) and lie inside the patch; values count as far as
    each sample's target ranges.

    Args:
        logits: NC(Z)YX, the predicted image.
        target: NC(Z)YX.
        weight: broadcastable to the logits; windows weigh as the voxel in their middle.

    Raises:
        DataError: for shapes that do not fit.

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
    sample = n / max(1.0, n - 1)
    var_x = sample * (mean(logits.square()) - mean_x.square())
    var_y = sample * (mean(target.square()) - mean_y.square())
    both = sample * (mean(logits * target) - mean_x * mean_y)
    similar = (2 * mean_x * mean_y + a) * (2 * both + b) / ((mean_x.square() + mean_y.square() + a) * (var_x + var_y + b))
    if weight is not None:
        inner = tuple(slice(edge // 2, n - edge // 2) for edge, n in zip(edges, spatial, strict=True))
        weight = weight.expand(weight.shape[0], weight.shape[1], *spatial)[(slice(None), slice(None), *inner)]
    return mean_sums(1 - similar, weight)
