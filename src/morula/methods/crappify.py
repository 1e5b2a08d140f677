"""Pretraining without labels: the image is restored from one that was degraded by noise and by lower resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula import methods
from morula.core.errors import OptionError, Problem
from morula.methods.crappify_options import Options
from morula.methods.pictures import middle_plane, stretched
from morula.methods.planning import JobSections
from morula.methods.restoring import HEAD, Restoring
from morula.methods.training_task import Batch, StoredInput, first_image

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums


class Crappify(Restoring):
    """The method `crappify`."""

    options: Options
    folder: ClassVar[str] = "predictions"
    compared: ClassVar[dict[str, str]] = {"restored": "", "worse": "_worse"}

    @classmethod
    def job_problems(cls, job: JobSections) -> list[Problem]:
        """Factors for another number of axes; options that degrade nothing."""
        assert isinstance(job.method, Options)
        factor, ndim = job.method.factor, len(job.sampling.patch_shape)
        if isinstance(factor, tuple) and len(factor) != ndim:
            rule = f"has {len(factor)} numbers but the images have {ndim} axes"
            return [Problem("method.factor", rule, code="crappify.axes", value=factor, remedy="Give one factor per axis.")]
        if job.method.noise == 0 and all(number == 1 for number in (factor if isinstance(factor, tuple) else (factor,))):
            rule = "is 0 and method.factor is 1, so the images would not be degraded"
            return [Problem("method.noise", rule, code="crappify.no_change", value=0.0, remedy="Raise one of them.")]
        return []

    @property
    def factors(self) -> tuple[float, ...]:
        """The factor of each axis."""
        factor = self.options.factor
        return factor if isinstance(factor, tuple) else (factor,) * self.ndim

    def pretext(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The degraded image as input, and the image itself as target."""
        if self.options.folder is not None:  # the degraded image comes as further channels
            original, lower_quality = np.split(image, 2)
            return {"image": np.ascontiguousarray(lower_quality), "targets": np.ascontiguousarray(original)}
        return {"image": degraded(image, self.options.noise, self.factors, rng), "targets": image}

    @property
    def stored_input(self) -> StoredInput | None:
        """The degraded images, where the options name a folder for them."""
        if self.options.folder is None:
            return None

        def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return degraded(image, self.options.noise, self.factors, rng)

        return StoredInput(Path(self.options.folder), {"noise": self.options.noise, "factor": list(self.factors)}, degrade)

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Sums]:
        """One part per loss."""
        return {
            name: methods.loss_sums.image_loss_sums(name, outputs[HEAD], batch["targets"], batch["weights"], share=share)
            for name, share in self.options.losses.items()
        }

    def task(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The degraded image."""
        return degraded(image, self.options.noise, self.factors, rng)

    def pictures(self, image: np.ndarray, task: np.ndarray, result: np.ndarray) -> dict[str, np.ndarray]:
        """The degraded image, and the restored one."""
        del image
        return {"worse": task, "restored": result}

    def preview(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Side by side: the degraded image, the restored one, and the image itself."""
        arrays = [images[0, 0].float().cpu().numpy() for images in (batch["image"], outputs[HEAD], batch["targets"])]
        return {"crappify": stretched(np.hstack([middle_plane(array) for array in arrays]))}

    def arrays(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """The degraded image, the restored one, and the image itself."""
        named = {"degraded": batch["image"], "restored": outputs[HEAD], "original": batch["targets"]}
        return {name: first_image(images) for name, images in named.items()}

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One row."""
        return (), ("degraded", "restored", "original")


def degraded(image: np.ndarray, noise: float, factors: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """An image C(Z)YX with added noise and a lower resolution, on the same grid and in the same range of values.

    Args:
        image: float.
        noise: standard deviation as a share of each channel's range.
        factors: factor by which the resolution is lowered, one per axis; 1 does not change an axis.
        rng: draws the noise.

    Raises:
        OptionError: when the number of factors is not the number of axes.

    Examples:
        >>> degraded(np.array([[[0.0, 2.0, 4.0, 6.0]]]), 0.0, (1, 2), np.random.default_rng(0))
        array([[[1., 2., 4., 5.]]], dtype=float32)
    """
    if len(factors) != image.ndim - 1:
        rule = f"{len(factors)} factors are given for {image.ndim - 1} axes"
        raise OptionError("crappify.axes", rule, key="factors", value=tuple(factors), remedy="Give one factor per axis.")
    result = np.asarray(image, np.float32)
    axes = tuple(range(1, image.ndim))
    if noise:
        low, high = result.min(axis=axes, keepdims=True), result.max(axis=axes, keepdims=True)
        # noise relative to the range, so that the same setting suits 8-bit and 16-bit images
        added = rng.standard_normal(result.shape, dtype=np.float32) * (noise * (high - low))
        result = np.clip(result + added, low, high)
    for axis, factor in zip(axes, factors, strict=True):
        if factor != 1:
            # interpolation is linear and separable: one small matrix per axis
            matrix = _down_and_up(image.shape[axis], float(factor))
            result = np.moveaxis(np.tensordot(result, matrix, axes=(axis, 1)), -1, axis)
    return np.ascontiguousarray(result, np.float32)


@cache
def _down_and_up(n: int, factor: float) -> np.ndarray:
    """Matrix n x n that interpolates linearly to n / factor points and back to n."""
    fewer = max(1, round(n / factor))
    return _interpolation(fewer, n) @ _interpolation(n, fewer)


def _interpolation(n_from: int, n_to: int) -> np.ndarray:
    """Matrix n_to x n_from of linear interpolation between samples at pixel centres, constant beyond the outermost centres.

    As in `skimage.transform.resize`, pixel i of n covers the interval from i / n to (i + 1) / n::

        n_from = 4   |  .  |  .  |  .  |  .  |
        n_to = 2     |     .     |     .     |
    """
    positions = np.clip((np.arange(n_to) + 0.5) * n_from / n_to - 0.5, 0, n_from - 1)
    below = np.minimum(positions.astype(int), max(0, n_from - 2))
    share = positions - below
    matrix = np.zeros((n_to, n_from), np.float32)
    rows = np.arange(n_to)
    matrix[rows, below] += 1 - share
    matrix[rows, np.minimum(below + 1, n_from - 1)] += share
    return matrix
