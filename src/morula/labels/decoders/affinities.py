"""What the decoders of affinities share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.labels.decoders.derived import joined
from morula.labels.geometry import sizes_of
from morula.labels.objects import Objects, numbered, object_means
from morula.labels.representations.base import Representation
from morula.labels.small import select
from morula.labels.watershed import watershed


def only_affinities(representations: Sequence[Representation[Any]], decoder: str) -> Representation[Any]:
    """The channel A, which must be alone.

    Raises:
        OptionError: when it is not.
    """
    if [each.role for each in representations] != ["affinity"]:
        given = ", ".join(each.code for each in representations)
        raise OptionError(f"the decoder {decoder} reads affinities alone, but the channels are {given}. Predict A alone.")
    return representations[0]


def offsets_of(representation: Any, prediction: np.ndarray) -> list[tuple[int, ...]]:
    """Offsets of the predicted affinities.

    Raises:
        DataError: when they are not as many as there are channels.
        OptionError: when they are for images of another number of axes.
    """
    steps: list[tuple[int, ...]] = representation.options.steps(prediction.ndim - 1)
    if len(steps) != len(prediction):
        raise DataError(f"the prediction has {len(prediction)} channels but there are {len(steps)} affinity offsets. Give C(Z)YX.")
    return steps


def direct(steps: Sequence[Sequence[int]], decoder: str) -> list[int]:
    """Which offsets are to direct neighbours: no more than 1 along any axis.

    Raises:
        OptionError: when there is none.
    """
    found = [channel for channel, step in enumerate(steps) if max(map(abs, step)) == 1]
    if not found:
        raise OptionError(
            f"the decoder {decoder} needs affinities of direct neighbours, but the offsets are {[list(step) for step in steps]}. "
            "Add offsets of 1, one an axis."
        )
    return found


def affinity_objects(labels: np.ndarray, prediction: np.ndarray, steps: Sequence[tuple[int, ...]], min_size: int) -> Objects:
    """Objects with ids 1..n, those of fewer than `min_size` voxels given to the neighbours that flood them.

    Confidence is the mean over an object of each voxel's highest affinity to a neighbour; intermediates are `joined`, that affinity,
    and `parted`, 1 minus the lowest.
    """
    high, parted = joined(prediction, steps)
    if min_size > 1 and labels.any():
        kept = sizes_of(labels, int(labels.max())) >= min_size
        markers = np.zeros_like(labels)
        select(labels.ravel(), labels.ravel(), kept, markers.ravel())
        labels = watershed(parted, markers, labels > 0)
    labels, old = numbered(labels, int(labels.max()))
    confidence = np.clip(object_means(labels, high, len(old)), 0, 1)
    return Objects(labels, confidence, {"joined": high, "parted": parted})
