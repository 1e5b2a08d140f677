"""The loss of the method `wnet3d`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from morula.losses import LOSSES
from morula.losses.ncuts import soft_ncuts_pairwise_sums, soft_ncuts_sums
from morula.losses.sums import Sums
from morula.methods.training_task import Batch
from morula.methods.wnet3d_options import TOP, Options


def wnet3d_loss(options: Options, outputs: Mapping[str, Tensor], batch: Batch, spacing: Sequence[float]) -> dict[str, Sums]:
    """Soft normalised cuts of the classes, and the difference between reconstruction and image, each with its weight."""
    image, reconstruction = smoothed(batch["image"], options.smoothing, spacing), outputs["reconstruction"]
    # the targets of a cross-entropy must be between 0 and 1
    target = image if options.reconstruction == "mse" else (image / TOP).clamp(0, 1)
    cuts = {"class_mean": soft_ncuts_sums, "pairwise": soft_ncuts_pairwise_sums}[options.ncuts](
        image,
        outputs["classes"].softmax(dim=1),
        intensity_sigma=options.intensity_sigma,
        spatial_sigma=options.spatial_sigma,
        radius=options.radius,
    )
    difference = LOSSES.load(options.reconstruction)(reconstruction, target, batch["weights"])
    parts = {"ncuts": (cuts, options.ncuts_weight), "reconstruction": (difference, options.reconstruction_weight)}
    return {
        name: Sums(sums.parts, lambda part, value=sums.value, share=share: share * value(part))  # type: ignore[misc]
        for name, (sums, share) in parts.items()
    }


def smoothed(image: Tensor, width: float, spacing: Sequence[float]) -> Tensor:
    """Images NC(Z)YX smoothed by a Gaussian of `width` voxels of the finest axis, and correspondingly fewer voxels of coarser axes.

    Values beyond the border are those of the nearest voxel.
    """
    if width == 0:
        return image
    for axis, length in enumerate(spacing, start=2):
        sigma = width * min(spacing) / length
        reach = max(1, round(4 * sigma))  # the Gaussian is below 1e-3 of its peak beyond 4 sigma
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device) / sigma) ** 2)
        # one axis after the other: a Gaussian is separable
        lines = image.movedim(axis, -1)
        padded = functional.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        image = functional.conv1d(padded, (kernel / kernel.sum())[None, None]).reshape(lines.shape).movedim(-1, axis)
    return image
