"""What is implausible in the volumes of a job of pytorch-3dunet; the training can start all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.axes import Axes
from morula.core.image import Image
from morula.core.remark import Remark
from morula.data.crop import crop
from morula.data.plausibility import LOOKED_AT, background_with_id, misplaced_labels, repeated_images
from morula.data.summary import looks_grey, middle
from morula.dialects.pytorch3dunet.training import Prepared
from morula.dialects.pytorch3dunet.volumes import Volume
from morula.io.lazy import View


def doubts_about(prepared: Prepared) -> list[Remark]:
    """Remarks on raw data and integer labels: repeated, grey or misplaced ones, background with an id, no class."""
    train, validation = prepared.train_patches.volumes, prepared.val_patches.volumes
    remarks = repeated_images({"training": _raws(train), "validation": _raws(validation)})
    pairs = [(raw, labels) for volume, raw in zip(train, _raws(train), strict=True) for labels in _labels(volume)]
    if grey := [labels.source for _, labels in pairs if _is_grey(labels)]:
        text = (
            f"{len(grey)} of {len(pairs)} data sets of labels, such as those of {grey[0]}, look like grey images: almost every voxel "
            "differs from its neighbours. Check loaders.label_internal_path."
        )
        return [*remarks, Remark("labels.grey", text)]
    remarks += misplaced_labels(pairs, _ignored(prepared))
    remarks += background_with_id([labels for _, labels in pairs])
    if pairs and all(_is_constant(labels) for _, labels in pairs):
        text = "the labels have a single value (of large volumes, the centre was read), so there is nothing to learn. Check the files."
        remarks.append(Remark("labels.empty", text))
    return remarks


def _ignored(prepared: Prepared) -> int | None:
    value = prepared.watcher.criterion.ignore_index
    return None if value is None else int(value)


def _raws(volumes: Sequence[Volume]) -> list[Image]:
    return [Image(volume.raw, Axes("CZYX"), source=str(volume.path)) for volume in volumes]


def _labels(volume: Volume) -> list[Image]:
    """The first channel of integer labels as images ZYX, lazy; maps of real numbers are not labels."""
    whole = [array for array in volume.labels if np.issubdtype(array.dtype, np.integer)]
    return [Image(View(array, [1, 2, 3], {0: 0}), Axes("ZYX"), source=str(volume.path)) for array in whole]


def _centre(labels: Image) -> np.ndarray:
    return crop(labels, middle(labels.spatial_shape, LOOKED_AT))[0]


def _is_grey(labels: Image) -> bool:
    return looks_grey(_centre(labels))


def _is_constant(labels: Image) -> bool:
    block = _centre(labels)
    return bool((block == block.flat[0]).all())
