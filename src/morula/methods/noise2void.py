"""Denoising without clean images: a network predicts voxels that it cannot see from their surroundings (Noise2Void).

In each square (2D) or cube (3D) of a grid one voxel is hidden: the network sees another value there, and only there its output is compared
with the image. Noise that is independent from voxel to voxel cannot be predicted from other voxels, so the network learns the rest::

    . . . . | . . # .
    . # . . | . . . .        #  hidden: replaced in the input, compared in the loss
    --------+--------        .  visible: not compared
    . . # . | # . . .
    . . . . | . . . .
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula import losses
from morula.core.errors import Problem
from morula.core.remark import Remark
from morula.data.augment import AUGMENTATIONS
from morula.data.augment.base import Spatial
from morula.methods.noise2void_options import Options
from morula.methods.pictures import middle_plane, stretched
from morula.methods.planning import Document, Facts, JobSections
from morula.methods.restoring import HEAD, Restoring, irreversible
from morula.methods.training_task import Batch, first_image

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums

_NEAR = 4.0
"""Standard deviation of the distance of a near voxel, along each axis."""


class Noise2Void(Restoring):
    """The method `noise2void`."""

    options: Options
    labels_are_images: ClassVar[bool] = True
    folder: ClassVar[str] = "predictions"
    compared: ClassVar[dict[str, str]] = {"denoised": "", "image": "_noisy"}

    @property
    def on_scale_of_image(self) -> bool:
        """A denoised image has the values of its image."""
        return True

    @classmethod
    def job_problems(cls, job: JobSections) -> list[Problem]:
        """A scale that cannot be found again."""
        return irreversible(job, "Normalise whole images.")

    @classmethod
    def remarks(cls, job: JobSections) -> list[Remark]:
        """Augmentations that spread noise over neighbouring voxels."""
        spreading = [options.kind for options in job.augment or () if _spreads(options.kind)]
        if not spreading:
            return []
        named = f"augment ({', '.join(spreading)})"
        text = f"{named} interpolates or blurs: noise of neighbouring voxels becomes alike, and less of it is removed. Flips are exact."
        return [Remark("noise2void.spread_noise", text)]

    @classmethod
    def planned(cls, job: JobSections, facts: Facts, network: Document) -> Document:
        """The number of channels of the images, and augmentations that move voxels as they are."""
        document = super().planned(job, facts, network)
        exact = ["flip"] if isinstance(job.method, Options) and job.method.line else ["flip", "rotate90"]  # lines stay along x
        return document if job.augment is not None else {**document, "augment": exact}

    @property
    def edge(self) -> int:
        """Edge of the squares or cubes that have one hidden voxel each."""
        return max(1, round(self.options.share ** (-1 / self.ndim)))

    def pretext(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The image with hidden voxels as input, the image itself as target, and a mask of the hidden voxels."""
        seen, hidden = image.copy(), np.zeros(image.shape, bool)
        for channel, values, mask in zip(image, seen, hidden, strict=True):
            places = drawn_places(channel.shape, self.edge, rng)
            values[tuple(places.T)] = replaced(channel, places, self.options, rng)
            mask[tuple(places.T)] = True
            if self.options.line:
                beside = _beside(places, self.options.line, channel.shape[-1])
                beside = beside[~mask[tuple(beside.T)]]
                values[tuple(beside.T)] = rng.uniform(-2, 2, len(beside))
        return {"image": seen, "targets": image, "hidden": hidden}

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Sums]:
        """Mean squared difference of the hidden voxels."""
        target = batch["targets"].float()
        weights = batch["weights"] * batch["hidden"].to(target.dtype)
        return {"hidden": losses.regression.mse_sums(outputs[HEAD], target, weights, over_channels=False)}

    def task(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image itself: nothing is hidden."""
        del rng
        return image

    def pictures(self, image: np.ndarray, task: np.ndarray, result: np.ndarray) -> dict[str, np.ndarray]:
        """The image with less noise."""
        del image, task
        return {"denoised": result}

    def preview(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Side by side: the image, what the network sees of it, and its output."""
        arrays = [images[0, 0].float().cpu().numpy() for images in (batch["targets"], batch["image"], outputs[HEAD])]
        return {"noise2void": stretched(np.hstack([middle_plane(array) for array in arrays]))}

    def arrays(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """The image, what the network sees of it, and its output."""
        named = {"original": batch["targets"], "input": batch["image"], "denoised": outputs[HEAD]}
        return {name: first_image(images) for name, images in named.items()}

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One row."""
        return (), ("image", "input with hidden voxels", "output")


def _spreads(kind: str) -> bool:
    """Whether an augmentation makes a voxel of several."""
    augmentation = AUGMENTATIONS.load(kind)
    return kind == "blur" or issubclass(augmentation, Spatial)


def drawn_places(shape: Sequence[int], edge: int, rng: np.random.Generator) -> np.ndarray:
    """One voxel at random in each square or cube of a grid that starts at the first voxel; those outside of the image are left out.

    Where none remains, one voxel of the whole image.

    Returns:
        Indices, one row per voxel.

    Examples:
        >>> drawn_places((2, 6), 2, np.random.default_rng(0)).tolist()
        [[1, 1], [1, 2], [0, 4]]
    """
    grid = [-(-n // edge) for n in shape]
    corners = np.indices(grid).reshape(len(grid), -1).T * edge
    places = corners + rng.integers(0, edge, corners.shape)
    places = places[(places < shape).all(axis=1)]
    return places if len(places) else rng.integers(0, shape, (1, len(grid)))


def replaced(image: np.ndarray, places: np.ndarray, options: Options, rng: np.random.Generator) -> np.ndarray:
    """The values that the network sees at the hidden places of an image (Z)YX.

    Args:
        image: the channel.
        places: indices of the hidden voxels, one row each.
        options: the replacement, and the radius of the neighbourhood.
        rng: draws the values.

    Examples:
        >>> options = Options(replacement="mean", radius=1)
        >>> replaced(np.array([[1.0, 9.0, 3.0]]), np.array([[0, 1], [0, 2]]), options, np.random.default_rng(0)).tolist()
        [2.0, 9.0]
    """
    if options.replacement == "noise":
        return np.asarray(image[tuple(places.T)] + rng.normal(0, options.radius, len(places)))
    if options.replacement == "near_voxel":
        return np.asarray(image[tuple(_near(places, image.shape, rng).T)])
    start = np.maximum(places - options.radius, 0)
    stop = np.minimum(places + options.radius + 1, image.shape)
    if options.replacement in ("voxel", "other_voxel"):
        return np.asarray(image[tuple(_around(places, start, stop, rng, itself=options.replacement == "voxel").T)])
    return _summaries(image, places, options, rng)


def _around(places: np.ndarray, start: np.ndarray, stop: np.ndarray, rng: np.random.Generator, *, itself: bool) -> np.ndarray:
    """A place at random in each box from `start` to `stop`; without `itself`, drawn again where it is the given one."""
    found = rng.integers(start, stop)
    alone = (stop - start).prod(axis=1) == 1
    while not itself and (same := (found == places).all(axis=1) & ~alone).any():
        found[same] = rng.integers(start[same], stop[same])
    return found


def _near(places: np.ndarray, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Places near the given ones that differ from them along each axis of more than one voxel; drawn again where they do not."""
    found, longer = places.copy(), np.array(shape) > 1
    while (same := ((found == places) & longer).any(axis=1)).any():
        moved = np.rint(places[same] + rng.normal(0, _NEAR, (int(same.sum()), len(shape)))).astype(int)
        found[same] = np.clip(moved, 0, np.array(shape) - 1)
    return found


def _summaries(image: np.ndarray, places: np.ndarray, options: Options, rng: np.random.Generator) -> np.ndarray:
    """Mean or median of the other voxels in the neighbourhood of each place, or a random number with mean and deviation of all."""
    offsets = np.indices((2 * options.radius + 1,) * image.ndim).reshape(image.ndim, -1).T - options.radius
    others = offsets.any(axis=1)
    around = places[:, None] + offsets
    inside = ((around >= 0) & (around < image.shape)).all(axis=2)
    if options.replacement != "normal":
        inside &= others | (inside.sum(axis=1, keepdims=True) == 1)  # a voxel without neighbours keeps its value
    values = image[tuple(np.moveaxis(np.clip(around, 0, np.array(image.shape) - 1), 2, 0))]
    values = np.where(inside, values, np.nan).astype(np.float64)
    if options.replacement == "normal":
        return rng.normal(np.nanmean(values, axis=1), np.nanstd(values, axis=1))
    return np.asarray(np.nanmean(values, axis=1) if options.replacement == "mean" else np.nanmedian(values, axis=1))


def _beside(places: np.ndarray, length: int, width: int) -> np.ndarray:
    """The voxels on both sides of the given ones along x that are inside the image."""
    offsets = [offset for offset in range(-length, length + 1) if offset]
    beside = np.repeat(places, len(offsets), axis=0)
    beside[:, -1] += np.tile(offsets, len(places))
    return beside[(beside[:, -1] >= 0) & (beside[:, -1] < width)]
