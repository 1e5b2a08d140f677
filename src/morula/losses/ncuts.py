"""Soft normalised cuts: a segmentation loss without labels."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor

from morula.core.errors import DataError, OptionError
from morula.losses.sums import Sums, at_least_float32


def soft_ncuts_sums(
    image: Tensor, probabilities: Tensor, *, intensity_sigma: float = 1.0, spatial_sigma: float = 4.0, radius: int = 2
) -> Sums:
    """Sums of `soft_ncuts`; parts (2,): Σ loss of the samples, and their number."""
    image, probabilities = _checked(image, probabilities, intensity_sigma, spatial_sigma, radius)
    axes = tuple(range(2, probabilities.ndim))
    mean = (image[:, None] * probabilities[:, :, None]).mean(dim=tuple(axis + 1 for axis in axes), keepdim=True)
    mean = mean / (probabilities.mean(dim=axes, keepdim=True) + 1e-5)[:, :, None]
    distance = (image[:, None] - mean).square().sum(dim=2)
    near = torch.exp(-(distance.square()) / intensity_sigma**2)
    # the kernel is symmetric: Σ p G*(p w) = Σ (G*p) p w and Σ p G*w = Σ (G*p) w, one convolution instead of two
    with torch.autocast(image.device.type, enabled=False):  # its products would be in half precision
        around = _smoothed(probabilities, spatial_sigma, radius) * near
    inner, outer = (around * probabilities).sum(dim=axes), around.sum(dim=axes)
    loss = probabilities.shape[1] - (inner / (outer + 1e-6)).sum(dim=1)
    return Sums(torch.stack([loss.sum(), loss.new_tensor(float(len(loss)))]), _mean)


def soft_ncuts(
    image: Tensor, probabilities: Tensor, *, intensity_sigma: float = 1.0, spatial_sigma: float = 4.0, radius: int = 2
) -> Tensor:
    """Soft normalised cuts in CellSeg3D's approximation (Achard et al. 2024, https://doi.org/10.7554/eLife.99848).

    The number of classes minus, for each class, the share of its surroundings that belongs to it; the surroundings of a voxel are a cube
    in which voxels count by a Gaussian of their distance and by w = exp(-D² / intensity_sigma²), where D is the squared difference between
    their intensities and the mean intensities of the class. Meaned over the batch; 0 for a perfect partition, the classes less one for a
    single class. Where the mean of a class is far from all intensities, w and with it all gradients vanish: raise intensity_sigma.
    Gradients flow to both arguments. The convolution is separable: a large radius costs little more than a small one.

    Args:
        image: NC(Z)YX, as a rule scaled to 0 to 100.
        probabilities: NK(Z)YX, a channel a class, for example after a softmax.
        intensity_sigma: width of w, in squared units of intensity.
        spatial_sigma: standard deviation of the Gaussian, in voxels.
        radius: half the edge of the cube, in voxels.

    Raises:
        DataError: for shapes that do not fit.
        OptionError: for widths that are not above 0 or a radius below 0.

    Examples:
        >>> image = torch.tensor([[[0.0, 0, 0, 9, 9, 9]] * 6])[None]
        >>> split = torch.cat([image < 5, image > 5], dim=1).float()
        >>> round(float(soft_ncuts(image, split)), 4)
        0.0
        >>> round(float(soft_ncuts(image, torch.full_like(split, 0.5), intensity_sigma=50)), 4)
        1.0
    """
    return soft_ncuts_sums(image, probabilities, intensity_sigma=intensity_sigma, spatial_sigma=spatial_sigma, radius=radius).total


def soft_ncuts_pairwise(
    image: Tensor, probabilities: Tensor, *, intensity_sigma: float = 1.0, spatial_sigma: float = 4.0, radius: int = 2
) -> Tensor:
    """Soft normalised cuts over pairs of voxels, as W-Net defined them (Xia and Kulis 2017, https://arxiv.org/abs/1711.08506).

    A pair of voxels up to `radius` apart has the weight exp(-|ΔI|² / intensity_sigma²) exp(-|Δx|² / spatial_sigma²); a voxel also
    makes a pair with itself. The loss is the number of classes minus, for each class, the association within it over its association
    with all, meaned over the batch. The gradient is written out, for the probabilities alone: nothing is stored a pair.

    Args:
        image: NC(Z)YX; no gradient flows to it.
        probabilities: NK(Z)YX, a channel a class.
        intensity_sigma: width of the weight of intensities, in units of intensity.
        spatial_sigma: width of the weight of distances, in voxels.
        radius: largest distance of a pair, in voxels.

    Raises:
        DataError: for shapes that do not fit.
        OptionError: for widths that are not above 0 or a radius below 0.

    Examples:
        >>> image = torch.tensor([[[0.0, 0, 0, 9, 9, 9]] * 6])[None]
        >>> split = torch.cat([image < 5, image > 5], dim=1).float()
        >>> round(float(soft_ncuts_pairwise(image, split)), 4)
        0.0
    """
    return soft_ncuts_pairwise_sums(image, probabilities, intensity_sigma=intensity_sigma, spatial_sigma=spatial_sigma, radius=radius).total


def soft_ncuts_pairwise_sums(
    image: Tensor, probabilities: Tensor, *, intensity_sigma: float = 1.0, spatial_sigma: float = 4.0, radius: int = 2
) -> Sums:
    """Sums of `soft_ncuts_pairwise`; parts (2,): Σ loss of the samples, and their number."""
    image, probabilities = _checked(image, probabilities, intensity_sigma, spatial_sigma, radius)
    loss: Tensor = _Pairwise.apply(image.detach(), probabilities, intensity_sigma, spatial_sigma, radius)
    samples = float(len(probabilities))
    return Sums(torch.stack([loss * samples, loss.new_tensor(samples)]), _mean)


def _mean(parts: Tensor) -> Tensor:
    return parts[0] / parts[1]


def _checked(image: Tensor, probabilities: Tensor, intensity_sigma: float, spatial_sigma: float, radius: int) -> tuple[Tensor, Tensor]:
    if len(image) != len(probabilities) or image.ndim != probabilities.ndim or image.shape[2:] != probabilities.shape[2:]:
        raise DataError(
            f"the image has shape {tuple(image.shape)} but the probabilities {tuple(probabilities.shape)}; samples and voxels are the same."
        )
    for name, value in (("intensity_sigma", intensity_sigma), ("spatial_sigma", spatial_sigma)):
        if value <= 0:
            raise OptionError(f"{name} is {value}; a width is above 0.")
    if radius < 0:
        raise OptionError(f"radius is {radius}; it is 0 or more voxels.")
    dtype = torch.promote_types(at_least_float32(image).dtype, at_least_float32(probabilities).dtype)
    return image.to(dtype), probabilities.to(dtype)


def _smoothed(values: Tensor, sigma: float, radius: int) -> Tensor:
    """Sum over a cube weighted by a Gaussian that is 1 at the centre; zeros beyond the border. NK(Z)YX to the same.

    An axis at a time, as a product with the convolution's band matrix, whose gradient is the same product.
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
    place = torch.arange(length, device=like.device, dtype=like.dtype)
    apart = (place[:, None] - place).abs()
    return torch.exp(-apart.square() / (2 * sigma**2)) * (apart <= radius)


class _Pairwise(torch.autograd.Function):
    """Loss over pairs. With A = W p and degrees d = W 1, association Σ p A / Σ p d has the gradient (2 A - ratio d) / Σ p d in p."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, probabilities: Tensor, intensity_sigma: float, spatial_sigma: float, radius: int) -> Tensor:
        associated, degree = _associations(image, probabilities, intensity_sigma, spatial_sigma, radius)
        axes = tuple(range(2, probabilities.ndim))
        total = (probabilities * degree).sum(dim=axes, keepdim=True)
        present = total > 0
        safe = torch.where(present, total, torch.ones_like(total))
        ratio = (probabilities * associated).sum(dim=axes, keepdim=True) / safe
        ctx.save_for_backward(associated, degree, ratio, safe)
        return probabilities.shape[1] - ratio.sum() / len(ratio)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor, None, None, None]:
        associated, degree, ratio, total = ctx.saved_tensors
        gradient = (ratio * degree - 2 * associated) / total
        return None, gradient * (upstream[0] / len(ratio)), None, None, None


def _associations(image: Tensor, probabilities: Tensor, intensity_sigma: float, spatial_sigma: float, radius: int) -> tuple[Tensor, Tensor]:
    """W p, NK(Z)YX, and W 1, N1(Z)YX, adding up one offset between voxels after the other; each offset serves both ways."""
    associated, degree = probabilities.clone(), torch.ones_like(image[:, :1])
    shape = image.shape[2:]
    zero = (0,) * len(shape)
    for offset in product(range(-radius, radius + 1), repeat=len(shape)):
        apart = sum(step**2 for step in offset)
        if offset <= zero or apart > radius**2 or any(abs(step) >= n for step, n in zip(offset, shape, strict=True)):
            continue
        here = (slice(None), slice(None), *(slice(max(-step, 0), n - max(step, 0)) for step, n in zip(offset, shape, strict=True)))
        there = (slice(None), slice(None), *(slice(max(step, 0), n + min(step, 0)) for step, n in zip(offset, shape, strict=True)))
        weight = (image[here] - image[there]).square().sum(dim=1, keepdim=True)
        weight.div_(-(intensity_sigma**2)).sub_(apart / spatial_sigma**2).exp_()
        associated[here].addcmul_(weight, probabilities[there])
        associated[there].addcmul_(weight, probabilities[here])
        degree[here].add_(weight)
        degree[there].add_(weight)
    return associated, degree
