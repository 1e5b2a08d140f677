"""Classes of voxels block by block: they need no halo, and a class is the same in every block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from morula.core.array import ArraySource
from morula.decoders.blockwise import BlockObjects, BlockPlan, Decode, Merged
from morula.kernels.geometry import geometry


def class_block(plan: BlockPlan, number: int, prediction: ArraySource, decode: Decode) -> BlockObjects:
    """The classes in the core of a block of a prediction C(Z)YX, which may be lazy; one row for each class but the background."""
    core = plan.cores[number]
    found = decode(np.ascontiguousarray(prediction[(slice(None), *core.slices)], dtype=np.float32))
    n, ndim = len(found), len(plan.shape)
    boxes = geometry(found.labels, n)
    voxels = boxes.sizes[1:]
    return BlockObjects(
        labels=found.labels,
        voxels=voxels,
        first=np.zeros(n, np.int64),
        whole=np.ones(n, np.bool_),
        starts=boxes.starts[1:] + core.start,
        stops=np.where(voxels[:, None] > 0, boxes.stops[1:] + core.start, np.zeros((n, ndim), np.int64)),
        confidence=np.asarray(found.confidence),
        votes=np.zeros((n, 0), np.int64),
        seen=(),
    )


def merge_classes(plan: BlockPlan, load: Callable[[int], BlockObjects]) -> Merged:
    """The classes of the whole image; those that do not occur have no voxels.

    Args:
        plan: the blocks.
        load: the classes of a block by its number.
    """
    parts = [load(number) for number in range(len(plan))]
    voxels = np.sum([part.voxels for part in parts], axis=0)
    weighted = np.sum([part.confidence.astype(np.float64) * part.voxels for part in parts], axis=0)
    return Merged(
        tables=[np.arange(len(voxels) + 1)] * len(parts),
        voxels=voxels,
        starts=np.min([part.starts for part in parts], axis=0),
        stops=np.max([part.stops for part in parts], axis=0),
        confidence=(weighted / np.maximum(voxels, 1)).astype(np.float32),
        classes=None,
        class_confidence=None,
        merged=0,
    )
