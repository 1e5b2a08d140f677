"""The loss of EmbedSeg: objects are where voxels are embedded near their object's centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from morula.core.errors import DataError
from morula.losses.sums import Sums, activate, at_least_float32

NEAR = 1e-6
"""Membership below which a voxel outside an object changes nothing."""


@dataclass(frozen=True)
class EmbedSegWeights:
    """Weights of the parts of the loss, and that of voxels inside objects in the seed part."""

    instance: float = 1.0
    variance: float = 10.0
    seed: float = 1.0
    foreground: float = 10.0


def embedseg_sums(
    logits: Tensor,
    target: Tensor,
    instances: Tensor,
    weight: Tensor | None = None,
    *,
    units: Sequence[float],
    weights: EmbedSegWeights = EmbedSegWeights(),
) -> Sums:
    """Sums of `embedseg`; parts (5,): instance part of all objects, their variance parts, their number, seed parts, voxels that count."""
    ndim = logits.ndim - 2
    if len(units) != ndim or target.shape != logits.shape or instances.shape != (len(logits), *logits.shape[2:]):
        raise DataError(
            f"the prediction has shape {tuple(logits.shape)}, so the target needs it, too, ids {(len(logits), *logits.shape[2:])} and "
            f"units {ndim} numbers; given were {tuple(target.shape)}, {tuple(instances.shape)} and {len(units)}."
        )
    values = activate(at_least_float32(logits), "embedding")
    counted = torch.ones_like(instances, dtype=values.dtype) if weight is None else weight[:, 0].to(values.dtype).expand(instances.shape)
    parts = values.new_zeros(5)
    for sample in range(len(logits)):
        parts = parts + _of_image(values[sample], target[sample].to(values.dtype), instances[sample], counted[sample], units, weights)
    return Sums(parts, partial(_total, weights=weights))


def embedseg(
    logits: Tensor,
    target: Tensor,
    instances: Tensor,
    weight: Tensor | None = None,
    *,
    units: Sequence[float],
    weights: EmbedSegWeights = EmbedSegWeights(),
) -> Tensor:
    """Loss of offsets, bandwidths and seediness (Lalit et al., Medical Image Analysis 81, 2022; Neven et al., CVPR 2019).

    Three parts, weighted: the Lovasz hinge between the membership of all voxels in an object and the object, meaned over objects; the
    variance of the bandwidths in an object, meaned over objects; and the squared difference of seediness and membership (in the
    background: 0), meaned over voxels. The membership is that of `morula.representations.embedding.Embedding`, with the centre
    of the target and the mean bandwidth of the object's voxels.

    Args:
        logits: NC(Z)YX, before the activation.
        target: NC(Z)YX as the representation encodes it; its offsets tell the centres.
        instances: N(Z)YX ids, 0 for background.
        weight: N1(Z)YX or NC(Z)YX; 0 leaves a voxel out.
        units: length of a voxel along each axis in the unit of the offsets, array order.
        weights: of the parts.

    Raises:
        DataError: for shapes that do not fit.

    Examples:
        >>> zeros = torch.zeros(1, 5, 4, 4)
        >>> float(embedseg(zeros, zeros, torch.zeros(1, 4, 4, dtype=torch.int64), units=(0.1, 0.1)))
        0.25
    """
    return embedseg_sums(logits, target, instances, weight, units=units, weights=weights).total


def _total(parts: Tensor, weights: EmbedSegWeights) -> Tensor:
    hinge, variance, objects, seed, voxels = parts
    each = weights.instance * hinge + weights.variance * variance
    return each / objects.clamp(min=1) + weights.seed * seed / voxels.clamp(min=1)


def _of_image(
    values: Tensor, target: Tensor, instances: Tensor, counted: Tensor, units: Sequence[float], weights: EmbedSegWeights
) -> Tensor:
    """Parts of one image: all objects at once, as pairs of an object and a voxel that is in it or embedded near it."""
    ndim = len(units)
    voxels = (counted > 0).nonzero(as_tuple=True)
    unit = values.new_tensor(list(units)).flip(0)  # x, y, z as the channels
    places = torch.stack([axis.to(values.dtype) for axis in reversed(voxels)]) * unit[:, None]
    flat = (counted > 0).flatten()
    embedded, sigma = places + values[:ndim].flatten(1)[:, flat], values[ndim:-1].flatten(1)[:, flat]
    seediness, share = values[-1].flatten()[flat], counted.flatten()[flat]
    ids, member = torch.unique(instances[voxels], return_inverse=True)
    member = member - int(len(ids) > 0 and ids[0] == 0)  # -1 in the background
    inside = member >= 0
    number = len(ids) - int(len(ids) > 0 and ids[0] == 0)
    background = (share * seediness.square() * ~inside).sum()
    if number == 0:
        zero = background * 0
        return torch.stack([zero, zero, zero, background, share.sum()])
    own = member[inside]
    size = torch.bincount(own, minlength=number).to(values.dtype)
    centre = _means(places[:, inside] + target[:ndim].flatten(1)[:, flat][:, inside], own, size)
    bandwidth = _means(sigma[:, inside], own, size)
    scale = (10 * bandwidth).exp()
    spread = _means((sigma[:, inside] - bandwidth.detach()[:, own]).square().mean(dim=0, keepdim=True), own, size).sum()
    where, voxel = _near(embedded.detach(), centre, scale.detach(), member)
    membership = (-((embedded[:, voxel] - centre[:, where]).square() * scale[:, where]).sum(dim=0)).exp()
    belongs = member[voxel] == where
    hinge = _lovasz(membership, belongs, where, number)
    goal = membership.detach()[belongs]
    taught = share[voxel[belongs]] * (seediness[voxel[belongs]] - goal).square()
    seed = background + weights.foreground * taught.sum()
    return torch.stack([hinge, spread, values.new_tensor(float(number)), seed, share.sum()])


def _means(values: Tensor, member: Tensor, size: Tensor) -> Tensor:
    """Mean of values (K, n) over the voxels of each object: (K, objects)."""
    return values.new_zeros((len(values), len(size))).index_add(1, member, values) / size


def _near(embedded: Tensor, centre: Tensor, scale: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of an object and a voxel that is in it or has a membership that counts, object by object."""
    found = []
    most = max(1, 2**24 // max(embedded.shape[1], 1))
    for start in range(0, centre.shape[1], most):
        some = slice(start, start + most)
        square = embedded.new_zeros((centre[:, some].shape[1], embedded.shape[1]))
        for axis in range(len(embedded)):
            row = scale[min(axis, len(scale) - 1), some]
            square += (embedded[axis] - centre[axis, some, None]).square() * row[:, None]
        near = (-square).exp() > NEAR
        near |= member == torch.arange(start, start + len(near), device=member.device)[:, None]
        pairs = near.nonzero()
        pairs[:, 0] += start
        found.append(pairs)
    where, voxel = torch.cat(found).unbind(dim=1)
    return where, voxel


def _lovasz(membership: Tensor, belongs: Tensor, where: Tensor, number: int) -> Tensor:
    """Sum over objects of the Lovasz hinge (Berman et al., CVPR 2018) of 2 x membership - 1 against the object.

    Pairs come object by object. Errors are sorted within each; their weights are the steps of the Jaccard index as voxels are added.
    """
    errors = 1 - (2 * membership - 1) * (2 * belongs.to(membership.dtype) - 1)
    order = torch.argsort(errors.detach(), descending=True, stable=True)
    order = order[torch.argsort(where[order], stable=True)]
    errors, truth, segment = errors[order], belongs[order].double(), where[order]
    starts = torch.searchsorted(segment, torch.arange(number, device=segment.device))
    size = torch.zeros(number, dtype=torch.float64, device=segment.device).index_add(0, segment, truth)[segment]
    seen, wrong = truth.cumsum(0), (1 - truth).cumsum(0)
    seen = seen - (seen - truth)[starts][segment]
    wrong = wrong - (wrong - (1 - truth))[starts][segment]
    jaccard = 1 - (size - seen) / (size + wrong)
    before = torch.cat([jaccard.new_zeros(1), jaccard[:-1]])
    before[starts] = 0
    return (errors.relu() * (jaccard - before).to(errors.dtype)).sum()
