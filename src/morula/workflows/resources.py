"""What a job needs of the computer, compared with what there is before anything of that size is made."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from morula.core.errors import MorulaError, Problem
from morula.core.options import Options
from morula.inference.memory import available_memory, measure_bytes_per_voxel
from morula.inference.plan import plan_tiles
from morula.jobs.job import Job
from morula.methods.base import Method
from morula.methods.planning import Facts
from morula.nn.blueprint import Blueprint, check_fits
from morula.nn.build import plan_network
from morula.nn.sizes import result_on_meta

PROOF_BYTES = 1_500_000_000
"""A training step that is estimated to need more is not tried by `check`, which is to stay within 2 GB."""
_LENGTHS = ("growth_erosion", "growth_dilation", "smoothing", "spot_sigma", "outline_sigma", "margin", "strides", "grid")
_SIZES = ("min_size", "min_seed", "min_object_size")
_STEPS = 100_000
"""Options of decoders and refinements in voxels along an axis, in voxels of an object, and most steps of an iteration."""
MOST_PATCHES = 10_000_000
"""Most patches of an epoch: their order is drawn and kept in memory."""


@dataclass(frozen=True)
class Estimate:
    """Bytes of weights, gradients, optimiser and activations of one training step, from above."""

    bytes: int


def resource_problems(job: Job, facts: Facts, method: Method) -> tuple[list[Problem], Estimate | None]:
    """What a planned job asks for that this computer has not, and the estimate of a step where there is no problem with its sizes."""
    problems = [*_backend(job), *_workers(job), *_patches(job, facts), *_objects(job, facts)]
    try:
        plan = plan_network(
            {name: getattr(job.network, name) for name in type(job.network).model_fields if name != "from_"},
            facts.ndim,
            facts.in_channels,
            method.heads,
        )
        check_fits(plan, psutil.virtual_memory().available)
    except MorulaError as error:
        return [*problems, Problem.of(error, "network")], None
    if problems:
        return problems, None
    problems += _prediction(job, facts, plan)
    estimate = Estimate(16 * plan.weights + _activations(job, facts, plan))
    return problems, estimate


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


def _prediction(job: Job, facts: Facts, plan: Blueprint) -> list[Problem]:
    """Whether tiles of the network fit into the memory that the job allows for prediction."""
    if job.prediction.memory is None:
        return []
    network, stated = plan.network.eval(), job.prediction.tile
    fixed = network.norm_over_space
    try:
        plan_tiles(
            max(facts.shapes, key=math.prod),
            halo=network.receptive_halo,
            multiple=network.multiple,
            memory=available_memory(job.prediction.memory),
            bytes_per_voxel=measure_bytes_per_voxel(network, facts.in_channels, network.multiple, device="meta"),
            tile=network.padded_shape(stated or job.sampling.patch_shape) if fixed or stated else None,
            overlap=job.prediction.overlap if fixed else None,
        )
    except MorulaError as error:
        return [Problem.of(error, "prediction.memory")]
    finally:
        network.train()
    return []


class _Made(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._known: dict[int, torch.UntypedStorage] = {}  # kept, so that no address is used twice

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes as long as torch itself

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # as torch declares it
        result = result_on_meta(func, args, kwargs or {})
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self._known:
                    self._known[storage._cdata] = storage
                    self.bytes += storage.nbytes()
        return result


def _activations(job: Job, facts: Facts, plan: Blueprint) -> int:
    """Bytes of all results of a forward pass of one batch: what the backward pass keeps, from above."""
    batch = torch.zeros(job.sampling.batch_size, facts.in_channels, *job.sampling.patch_shape, device="meta")
    with _Made() as made:
        try:
            plan.network(batch)
        except (NotImplementedError, RuntimeError, TypeError):
            return 0  # operations that torch knows for real tensors alone, or networks with further inputs: nothing can be said
    return made.bytes + batch.nbytes
