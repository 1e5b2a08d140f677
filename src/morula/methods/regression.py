"""Images from images: a network learns to predict given images, such as another stain, less noise, or several masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula import losses, methods
from morula.core.errors import DataError, Problem
from morula.methods.pictures import middle_plane, stretched
from morula.methods.planning import Document, Facts, JobSections
from morula.methods.regression_options import Options
from morula.methods.restoring import HEAD, Restoring, irreversible
from morula.methods.training_task import Batch, Targets

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums


class Regression(Restoring):
    """The method `regression`. Labels are images: their values are the targets, float ones are interpolated where they are moved."""

    options: Options
    labelled: ClassVar[bool] = True
    labels_are_images: ClassVar[bool] = True
    folder: ClassVar[str] = "predictions"
    compared: ClassVar[dict[str, str]] = {"predicted": ""}

    @property
    def probability_channels(self) -> bool:
        """Unless the output is linear."""
        return self.options.activation != "linear"

    @property
    def on_scale_of_image(self) -> bool:
        """With the units of the image."""
        return self.options.units == "image"

    @property
    def units(self) -> tuple[float, float]:
        """Offset and scale of the output."""
        return self.options.offset or 0.0, self.options.scale or 1.0

    @property
    def heads(self) -> dict[str, int]:
        """One head: the predicted image."""
        return {HEAD: self.options.channels}

    def targets(
        self,
        labels: np.ndarray,
        classes: np.ndarray | None = None,
        unlabelled: np.ndarray | None = None,
        relevant: np.ndarray | None = None,
    ) -> Targets:
        """The image (Z)YX or C(Z)YX itself.

        Raises:
            DataError: for another number of channels.
        """
        channels = (labels if labels.ndim > self.ndim else labels[None]).astype(np.float32)
        if len(channels) != self.options.channels:
            rule = f"has {len(channels)} channels but method.channels is {self.options.channels}"
            raise DataError("targets.channels", rule, key="images.train.labels", remedy="Correct one of them.")
        weights = np.ones_like(channels)
        if unlabelled is not None:
            weights[:, unlabelled] = 0
        return Targets(channels, weights)

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Sums]:
        """One part per loss."""
        own, weights = self.options, batch["weights"]
        offset, scale = self.units
        targets = (batch["targets"] - offset) / scale
        parts = {}
        for name, share in own.used_losses.items():
            options = own.loss_options.get(name, {})
            if isinstance(sides := options.get("sides"), tuple):  # in the units of the image
                options = {**options, "sides": ((sides[0] - offset) / scale, *sides[1:])}
            parts[name] = methods.loss_sums.image_loss_sums(
                name, outputs[HEAD], targets, weights, activation=own.activation, share=share, options=options
            )
        return parts

    def activate(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The image through the activation, in the units of the targets."""
        offset, scale = self.units
        return losses.sums.activate(outputs[HEAD], self.options.activation) * scale + offset

    @classmethod
    def needs_targets(cls, job: JobSections) -> bool:
        """For offset and scale, where the job leaves one of them out."""
        assert isinstance(job.method, Options)
        own = job.method
        return own.activation == "linear" and own.units == "targets" and None in (own.offset, own.scale)

    @classmethod
    def job_problems(cls, job: JobSections) -> list[Problem]:
        """Units of an image whose values cannot be found again."""
        assert isinstance(job.method, Options)
        return irreversible(job, "Normalise whole images, or write method.units: targets.") if job.method.units == "image" else []

    @classmethod
    def planned(cls, job: JobSections, facts: Facts, network: Document) -> Document:
        """Offset and scale, and the number of channels of the images."""
        document = super().planned(job, facts, network).get("method", {})
        units = dict(zip(("offset", "scale"), facts.targets, strict=True)) if cls.needs_targets(job) else {}
        return {"method": {**document, **{key: value for key, value in units.items() if getattr(job.method, key) is None}}}

    def task(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image itself."""
        del rng
        return image

    def restore(self, network: Callable[..., Mapping[str, Tensor]], batch: Tensor) -> Tensor:
        """The predicted image."""
        return self.activate(network(batch))

    def pictures(self, image: np.ndarray, task: np.ndarray, result: np.ndarray) -> dict[str, np.ndarray]:
        """The predicted image."""
        del image, task
        return {"predicted": result}

    def preview(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Side by side: the image, its target and the prediction, of the first channel."""
        arrays = [images[0, 0].detach().float().cpu().numpy() for images in (batch["image"], batch["targets"], self.activate(outputs))]
        return {"regression": np.hstack([stretched(middle_plane(array)) for array in arrays])}

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One row."""
        return (), ("image", "target", "prediction")
