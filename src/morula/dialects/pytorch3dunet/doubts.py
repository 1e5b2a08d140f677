"""What is implausible in the volumes of a job of pytorch-3dunet; the training can start all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.axes import Axes
from morula.core.image import Image
from morula.core.remark import Remark
from morula.data.plausibility import background_with_id, misplaced_labels, repeated_images
from morula.data.summary import object_label_warnings
from morula.dialects.pytorch3dunet.training import Prepared
from morula.dialects.pytorch3dunet.volumes import Volume
from morula.io.lazy import View


def doubts_about(prepared: Prepared) -> list[Remark]:
    """Remarks on raw data and integer labels: repeated, grey, empty or misplaced ones, background with an id."""
    train, validation = prepared.train_patches.volumes, prepared.val_patches.volumes
    remarks = repeated_images({"training": _raws(train), "validation": _raws(validation)})
    pairs = [(raw, labels) for volume, raw in zip(train, _raws(train), strict=True) for labels in _labels(volume)]
    ignored = prepared.watcher.criterion.ignore_index
    value = None if ignored is None else int(ignored)
    # masks are what most of these networks learn
    unlike = [each for each in object_label_warnings([(labels, value) for _, labels in pairs]) if each.code != "labels.mask"]
    if any(each.code == "labels.grey" for each in unlike):
        return remarks + unlike
    return remarks + unlike + misplaced_labels(pairs, value) + background_with_id([labels for _, labels in pairs])


def _raws(volumes: Sequence[Volume]) -> list[Image]:
    return [Image(volume.raw, Axes("CZYX"), source=str(volume.path)) for volume in volumes]


def _labels(volume: Volume) -> list[Image]:
    """The first channel of integer labels as images ZYX, lazy; maps of real numbers are not labels."""
    whole = [array for array in volume.labels if np.issubdtype(array.dtype, np.integer)]
    return [Image(View(array, [1, 2, 3], {0: 0}), Axes("ZYX"), source=str(volume.path)) for array in whole]
