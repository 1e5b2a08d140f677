"""Space on the disk that a command needs at least, compared with what is free before its work starts.

All figures are lower bounds, because a wrong rejection is worse than an error later: compressed images take at least a hundredth of their
values, a checkpoint at least its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from morula.core.outputs import amount, free_space
from morula.core.remark import Remark
from morula.jobs.job import Job
from morula.methods.base import Method
from morula.nn.weight_counts import count_weights
from morula.workflows.prepare import Prepared
from morula.workflows.sources import Opened

if TYPE_CHECKING:
    from morula.models.model import Model

_COMPRESSED = 100
"""Labels and pictures take at least this part of their values."""
_STATES = {"sgd": 1, "adam": 2, "adamw": 2}
"""Values that an optimiser stores per weight (`sgd` with momentum)."""


def prediction_bytes(model: Model, images: Sequence[Opened]) -> int:
    """Least size of what a prediction writes: labels, those before post-processing, and the predicted channels."""
    return _predicted(model.job, model.method, [image.raw.spatial_shape for image in images])


def _predicted(job: Job, method: Method, shapes: Sequence[Sequence[int]]) -> int:
    options, voxels = job.objects, sum(map(math.prod, shapes))
    written = 2 * (1 + bool(options.refine or options.filter) + (method.object_classes is not None))
    written += 4 * len(method.channels) * job.prediction.save_channels
    return voxels * written // _COMPRESSED


def coloured_bytes(shape: Sequence[int], thresholds: int) -> int:
    """Least size of the coloured images of found, missed and false objects: three channels per threshold."""
    return 3 * thresholds * math.prod(shape) // _COMPRESSED


def run_bytes(prepared: Prepared) -> int:
    """Least size of a whole run: that of the training, the search for settings, or the results, whichever comes to most on the disk."""
    job, method, held = prepared.job, prepared.method, prepared.validation
    trained = training_bytes(prepared)
    searched = 0
    if job.objects.tune and held is not None:  # the channels of all validation images are stored until the search ends
        searched = 4 * len(method.channels) * sum(math.prod(source.extent.shape) for source in held.sources)
    return trained + max(searched, _predicted(job, method, prepared.test_shapes))


def space_warning(needed: int, place: Path) -> Remark | None:
    """A warning where less is free in the place of a run than it needs at least."""
    free = free_space(place)
    if free is None or needed <= free:
        return None
    text = f"the run needs at least {amount(needed)} on the disk, but {amount(free)} are free in {place}"
    return Remark("output.little_space", f"{text}. Free space, or run it into a folder on another disk.")


def training_bytes(prepared: Prepared) -> int:
    """Least size of a trained run: of each start the model, the best weights and a state to resume from, and a new state beside the old."""
    job, facts = prepared.job, prepared.facts
    weights = 4 * count_weights(job.network, facts.ndim, facts.in_channels, prepared.method.heads)
    state = weights * (1 + _STATES.get(job.training.optimiser.kind, 0))
    return job.training.restarts * (2 * weights + state) + state
