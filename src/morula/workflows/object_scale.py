"""The scale of a job that starts from a model for objects of one size: its images are rescaled as that model rescales new ones.

A bundled model was trained on objects of one diameter, and sees every image at the scale at which its objects have it, see
`morula.models.scale`. A training that starts from it continues at this scale. There, the diameter of the objects is not estimated but
measured on the labels::

    image with objects of 10 voxels ---- scale 2.4 ----> training, validation: objects of 24 voxels
    test image ---- estimated, or images.diameter ----> prediction -----> objects on the grid of the image
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from morula import models, nn
from morula.core.errors import JobError, Problem
from morula.core.image import Image
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.data.crop import crop
from morula.data.patches import Source
from morula.data.summary import middle
from morula.io.lazy import take_region
from morula.jobs.bundled import place_of
from morula.jobs.job import Job
from morula.jobs.run_folder import RunFolder
from morula.methods import METHODS
from morula.models.description import SIDECAR, Description, read_description
from morula.nn.options import AUTO
from morula.workflows.sources import Opened

if TYPE_CHECKING:
    from morula.models.model import Model
    from morula.models.scale import Fitted

LOOKED_AT = 2**22
"""Voxels of a label image that are examined for the sizes of objects."""
FEW = 3
"""Objects below which those of all images tell the scale of an image: a remnant at the border says little."""


@dataclass(frozen=True)
class ObjectScale:
    """What decides the scale of each image.

    Attributes:
        trained: diameter of the objects that the network is trained on, in voxels.
        voxel_size: voxels that it is trained on; only their proportions count.
        usual: diameter of the objects of the images in voxels of their last axis: as stated, or the median of those of all training images.
        stated: whether the job states it.
    """

    trained: float
    voxel_size: VoxelSize
    usual: float
    stated: bool

    @classmethod
    def of(cls, job: Job, train: Iterable[Opened], trained: float, voxel_size: VoxelSize) -> ObjectScale | None:
        """The scale of a job with these training images; `None` where they have no object, or keep their own scale."""
        stated = job.images.diameter
        if isinstance(stated, float):
            return cls(trained, voxel_size, stated, stated=True)
        found = [diameters(image.raw, voxel_counts(image), voxel_size) for image in train] if stated == "auto" else []
        every = np.concatenate([*found, np.empty(0)])
        return cls(trained, voxel_size, float(np.median(every)), stated=False) if len(every) else None

    def factors(self, image: Opened) -> tuple[float, ...] | None:
        """Factors of the axes (Z)YX of an image; `None` where it is used as it is."""
        counts = () if self.stated else voxel_counts(image)
        own = self.usual if len(counts) < FEW else float(np.median(diameters(image.raw, counts, self.voxel_size)))
        factors = models.scale.factors_of(image.raw, self.voxel_size, models.scale.scale_for(self.trained, own))
        return None if models.scale.is_same(factors) else factors

    def rescaled(self, image: Opened) -> Opened:
        """An image with its labels at this scale; lazy."""
        factors = self.factors(image)
        if factors is None:
            return image
        labels, classes = (
            None if part is None else models.scale.view_at_scale(part, factors, labels=True) for part in (image.labels, image.classes)
        )
        raw, weights = (None if part is None else models.scale.view_at_scale(part, factors) for part in (image.raw, image.weights))
        assert raw is not None
        return replace(image, raw=raw, labels=labels, classes=classes, weights=weights)

    def line(self, start: str, before: Sequence[Opened], after: Sequence[Opened]) -> str:
        """What is done with the training images, and why, as a line for the log."""
        scales = [new.raw.spatial_shape[-1] / old.raw.spatial_shape[-1] for old, new in zip(before, after, strict=True)]
        span = " to ".join(dict.fromkeys(f"{scale:.2g}" for scale in (min(scales), max(scales))))
        how = "images.diameter" if self.stated else "the median of the labels"
        return (
            f"the network of {start} sees objects of {self.trained:.0f} voxels, those of the images have {self.usual:.0f} ({how}): "
            f"the training images are rescaled by {span}, results have the size of the images (images.diameter: none keeps their scale)"
        )


def scale_of(job: Job, train: Sequence[Opened]) -> ObjectScale | None:
    """The scale at which the network of a job sees its images; `None` where that is their own.

    Raises:
        JobError: when the job states a diameter, but starts from no model that rescales images.
    """
    found = start_of(job)
    if found is not None and found.diameter is not None:
        return ObjectScale.of(job, train, found.diameter, found.voxel_size)
    if isinstance(job.images.diameter, float):
        rule = "cannot be used: the training does not start from a model that rescales images to the size of their objects"
        remedy = "Leave it out, or start from such a model (network.from: nuclei)."
        raise JobError([Problem("images.diameter", rule, code="images.no_diameter", value=job.images.diameter, remedy=remedy)])
    return None


def takes_colour(job: Job) -> bool:
    """Whether the training of a job starts from a model for colour images, and gives one."""
    found = start_of(job)
    return found is not None and found.colour


def start_of(job: Job) -> Description | None:
    """The whole model that a training with labels of objects starts from.

    `None` for weights of another program, for those of a pretraining, and where nothing of the model but its weights is taken over.
    """
    method, start = METHODS.load(job.method.kind), job.network.from_
    if start in (None, AUTO) or not (method.labelled and method.instances):
        return None
    place = place_of(Path(str(start)))
    inner = RunFolder(place).model
    folder = inner if (inner / SIDECAR).is_file() else place
    # weights of a pretraining have no description of a whole model
    facts = nn.weights.read_sidecar(folder) if (folder / SIDECAR).is_file() else {}
    return read_description(folder) if facts.get("diameter") is not None or facts.get("colour") else None


def diameters(image: Image, counts: Sequence[int], trained: VoxelSize) -> np.ndarray:
    """Diameters of objects with these numbers of voxels, in voxels of the last axis, where voxels get the proportions of a model."""
    voxel = float(np.prod(models.scale.factors_of(image, trained, 1.0)))
    return models.scale.equivalent_diameter(voxel * np.asarray(counts, np.float64), image.ndim_spatial)


def voxel_counts(image: Opened) -> list[int]:
    """Numbers of voxels of the labelled objects; of a large image the central block is examined."""
    if image.labels is None:
        return []
    block = crop(image.labels, middle(image.labels.spatial_shape, LOOKED_AT))[0]
    values, counts = np.unique(block, return_counts=True)
    return [int(count) for count in counts[(values != 0) & (values != (image.unlabelled or 0))]]


def on_own_grid(held: Source, own: Source) -> Source:
    """The part of an image that corresponds to the part of this image at another scale."""
    if held.region is None:
        return own
    shape, seen = own.image.spatial_shape, held.image.spatial_shape
    start, stop = (
        tuple(round(place * n / m) for place, n, m in zip(ends, shape, seen, strict=True)) for ends in (held.region.start, held.region.stop)
    )
    return replace(own, region=Region(start, tuple(max(a + 1, b) for a, b in zip(start, stop, strict=True))))


def fitted_part(model: Model, source: Source, factors: Sequence[float] | None) -> Fitted:
    """The part of an image as a model sees it, with these factors; lazy."""
    original = model.as_image(take_region(source.image, source.extent))
    return models.scale.Fitted(original if factors is None else models.scale.view_at_scale(original, factors), original)
