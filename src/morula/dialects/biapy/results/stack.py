"""Objects of 2D images as the planes of one volume (``TEST.ANALIZE_2D_IMGS_AS_3D_STACK``).

The network predicts each image by itself; the predicted channels are stacked, and the decoder sees one volume::

    a.tif, b.tif, c.tif  ->  channels C(3)YX  ->  median filters along z  ->  objects (3)YX
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from morula.core.axes import Axes
from morula.core.errors import DataError
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.inference.median import median
from morula.io.read import read
from morula.measurement.conditions import AnyOfAll
from morula.methods import METHODS
from morula.models.model import Model

_FLAT = ("circularity", "elongation")
"""Properties of objects in 2D that those in 3D do not have."""


def conditions_in_3d(model: Model) -> AnyOfAll:
    """The lists of conditions of a job's filter that objects in 3D can satisfy."""
    return tuple(group for group in model.job.objects.filter if not any(condition.property in _FLAT for condition in group))


def stack_objects(
    model: Model, channels: Sequence[Path], raw: Sequence[str], filters: Sequence[tuple[str, int]]
) -> tuple[np.ndarray, pd.DataFrame, VoxelSize]:
    """The objects of images as one volume.

    Args:
        model: the 2D model that predicted them.
        channels: files of the predicted channels CYX, in the order of the planes.
        raw: the images.
        filters: axes and sizes of median filters.

    Returns:
        labels ZYX, the table of all objects, and the voxel size; a plane is as thick as a pixel is wide.

    Raises:
        DataError: when the images differ in size, or the channels cannot be decoded in 3D.
    """
    planes = [np.asarray(read(file).canonical()) for file in channels]
    images = [np.asarray(read(file).canonical()) for file in raw]
    if len({plane.shape for plane in planes}) > 1:
        rule = "need images of one size to be analysed as a stack"
        raise DataError("biapy.stack", rule, key="TEST.ANALIZE_2D_IMGS_AS_3D_STACK", remedy="Write images of one size.")
    pixel = model.voxel_size
    size = VoxelSize(y=pixel.y, x=pixel.x, z=pixel.x, unit=pixel.unit)
    method = METHODS.load(model.job.method.kind)(model.job.method, model.job.objects, ndim=3, spacing=size.spacing(3))
    if method.channels != model.method.channels:
        rule = f"needs channels that are the same in 2D and 3D, not {', '.join(model.method.channels)}"
        remedy = "Write PROBLEM.NDIM 3D, and stack the images."
        raise DataError("biapy.stack", rule, key="TEST.ANALIZE_2D_IMGS_AS_3D_STACK", remedy=remedy)
    predicted = np.stack(planes, axis=1)
    for axes, width in filters:
        for channel in range(len(predicted)):
            predicted[channel] = median(predicted[channel], axes, width)  # type: ignore[arg-type]
    objects = model.job.objects.model_copy(update={"filter": conditions_in_3d(model)})
    solid = replace(model, method=method, voxel_size=size, job=model.job.model_copy(update={"objects": objects}))
    image = Image(np.stack(images, axis=1), Axes("CZYX"), size, "stack")
    labels, table = solid.measured(solid.decode(predicted, image), image)
    return labels, table, size
