"""Soft normalised cuts: segmentation losses without labels.

An image is seen as a graph: voxels are nodes, and an edge is the heavier the closer two voxels are in space and intensity. A
normalised cut (Shi and Malik 2000) divides the graph into classes that are strongly connected inside and weakly between::

    loss = K - Σ_k assoc(k, k) / assoc(k, all),     assoc(a, b) = Σ_{u, v} p_a(u) w(u, v) p_b(v)

`soft_ncuts_pairwise` computes this exactly; `soft_ncuts` is the approximation of CellSeg3D, with the mean intensity of a class in
place of the second voxel's, which turns the sum over pairs into one separable convolution.
"""

from __future__ import annotations

from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from morula.core.errors import DataError, OptionError
from morula.losses.sums import Sums, at_least_float32, plain_loss


class _Context(Protocol):
    """What torch hands to the two passes of a `torch.autograd.Function`."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


def soft_ncuts_sums(
    image: Tensor, probabilities: Tensor, *, intensity_sigma: float = 1.0, spatial_sigma: float = 4.0, radius: int = 2
) -> Sums:
    """Soft normalised cuts in CellSeg3D's approximation (Achard et al. 2024, https://doi.org/10.7554/eLife.99848).

    The number of classes minus, per class, the share of its neighbourhood that belongs to it. The neighbourhood of a voxel is a cube
    with a Gaussian weight of the distance, times w = exp(-D² / intensity_sigma²), where D is the squared difference between voxel
    intensities and the mean intensities of the class. Averaged over the batch; 0 for a perfect partition, the number of classes - 1
    where all voxels are in one class. Where the mean of a class is far from all intensities, w and with it all gradients vanish: raise
    intensity_sigma. Gradients flow to both arguments. A large radius costs little more than a small one.

    Args:
        image: NC(Z)YX, usually scaled to 0 to 100.
        probabilities: NK(Z)YX, one channel per class, for example after a softmax.
        intensity_sigma: width of w, in squared units of intensity.
        spatial_sigma: standard deviation of the Gaussian, in voxels.
        radius: half the edge of the cube, in voxels.

    Returns:
        Parts (2,): sum of the losses of the samples, and their number. `soft_ncuts` gives the value.

    Raises:
        DataError: when the shapes of image and probabilities do not fit.
        OptionError: for widths that are not above 0 or a negative radius.

    Examples:
        >>> image = torch.tensor([[[0.0, 0, 0, 9, 9, 9]] * 6])[None]
        >>> split = torch.cat([image < 5, image > 5], dim=1).float()
        >>> round(float(soft_ncuts(image, split)), 4)
        0.0
        >>> round(float(soft_ncuts(image, torch.full_like(split, 0.5), intensity_sigma=50)), 4)
        1.0
    """
    image, probabilities = _checked(image, probabilities, intensity_sigma, spatial_sigma, radius)
    axes = tuple(range(2, probabilities.ndim))
    mean = (image[:, None] * probabilities[:, :, None]).mean(dim=tuple(axis + 1 for axis in axes), keepdim=True)
    # 1e-5 and 1e-6 below are CellSeg3D's; they keep classes without voxels finite
    mean = mean / (probabilities.mean(dim=axes, keepdim=True) + 1e-5)[:, :, None]
    distance = (image[:, None] - mean).square().sum(dim=2)
    near = torch.exp(-(distance.square()) / intensity_sigma**2)
    # the kernel is symmetric: Σ p G*(p w) = Σ (G*p) p w and Σ p G*w = Σ (G*p) w, one convolution instead of two
    with torch.autocast(image.device.type, enabled=False):  # its products would be in half precision
        around = _smoothed(probabilities, spatial_sigma, radius) * near
    inner, outer = (around * probabilities).sum(dim=axes), around.sum(dim=axes)
    loss = probabilities.shape[1] - (inner / (outer + 1e-6)).sum(dim=1)
    return Sums(torch.stack([loss.sum(), loss.new_tensor(float(len(loss)))]), _mean)


soft_ncuts = plain_loss(soft_ncuts_sums)
"""Soft normalised cuts (CellSeg3D) as a scalar; arguments of `soft_ncuts_sums`."""


def soft_ncuts_pairwise_sums(
    image: Tensor, probabilities: Tensor, *, intensity_sigma: float = 1.0, spatial_sigma: float = 4.0, radius: int = 2
) -> Sums:
    """Soft normalised cuts over pairs of voxels, as W-Net defines them (Xia and Kulis 2017, https://arxiv.org/abs/1711.08506).

    A pair of voxels at most `radius` apart has the weight exp(-|ΔI|² / intensity_sigma²) exp(-|Δx|² / spatial_sigma²); a voxel also
    forms a pair with itself. The loss is the number of classes minus, per class, the association within it over its association
    with all voxels, averaged over the batch. The gradient is computed in closed form, for the probabilities alone, so that nothing is
    stored per pair.

    Args:
        image: NC(Z)YX; receives no gradient.
        probabilities: NK(Z)YX, one channel per class.
        intensity_sigma: width of the intensity weight, in units of intensity.
        spatial_sigma: width of the distance weight, in voxels.
        radius: largest distance of a pair, in voxels.

    Returns:
        Parts (2,): sum of the losses of the samples, and their number. `soft_ncuts_pairwise` gives the value.

    Raises:
        DataError: when the shapes of image and probabilities do not fit.
        OptionError: for widths that are not above 0 or a negative radius.

    Examples:
        >>> image = torch.tensor([[[0.0, 0, 0, 9, 9, 9]] * 6])[None]
        >>> split = torch.cat([image < 5, image > 5], dim=1).float()
        >>> round(float(soft_ncuts_pairwise(image, split)), 4)
        0.0
    """
    image, probabilities = _checked(image, probabilities, intensity_sigma, spatial_sigma, radius)
    loss: Tensor = _Pairwise.apply(image.detach(), probabilities, intensity_sigma, spatial_sigma, radius)
    samples = float(len(probabilities))
    return Sums(torch.stack([loss * samples, loss.new_tensor(samples)]), _mean)


soft_ncuts_pairwise = plain_loss(soft_ncuts_pairwise_sums)
"""Soft normalised cuts (W-Net) as a scalar; arguments of `soft_ncuts_pairwise_sums`."""


def _mean(parts: Tensor) -> Tensor:
    return parts[0] / parts[1]


def _checked(image: Tensor, probabilities: Tensor, intensity_sigma: float, spatial_sigma: float, radius: int) -> tuple[Tensor, Tensor]:
    if len(image) != len(probabilities) or image.ndim != probabilities.ndim or image.shape[2:] != probabilities.shape[2:]:
        raise DataError(
            "loss.target_shape",
            f"image and probabilities must have the same samples and voxels; the image has the shape {tuple(image.shape)}",
            key="probabilities",
            value=tuple(probabilities.shape),
        )
    for name, value in (("intensity_sigma", intensity_sigma), ("spatial_sigma", spatial_sigma)):
        if value <= 0:
            raise OptionError("loss.sigma", "must be above 0", key=name, value=value)
    if radius < 0:
        raise OptionError("loss.radius", "must be 0 or more voxels", key="radius", value=radius)
    dtype = torch.promote_types(at_least_float32(image).dtype, at_least_float32(probabilities).dtype)
    return image.to(dtype), probabilities.to(dtype)


def _smoothed(values: Tensor, sigma: float, radius: int) -> Tensor:
    """Sum over a cube with the weights of a Gaussian that is 1 at the centre; zeros beyond the border. NK(Z)YX to NK(Z)YX.

    Computed axis by axis as a product with the band matrix of the convolution: faster on a CPU than a convolution with a long kernel,
    and the matrix is symmetric, so the gradient is the same product.
    """
    for axis in range(2, values.ndim):
        band = _band(values.shape[axis], sigma, radius, values)
        before = values.shape[:axis].numel()
        columns = values.shape[axis + 1 :].numel()
        flat = values.reshape(before, values.shape[axis], columns)
        smoothed = flat[..., 0] @ band if columns == 1 else torch.matmul(band, flat)
        values = smoothed.reshape(values.shape)
    return values


def _band(length: int, sigma: float, radius: int, like: Tensor) -> Tensor:
    """Matrix (length, length) of a truncated Gaussian convolution along one axis."""
    position = torch.arange(length, device=like.device, dtype=like.dtype)
    distance = (position[:, None] - position).abs()
    return torch.exp(-distance.square() / (2 * sigma**2)) * (distance <= radius)


class _Pairwise(torch.autograd.Function):
    """Loss over pairs with a gradient in closed form.

    With A = W p and the degrees d = W 1, the ratio r = Σ p A / Σ p d of a class has the gradient (2 A - r d) / Σ p d in p.
    """

    @staticmethod
    def forward(ctx: _Context, image: Tensor, probabilities: Tensor, intensity_sigma: float, spatial_sigma: float, radius: int) -> Tensor:
        associated, degree = _associations(image, probabilities, intensity_sigma, spatial_sigma, radius)
        axes = tuple(range(2, probabilities.ndim))
        total = (probabilities * degree).sum(dim=axes, keepdim=True)
        # a class without voxels: its ratio counts as 0, and its gradient stays finite
        present = total > 0
        safe = torch.where(present, total, torch.ones_like(total))
        ratio = (probabilities * associated).sum(dim=axes, keepdim=True) / safe
        ctx.save_for_backward(associated, degree, ratio, safe)
        return probabilities.shape[1] - ratio.sum() / len(ratio)

    @staticmethod
    def backward(ctx: _Context, *upstream: Tensor) -> tuple[None, Tensor, None, None, None]:
        associated, degree, ratio, total = ctx.saved_tensors
        gradient = (ratio * degree - 2 * associated) / total
        return None, gradient * (upstream[0] / len(ratio)), None, None, None


def _associations(image: Tensor, probabilities: Tensor, intensity_sigma: float, spatial_sigma: float, radius: int) -> tuple[Tensor, Tensor]:
    """W p, NK(Z)YX, and W 1, N1(Z)YX, summed over offsets between voxels.

    W is symmetric, so each offset adds to both voxels of its pairs, and half of the offsets are enough.
    """
    associated, degree = probabilities.clone(), torch.ones_like(image[:, :1])
    shape = image.shape[2:]
    zero = (0,) * len(shape)
    for offset in product(range(-radius, radius + 1), repeat=len(shape)):
        squared = sum(step**2 for step in offset)
        if offset <= zero or squared > radius**2 or any(abs(step) >= n for step, n in zip(offset, shape, strict=True)):
            continue
        first = (slice(None), slice(None), *(slice(max(-step, 0), n - max(step, 0)) for step, n in zip(offset, shape, strict=True)))
        second = (slice(None), slice(None), *(slice(max(step, 0), n + min(step, 0)) for step, n in zip(offset, shape, strict=True)))
        weight = (image[first] - image[second]).square().sum(dim=1, keepdim=True)
        weight.div_(-(intensity_sigma**2)).sub_(squared / spatial_sigma**2).exp_()
        associated[first].addcmul_(weight, probabilities[second])
        associated[second].addcmul_(weight, probabilities[first])
        degree[first].add_(weight)
        degree[second].add_(weight)
    return associated, degree
