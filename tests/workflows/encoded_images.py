"""Images that are the channels of simulated objects, and a model that predicts what it sees: the objects are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from morula.data.normalise import Normalisation
from morula.io.write import write
from morula.models.load import load
from morula.models.model import Model
from morula.representations.encode import encode
from morula.testing.simulate import simulate

MEMORY = "48MB"
"""A quarter of it is left for images: the test image needs 17 MB to decode as a whole."""


class Encoded(Model):
    """A model that predicts what it sees: its images are encoded labels."""

    def forward(self, batch: Tensor) -> Tensor:
        return batch


def encoded_image(file: Path, shape: tuple[int, int], n_objects: int) -> Path:
    labels = simulate(shape=shape, n_objects=n_objects, rng=np.random.default_rng(3)).labels
    noise = np.random.default_rng(4).normal(0, 0.02, (3, *shape))
    channels = np.clip(encode(labels, ["F", "C", "Db"]) + noise, 0, 1).astype(np.float32)
    return write(file, channels, axes="CYX", voxel_size=0.5)


def model_of(run: Path, **objects: object) -> Model:
    """A model with the method of a run and these settings for objects."""
    job = load(run).job
    known = job.objects.model_dump(mode="json", by_alias=True, exclude={"calibration"})
    tiled = job.prediction.model_copy(update={"tile": (128, 128)})
    job = job.model_copy(update={"objects": type(job.objects).model_validate({**known, **objects}), "prediction": tiled})
    loaded = load(run)
    method = type(loaded.method)(job.method, job.objects, ndim=2, spacing=loaded.method.spacing)
    scale = Normalisation((0.0,) * 3, (1.0,) * 3)
    return Encoded(job, loaded.network, method, 3, loaded.voxel_size, scale)
