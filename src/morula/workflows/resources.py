"""What a job needs of the computer, compared with what there is before anything of that size is made."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping

import psutil

from morula import workflows
from morula.core.errors import Problem
from morula.core.options import Options
from morula.jobs.job import Job
from morula.methods.base import Method
from morula.methods.planning import Facts
from morula.nn.weight_counts import known_weights

_LENGTHS = ("growth_erosion", "growth_dilation", "smoothing", "spot_sigma", "outline_sigma", "margin", "strides", "grid")
_SIZES = ("min_size", "min_seed", "min_object_size")
_STEPS = 100_000
"""Options of decoders and refinements in voxels along an axis, in voxels of an object, and most steps of an iteration."""
MOST_PATCHES = 10_000_000
"""Most patches of an epoch: their order is drawn and kept in memory."""


def resource_problems(job: Job, facts: Facts, method: Method) -> list[Problem]:
    """What a planned job asks for that this computer has not."""
    problems = [*_backend(job), *_workers(job), *_patches(job, facts), *_objects(job, facts)]
    weights = known_weights(job.network, facts.ndim, facts.in_channels, method.heads)
    fits = weights is not None and 4 * weights <= psutil.virtual_memory().available
    if fits and (problems or job.prediction.memory is None):
        return problems  # without torch
    return problems + workflows.network_size.network_problems(job, facts, method, predicted=not problems)


def _backend(job: Job) -> list[Problem]:
    if job.prediction.backend != "openvino" or importlib.util.find_spec("openvino") is not None:
        return []
    remedy = "Install it with: pip install 'morula[openvino]', or use the backend torch."
    return [Problem("prediction.backend", "OpenVINO is not installed", code="openvino.missing", value="openvino", remedy=remedy)]


def _workers(job: Job) -> list[Problem]:
    most = max(64, 4 * (os.cpu_count() or 1))
    if job.training.workers <= most:
        return []
    rule = f"more than {most} processes never help on a computer with {os.cpu_count()} processors"
    return [Problem("training.workers", rule, code="workers.too_many", value=job.training.workers, remedy="Use at most one per processor.")]


def _patches(job: Job, facts: Facts) -> list[Problem]:
    """Patches that are much larger than all images, or of which a batch does not fit into the memory."""
    sampling, patch = job.sampling, job.sampling.patch_shape
    longest = [max(lengths) for lengths in zip(*facts.shapes, strict=True)]
    if any(edge > max(256, 4 * length) for edge, length in zip(patch, longest, strict=True)):
        rule = f"is more than four times as long as the longest images, {longest}"
        return [Problem("sampling.patch", rule, code="patch.beyond_images", value=patch, remedy="Use a smaller patch, or leave it out.")]
    needed, free = 4 * facts.in_channels * math.prod(patch) * sampling.batch_size, psutil.virtual_memory().available
    if needed > free:
        rule = f"a batch of {sampling.batch_size} patches takes {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free"
        key, value = ("sampling.batch", sampling.batch) if sampling.batch_size > 16 else ("sampling.patch", patch)
        return [Problem(key, rule, code="batch.memory", value=value, remedy="Use a smaller batch or patch.")]
    if isinstance(sampling.patches_per_epoch, int) and sampling.patches_per_epoch > MOST_PATCHES:
        rule, value = f"must be at most {MOST_PATCHES:,}", sampling.patches_per_epoch
        remedy = "Use more epochs of fewer patches."
        return [Problem("sampling.patches_per_epoch", rule, code="patches.too_many", value=value, remedy=remedy)]
    return []


def _objects(job: Job, facts: Facts) -> list[Problem]:
    """Lengths and sizes of decoder, refinement and median filter that no image has: they would fail, or remove all, after the training."""
    length, size = max(256, 4 * max(map(max, facts.shapes))), max(map(math.prod, facts.shapes))
    limits: dict[str, float] = {**dict.fromkeys(_LENGTHS, length), **dict.fromkeys(_SIZES, size), "steps": _STEPS}
    found = _beyond("objects.decoder", job.objects.decoder, limits)
    for number, operation in enumerate(job.objects.refine):
        smallest = {"size": size} if operation.kind in ("remove_small", "remove_small_objects") else {}
        found += _beyond(f"objects.refine.{number}", operation, {**limits, **smallest})
    for filtering in job.prediction.median:
        found += _beyond("prediction.median", filtering, {"size": length})
    return found


def _beyond(place: str, options: Options | None, limits: Mapping[str, float]) -> list[Problem]:
    """Options above their limits."""
    found = []
    for name, value in dict[str, object](options or ()).items():
        numbers = [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, int | float)]
        if name in limits and any(number > limits[name] for number in numbers):
            rule, remedy = f"must be at most {limits[name]:,} for images of this size", "Use a smaller one, or leave it out."
            found.append(Problem(f"{place}.{name}", rule, code="objects.beyond_images", value=value, remedy=remedy))
    return found
