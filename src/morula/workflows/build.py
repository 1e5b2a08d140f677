"""The network and the batches of a prepared job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from morula.workflows.prepare import Prepared

if TYPE_CHECKING:
    from morula.data.loader import PatchLoaders
    from morula.nn.network import Network


def build_with_seed(prepared: Prepared) -> Network:
    """The network with initial weights drawn from the seed of the job."""
    import torch

    from morula.nn.build import build_network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(prepared.train.seed)
        return build_network(prepared.job.network, prepared.facts.ndim, prepared.facts.in_channels, prepared.method.heads)


def loaders_of(prepared: Prepared) -> PatchLoaders:
    """Batches of the prepared patches."""
    from morula.data.loader import PatchLoaders

    job = prepared.job
    return PatchLoaders(
        prepared.train,
        prepared.validation,
        job.sampling.batch_size,
        job.training.steps_per_epoch or max(1, len(prepared.train) // job.sampling.batch_size),
        job.training.workers,
        validation_batches=job.training.validation_batches,
    )
