"""Memory that a network needs for its weights, for the tiles of a prediction, and for a training step; nothing of that size is made."""

from __future__ import annotations

import math

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from morula.core.errors import MorulaError, Problem
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


def network_problems(job: Job, facts: Facts, method: Method, *, predicted: bool) -> list[Problem]:
    """Why the network of a planned job cannot be built here; where it can and is `predicted`, why its tiles do not fit."""
    try:
        plan = _planned(job, facts, method)
        check_fits(plan, psutil.virtual_memory().available)
    except MorulaError as error:
        return [Problem.of(error, "network")]
    return _prediction(job, facts, plan) if predicted else []


def too_large_to_prove(job: Job, facts: Facts, method: Method) -> str:
    """Why no training step is tried: it could need more memory than a check may take; nothing on a GPU, which has memory of its own."""
    estimate = step_bytes(job, facts, method)
    if estimate <= PROOF_BYTES or (job.training.device != "cpu" and torch.cuda.is_available()):
        return ""
    needed, free = estimate / 1e9, psutil.virtual_memory().available / 1e9
    return (
        f"A training step may need up to {needed:.1f} GB (estimated from the sizes; {free:.1f} GB are free). It was not tried, because a "
        "check stays within 2 GB. Smaller patches or batches need less."
    )


def step_bytes(job: Job, facts: Facts, method: Method) -> int:
    """Bytes of weights, gradients, optimiser and activations of one training step, from above."""
    plan = _planned(job, facts, method)
    return 16 * plan.weights + _activations(job, facts, plan)


def _planned(job: Job, facts: Facts, method: Method) -> Blueprint:
    """The network of a job without its memory."""
    stated = {name: getattr(job.network, name) for name in type(job.network).model_fields if name != "from_"}
    return plan_network(stated, facts.ndim, facts.in_channels, method.heads)


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
