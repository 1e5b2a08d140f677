"""Pretraining without labels: the image is rebuilt from one that was made worse by noise and by lower resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt, field_validator

from morula.core.errors import OptionError
from morula.methods.base import middle_plane, stretched
from morula.methods.options import MethodOptions
from morula.methods.restoring import HEAD, Restoring
from morula.methods.scoring import unknown_loss

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums

LOSSES = ("l1", "mse", "smooth_l1", "ssim")
Factor = Annotated[float, Field(ge=1)]


class Options(MethodOptions):
    """Crappification (Fang et al. 2021, https://doi.org/10.1038/s41592-021-01080-z): how images are made worse, and what is compared.

    Examples:
        >>> Options(losses={"mae": 1.0})
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Options
        losses
          Value error, unknown loss 'mae'; known are l1, mse, smooth_l1, ssim. l1 is the mean absolute error. ...
    """

    kind: Literal["crappify"] = "crappify"
    """Name of the variant."""

    noise: float = Field(0.2, ge=0)
    """Standard deviation of the Gaussian noise that is added, as a share of the patch's range of values; the range is kept."""
    factor: Factor | tuple[Factor, ...] = 2.0
    """Factor by which the resolution is lowered: one number, or one an axis (1 leaves an axis alone, for example Z)."""
    losses: dict[str, Annotated[float, Field(gt=0)]] = Field({"l1": 1.0}, min_length=1)
    """Losses by name with their weights in the sum: `l1`, `mse`, `smooth_l1`, `ssim`."""
    folder: str | None = None
    """Folder that the worse training images are written to and read from, written anew when these settings or an image change; left out:
    they are made in passing, with new noise each time. Relative to the job file."""
    in_channels: PositiveInt | None = None
    """Channels of the images; left out: read from them."""

    def relative_to(self, folder: Path) -> Options:
        """With the folder of the degraded images relative to the job file's folder."""
        return self if self.folder is None else self.model_copy(update={"folder": str(folder / self.folder)})

    @field_validator("losses")
    @classmethod
    def _known(cls, losses: dict[str, float]) -> dict[str, float]:
        for name in losses:
            if name not in LOSSES:
                raise ValueError(unknown_loss(name, LOSSES))
        return losses


class Crappify(Restoring):
    """The method `crappify`."""

    folder: ClassVar[str] = "predictions"
    compared: ClassVar[dict[str, str]] = {"restored": "", "worse": "_worse"}

    @classmethod
    def unplannable(cls, job: Any) -> list[tuple[str, str]]:
        """Factors for another number of axes; nothing that is made worse."""
        factor, ndim = job.method.factor, len(job.sampling.patch)
        if isinstance(factor, tuple) and len(factor) != ndim:
            return [("method.factor", f"{list(factor)} has {len(factor)} numbers but the images have {ndim} axes; give one an axis.")]
        if job.method.noise == 0 and all(each == 1 for each in (factor if isinstance(factor, tuple) else (factor,))):
            return [("method.noise", "is 0 and method.factor is 1, so nothing is made worse; raise one.")]
        return []

    @property
    def factors(self) -> tuple[float, ...]:
        """The factor of each axis."""
        factor = self.options.factor
        return factor if isinstance(factor, tuple) else (factor,) * self.ndim

    def pretext(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The worse image, and the image itself as what is to be learned."""
        if self.options.folder is not None:  # the worse image comes along as further channels
            itself, worse = np.split(image, 2)
            return {"image": np.ascontiguousarray(worse), "targets": np.ascontiguousarray(itself)}
        return {"image": worsened(image, self.options.noise, self.factors, rng), "targets": image}

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> dict[str, Sums]:
        """One part a loss name."""
        from morula.losses.ssim import ssim_sums
        from morula.losses.sums import Sums
        from morula.methods.scoring import loss_sums

        parts = {}
        for name, share in self.options.losses.items():
            output, target, weight = outputs[HEAD], batch["targets"], batch["weights"]
            if name == "ssim":
                sums = ssim_sums(output, target, weight)
                parts[name] = Sums(sums.parts, lambda part, value=sums.value, share=share: share * value(part))  # type: ignore[misc]
            else:
                parts[name] = loss_sums(name, output, target, weight, share=share)
        return parts

    def task(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image made worse."""
        return worsened(image, self.options.noise, self.factors, rng)

    def pictures(self, image: np.ndarray, task: np.ndarray, result: np.ndarray) -> dict[str, np.ndarray]:
        """The worse image, and what the network made of it."""
        del image
        return {"worse": task, "restored": result}

    def preview(self, batch: Mapping[str, Any], outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Side by side: the worse image, what the network makes of it, and the image itself."""
        arrays = [each[0, 0].float().cpu().numpy() for each in (batch["image"], outputs[HEAD], batch["targets"])]
        return {"crappify": stretched(np.hstack([middle_plane(each) for each in arrays]))}

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One row."""
        return (), ("degraded", "restored", "original")


def worsened(image: np.ndarray, noise: float, factors: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """An image C(Z)YX with noise, then at a lower resolution, on the same grid and in the same range.

    Args:
        image: float.
        noise: standard deviation as a share of each channel's range.
        factors: by which the resolution is lowered, one an axis; 1 leaves an axis alone.
        rng: draws the noise.

    Raises:
        OptionError: for another number of factors than axes.

    Examples:
        >>> worsened(np.array([[[0.0, 2.0, 4.0, 6.0]]]), 0.0, (1, 2), np.random.default_rng(0))
        array([[[1., 2., 4., 5.]]], dtype=float32)
    """
    if len(factors) != image.ndim - 1:
        raise OptionError(f"{len(factors)} factors were given for {image.ndim - 1} axes. Give one an axis.")
    result = np.asarray(image, np.float32)
    axes = tuple(range(1, image.ndim))
    if noise:
        low, high = result.min(axis=axes, keepdims=True), result.max(axis=axes, keepdims=True)
        added = rng.standard_normal(result.shape, dtype=np.float32) * (noise * (high - low))
        result = np.clip(result + added, low, high)
    for axis, factor in zip(axes, factors, strict=True):
        if factor != 1:
            matrix = _there_and_back(image.shape[axis], float(factor))
            result = np.moveaxis(np.tensordot(result, matrix, axes=(axis, 1)), -1, axis)
    return np.ascontiguousarray(result, np.float32)


@cache
def _there_and_back(n: int, factor: float) -> np.ndarray:
    """Linear interpolation to fewer points and back, as one matrix n x n."""
    fewer = max(1, round(n / factor))
    return _interpolation(fewer, n) @ _interpolation(n, fewer)


def _interpolation(n_from: int, n_to: int) -> np.ndarray:
    """Matrix n_to x n_from of linear interpolation between the middles of equal parts of an interval, constant beyond the outer ones."""
    places = np.clip((np.arange(n_to) + 0.5) * n_from / n_to - 0.5, 0, n_from - 1)
    below = np.minimum(places.astype(int), max(0, n_from - 2))
    share = places - below
    matrix = np.zeros((n_to, n_from), np.float32)
    rows = np.arange(n_to)
    matrix[rows, below] += 1 - share
    matrix[rows, np.minimum(below + 1, n_from - 1)] += share
    return matrix
