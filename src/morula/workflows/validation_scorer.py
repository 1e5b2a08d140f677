"""Objects of the validation images, scored while a network trains that learns without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from morula.core.image import Image
from morula.data.crop import crop
from morula.models.model import Model
from morula.workflows.prepare import Prepared

if TYPE_CHECKING:
    from torch import nn


class ValidationScorer:
    """Foreground Dice of the labelled validation images, by which the best epoch is chosen; `figures` holds it and the F1 of objects."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.figures: dict[str, float] = {}

    @staticmethod
    def fits(prepared: Prepared) -> bool:
        """Whether there is something to judge by: labels of all validation images, of which the training makes no other use."""
        held = prepared.validation
        method = prepared.method
        judged = not (method.labelled or method.restores)  # an image is no label image
        return judged and held is not None and all(source.labels is not None for source in held.sources)

    def __call__(self, network: nn.Module) -> float:
        """Predict and score the validation images."""
        prepared, scores = self.prepared, {}
        assert prepared.validation is not None
        model = Model(
            job=prepared.job,
            network=network,  # type: ignore[arg-type]
            method=prepared.method,
            in_channels=prepared.facts.in_channels,
            voxel_size=prepared.voxel_size,
            normalisation=prepared.normalisation,
        )
        # the model is assembled as for a finished run, so that the figures are those that a user would get
        for number, source in enumerate(prepared.validation.sources):
            assert source.labels is not None
            axes = f"C{source.image.axes.spatial_axes}"
            image = Image(crop(source.image, source.extent), axes, source.image.voxel_size)  # type: ignore[arg-type]
            objects = model.decode(model.predict(image, device=prepared.job.training.device), image)
            scores[str(number)] = prepared.method.score(np.asarray(crop(source.labels, source.extent)[0]), objects.labels)
        rows = prepared.method.score_rows(scores)
        pooled = next(row for row in rows if row["image"] == "pooled")
        self.figures = {"dice": float(pooled["foreground_dice"]), f"f1@{pooled['threshold']:g}": float(pooled["f1"])}
        return self.figures["dice"]
