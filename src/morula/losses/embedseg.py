"""The loss of EmbedSeg: voxels of one object are embedded near its centre.

Each voxel x predicts an offset o(x) towards its object's centre, a bandwidth s(x) and a seediness. The membership of a voxel in an
object with centre c and mean bandwidth s is a Gaussian of the distance in embedding space::

    membership(x) = exp(-Σ_axes exp(10 s) (x + o(x) - c)²)

     embedding space:     . .:x:. .        voxels of one object gather around x = c;
                           . ::: .         objects are separated where the memberships of others are low

The hinge part of the loss lets memberships approach the object's mask, the variance part makes s constant inside an object, and
the seed part lets the seediness predict the membership, by which decoding picks the centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from morula.core.errors import DataError
from morula.losses.sums import Sums, activate, at_least_float32, plain_loss

NEAR = 1e-6
"""Memberships below this are treated as 0 for voxels outside the object: their gradient is negligible."""

_PAIRS = 2**24  # object-voxel distances held in memory at a time


@dataclass(frozen=True)
class EmbedSegWeights:
    """Weights of the three parts of the loss, and `foreground`: the weight of voxels inside objects in the seed part."""

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
    """Loss of offsets, bandwidths and seediness (Lalit et al., Medical Image Analysis 81, 2022; Neven et al., CVPR 2019).

    The weighted sum of three parts:

    - instance: Lovasz hinge between the memberships of all voxels and the object's mask, averaged over objects;
    - variance: variance of the bandwidths inside an object, averaged over objects;
    - seed: squared difference of seediness and membership (in the background: and 0), averaged over voxels with non-zero weight.

    The membership is that of `morula.representations.embedding.Embedding`, with the centre from the target and the mean bandwidth of
    the object's voxels.

    Args:
        logits: NC(Z)YX, before the activation.
        target: NC(Z)YX as the representation encodes it; only its offsets are used, to locate the centres.
        instances: N(Z)YX object ids, 0 for background.
        weight: N1(Z)YX or NC(Z)YX; voxels of weight 0 are left out.
        units: edge lengths of a voxel (Z)YX, in the unit of the offsets.
        weights: weights of the parts.

    Returns:
        Parts (5,): instance part summed over objects, variance part summed over objects, number of objects, seed part summed over
        voxels, number of voxels. `embedseg` gives the value.

    Raises:
        DataError: when shapes do not fit.

    Examples:
        >>> zeros = torch.zeros(1, 5, 4, 4)
        >>> float(embedseg(zeros, zeros, torch.zeros(1, 4, 4, dtype=torch.int64), units=(0.1, 0.1)))
        0.25
    """
    ids_shape = (len(logits), *logits.shape[2:])
    for name, given, expected in (("target", target.shape, logits.shape), ("instances", instances.shape, ids_shape)):
        if given != expected:
            raise DataError(
                "loss.target_shape", f"must have the shape {tuple(expected)}, as the prediction has", key=name, value=tuple(given)
            )
    if len(units) != logits.ndim - 2:
        raise DataError("loss.units", f"must be {logits.ndim - 2} lengths, one per spatial axis", key="units", value=tuple(units))
    values = activate(at_least_float32(logits), "embedding")
    counted = torch.ones_like(instances, dtype=values.dtype) if weight is None else weight[:, 0].to(values.dtype).expand(instances.shape)
    parts = values.new_zeros(5)
    for sample in range(len(logits)):
        parts = parts + _of_image(values[sample], target[sample].to(values.dtype), instances[sample], counted[sample], units, weights)
    return Sums(parts, partial(_total, weights=weights))


embedseg = plain_loss(embedseg_sums)
"""Loss of EmbedSeg as a scalar; arguments of `embedseg_sums`."""


def _total(parts: Tensor, weights: EmbedSegWeights) -> Tensor:
    hinge, variance, objects, seed, voxels = parts
    per_object = weights.instance * hinge + weights.variance * variance
    return per_object / objects.clamp(min=1) + weights.seed * seed / voxels.clamp(min=1)


def _of_image(
    values: Tensor, target: Tensor, instances: Tensor, counted: Tensor, units: Sequence[float], weights: EmbedSegWeights
) -> Tensor:
    """Parts of one image.

    All objects are treated at once, as pairs of an object and a voxel that is inside it or embedded near it: far fewer than
    objects x voxels.
    """
    ndim = len(units)
    voxels = (counted > 0).nonzero(as_tuple=True)
    unit = values.new_tensor(list(units)).flip(0)  # channels are ordered x, y, z
    positions = torch.stack([axis.to(values.dtype) for axis in reversed(voxels)]) * unit[:, None]
    flat = (counted > 0).flatten()
    embedded, sigma = positions + values[:ndim].flatten(1)[:, flat], values[ndim:-1].flatten(1)[:, flat]
    seediness, share = values[-1].flatten()[flat], counted.flatten()[flat]
    ids, member = torch.unique(instances[voxels], return_inverse=True)
    member = member - int(len(ids) > 0 and ids[0] == 0)  # -1 in the background
    inside = member >= 0
    number = len(ids) - int(len(ids) > 0 and ids[0] == 0)
    background = (share * seediness.square() * ~inside).sum()
    if number == 0:
        zero = background * 0  # keeps the graph, so that backward() works without objects
        return torch.stack([zero, zero, zero, background, share.sum()])
    own = member[inside]
    size = torch.bincount(own, minlength=number).to(values.dtype)
    centre = _means(positions[:, inside] + target[:ndim].flatten(1)[:, flat][:, inside], own, size)
    bandwidth = _means(sigma[:, inside], own, size)
    scale = (10 * bandwidth).exp()
    spread = _means((sigma[:, inside] - bandwidth.detach()[:, own]).square().mean(dim=0, keepdim=True), own, size).sum()
    where, voxel = _near(embedded.detach(), centre, scale.detach(), member)
    membership = (-((embedded[:, voxel] - centre[:, where]).square() * scale[:, where]).sum(dim=0)).exp()
    belongs = member[voxel] == where
    hinge = _lovasz(membership, belongs, where, number)
    goal = membership.detach()[belongs]
    inside_error = share[voxel[belongs]] * (seediness[voxel[belongs]] - goal).square()
    seed = background + weights.foreground * inside_error.sum()
    return torch.stack([hinge, spread, values.new_tensor(float(number)), seed, share.sum()])


def _means(values: Tensor, member: Tensor, size: Tensor) -> Tensor:
    """Mean of values (K, n) over the voxels of each object: (K, objects)."""
    return values.new_zeros((len(values), len(size))).index_add(1, member, values) / size


def _near(embedded: Tensor, centre: Tensor, scale: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Object and voxel of all pairs in which the voxel is inside the object or has a membership above `NEAR`, ordered by object."""
    chunks = []
    # blocks of objects bound the memory of the distance matrix
    block = max(1, _PAIRS // max(embedded.shape[1], 1))
    for start in range(0, centre.shape[1], block):
        some = slice(start, start + block)
        square = embedded.new_zeros((centre[:, some].shape[1], embedded.shape[1]))
        for axis in range(len(embedded)):
            row = scale[min(axis, len(scale) - 1), some]
            square += (embedded[axis] - centre[axis, some, None]).square() * row[:, None]
        near = (-square).exp() > NEAR
        near |= member == torch.arange(start, start + len(near), device=member.device)[:, None]
        pairs = near.nonzero()
        pairs[:, 0] += start
        chunks.append(pairs)
    where, voxel = torch.cat(chunks).unbind(dim=1)
    return where, voxel


def _lovasz(membership: Tensor, belongs: Tensor, where: Tensor, number: int) -> Tensor:
    """Sum over objects of the Lovasz hinge (Berman et al., CVPR 2018) of 2 x membership - 1 against the object's mask.

    Per object, hinge errors are sorted in descending order, and an error is weighted by the increase of the Jaccard loss when its voxel
    joins the set of wrong voxels. Pairs are ordered by object, so sums per object are differences of cumulative sums over all pairs.
    """
    errors = 1 - (2 * membership - 1) * (2 * belongs.to(membership.dtype) - 1)
    order = torch.argsort(errors.detach(), descending=True, stable=True)
    order = order[torch.argsort(where[order], stable=True)]  # by object, within it by error
    errors, truth, segment = errors[order], belongs[order].double(), where[order]
    starts = torch.searchsorted(segment, torch.arange(number, device=segment.device))
    size = torch.zeros(number, dtype=torch.float64, device=segment.device).index_add(0, segment, truth)[segment]
    seen, wrong = truth.cumsum(0), (1 - truth).cumsum(0)
    seen = seen - (seen - truth)[starts][segment]
    wrong = wrong - (wrong - (1 - truth))[starts][segment]
    jaccard = 1 - (size - seen) / (size + wrong)
    before = torch.cat([jaccard.new_zeros(1), jaccard[:-1]])
    before[starts] = 0  # the first pair of an object has no predecessor
    return (errors.relu() * (jaccard - before).to(errors.dtype)).sum()
