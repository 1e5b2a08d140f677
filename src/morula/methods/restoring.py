"""The common part of the methods whose result is an image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula.core.errors import DataError, Problem
from morula.data.normalise import Fixed
from morula.decoders.statistics import ChannelStatistics
from morula.labels.objects import Objects
from morula.methods.base import Method
from morula.methods.object_options import ObjectOptions
from morula.methods.options import MethodOptions
from morula.methods.planning import Document, Facts, JobSections, Planning
from morula.methods.postprocessing import Parameters, Postprocessing
from morula.methods.restoring_options import RestoringOptions
from morula.methods.scoring import Row, Score, Scoring
from morula.methods.training_task import TrainingTask
from morula.metrics.restoration import mean_absolute_error, mean_squared_error, peak_signal_noise_ratio, structural_similarity

if TYPE_CHECKING:
    from torch import Tensor

HEAD = "image"


class RestoringTask(TrainingTask):
    """One head: the image."""

    options: RestoringOptions
    labelled: ClassVar[bool] = False

    @property
    def heads(self) -> dict[str, int]:
        """One head: the image."""
        return {HEAD: self.options.in_channels or 1}

    @property
    def channels(self) -> tuple[str, ...]:
        """The image's channels, numbered."""
        return tuple(f"channel {i}" for i in range(self.heads[HEAD]))

    def activate(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The image as it is."""
        return outputs[HEAD]


class RestoringPostprocessing(Postprocessing):
    """Restores whole images, and selects the images that a run writes."""

    instances: ClassVar[bool] = False
    restores: ClassVar[bool] = True
    folder: ClassVar[str]
    """Folder in the run that the images of `pictures` are written to."""
    compared: ClassVar[dict[str, str]]
    """Which `pictures`, or the `image` itself, are scored against the truth: suffix of the names of their scores, by name."""

    def fit(self, statistics: ChannelStatistics) -> Parameters:
        """Nothing is decoded."""
        del statistics
        return {}

    def decode(self, prediction: np.ndarray, parameters: Parameters) -> Objects:
        """There are no objects.

        Raises:
            DataError: always.
        """
        raise DataError(
            "model.finds_no_objects",
            "this model was trained to predict images, so it finds no objects",
            remedy="Name its run under network.from in a job with labels, or use Model.predict for the image.",
        )

    @abstractmethod
    def task(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Input of `restore` for a whole normalised image C(Z)YX: an array (channels, (Z)YX) of the same spatial shape."""

    def restore(self, network: Callable[..., Mapping[str, Tensor]], batch: Tensor) -> Tensor:
        """The restored image, NC(Z)YX, of tiles of a `task`."""
        return network(batch)[HEAD]

    @abstractmethod
    def pictures(self, image: np.ndarray, task: np.ndarray, result: np.ndarray) -> dict[str, np.ndarray]:
        """Images that a run writes for a test image, by the suffix of their file names; all arrays are C(Z)YX in the units of the image."""

    def in_units(self, task: np.ndarray, undo: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A task converted back to the units of the image."""
        return undo(task)


class ImageScoring(Scoring):
    """Similarity of two images."""

    figures: ClassVar[tuple[str, ...]] = ("psnr", "ssim")

    def score(self, truth: np.ndarray, result: np.ndarray) -> dict[str, float]:
        """PSNR, SSIM, MAE and MSE of two images C(Z)YX in the same units; SSIM is averaged over the channels."""
        return image_figures(truth, result)

    def score_rows(self, scores: Mapping[str, Score]) -> list[Row]:
        """One row per image, then their mean."""
        rows = [{"image": name, **figures} for name, figures in scores.items()]
        if not rows:
            return []
        # pixels are not pooled: images in other units would outweigh the others
        return [*rows, {"image": "pooled", **{name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "image"}}]


class RestoringPlanning(Planning):
    """The number of channels follows from the images."""

    @classmethod
    def option_problems(cls, options: MethodOptions, objects: ObjectOptions) -> list[Problem]:
        """Options of objects, which have no effect because there are no objects."""
        del options
        # a job that this version wrote states every default; only values that differ from them were chosen by the user
        defaults = ObjectOptions()
        return [
            Problem(f"objects.{name}", "has no effect: the result is an image", code="objects.no_effect", remedy="Leave it out.")
            for name in sorted(objects.model_fields_set, key=list(ObjectOptions.model_fields).index)
            if getattr(objects, name) != getattr(defaults, name)
        ]

    @classmethod
    def planned(cls, job: JobSections, facts: Facts, network: Document) -> Document:
        """The number of channels of the images."""
        assert isinstance(job.method, RestoringOptions)
        return {"method": {"in_channels": facts.in_channels}} if job.method.in_channels is None else {}


def irreversible(job: JobSections, remedy: str) -> list[Problem]:
    """Normalisations that a result on the scale of its image cannot be given back."""
    own, again = job.sampling.normalise, job.sampling.renormalise
    found = {
        "sampling.normalise.per": own.per if not isinstance(own, Fixed) and own.per == "patch" else None,
        "sampling.renormalise": None if again is None else again.kind,
    }
    rule = "cannot be undone, which a result on the scale of its image needs"
    return [
        Problem(key, rule, code="restoring.not_invertible", value=value, remedy=remedy) for key, value in found.items() if value is not None
    ]


class Restoring(RestoringTask, RestoringPostprocessing, ImageScoring, RestoringPlanning, Method):
    """A method that learns to restore the image, without labels."""


def image_figures(truth: np.ndarray, result: np.ndarray, *, suffix: str = "") -> dict[str, float]:
    """PSNR, SSIM, MAE and MSE of two images C(Z)YX, by name followed by `suffix`.

    PSNR and SSIM are relative to the range of the true image; the range of a constant image is taken as 1.

    Examples:
        >>> figures = image_figures(np.array([[[0.0, 4.0]]]), np.array([[[1.0, 3.0]]]))
        >>> figures["mae"], figures["mse"], round(figures["psnr"], 2)
        (1.0, 1.0, 12.04)
    """
    width = float(np.ptp(truth)) or 1.0  # a range of 0 would give an infinite PSNR
    similar = np.mean([structural_similarity(a, b, data_range=width) for a, b in zip(truth, result, strict=True)])
    figures = {
        "psnr": peak_signal_noise_ratio(truth, result, data_range=width),
        "ssim": float(similar),
        "mae": mean_absolute_error(truth, result),
        "mse": mean_squared_error(truth, result),
    }
    return {name + suffix: value for name, value in figures.items()}
