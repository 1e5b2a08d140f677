"""The loss of EmbedSeg against sums over images and objects in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morula.losses.embedseg import EmbedSegWeights, embedseg, embedseg_sums
from morula.representations.encode import encode
from morula.testing.errors import raises
from morula.testing.simulate import simulate

CASES = [((14, 15), (0.02, 0.01), {}), ((6, 8, 7), (0.03, 0.01, 0.01), {}), ((12, 12), (0.01, 0.01), {"n_sigma": 1})]


def case(shape, options):
    generator = torch.Generator().manual_seed(0)
    labels = np.stack([simulate(shape=shape, n_objects=4, rng=np.random.default_rng(i)).labels.astype(np.int64) for i in range(2)])
    target = torch.from_numpy(np.stack([encode(each, {"E": {"grid_size": 101, **options}}) for each in labels])).double()
    logits = torch.randn(target.shape, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = (torch.rand((2, 1, *shape), generator=generator) > 0.2).double()
    return logits, target, torch.from_numpy(labels), weight


def by_objects(logits, target, instances, weight, units, weights):
    """Image by image and object by object, every voxel in every object's hinge."""
    ndim = logits.ndim - 2
    hinge = variance = seed = torch.zeros((), dtype=torch.float64)
    objects = 0
    for k in range(len(logits)):
        offset, sigma, seediness = (logits[k, :ndim] / 512).tanh(), 1 + logits[k, ndim:-1] / 24, logits[k, -1].sigmoid()
        counted = weight[k, 0] > 0
        axes = [torch.arange(n, dtype=torch.float64) * unit for n, unit in zip(logits.shape[2:], units, strict=True)]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flip(0)
        seed = seed + seediness.square()[(instances[k] == 0) & counted].sum()
        for label in instances[k][counted].unique().tolist():
            if label == 0:
                continue
            mask = (instances[k] == label) & counted
            centre, mean = (places + target[k, :ndim])[:, mask].mean(1), sigma[:, mask].mean(1)
            square = (places + offset - centre.view(-1, *[1] * ndim)).square()
            member = (-(square * (10 * mean).exp().view(-1, *[1] * ndim)).sum(0)).exp()
            variance = variance + (sigma[:, mask] - mean.detach()[:, None]).square().mean()
            truth = mask[counted].double()
            errors, order = (1 - (2 * member[counted] - 1) * (2 * truth - 1)).sort(descending=True)
            truth = truth[order]
            jaccard = 1 - (truth.sum() - truth.cumsum(0)) / (truth.sum() + (1 - truth).cumsum(0))
            hinge = hinge + (errors.relu() * torch.diff(jaccard, prepend=torch.zeros(1, dtype=torch.float64))).sum()
            seed = seed + weights.foreground * (seediness - member.detach()).square()[mask].sum()
            objects += 1
    return (weights.instance * hinge + weights.variance * variance) / objects + weights.seed * seed / weight.sum()


@pytest.mark.parametrize(("shape", "units", "options"), CASES)
def test_value_and_gradient_equal_plain_sums(shape, units, options):
    logits, target, instances, weight = case(shape, options)
    weights = EmbedSegWeights(1.5, 7.0, 0.5, 3.0)
    fast = embedseg(logits, target, instances, weight, units=units, weights=weights)
    plain = by_objects(logits, target, instances, weight, units, weights)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(*(torch.autograd.grad(each, logits)[0] for each in (fast, plain)), atol=1e-7, rtol=1e-4)


def test_parts_add_over_images():
    logits, target, instances, weight = case(*CASES[0][::2])
    whole = embedseg_sums(logits, target, instances, weight, units=(0.02, 0.01))
    each = [
        embedseg_sums(logits[i : i + 1], target[i : i + 1], instances[i : i + 1], weight[i : i + 1], units=(0.02, 0.01)) for i in range(2)
    ]
    torch.testing.assert_close(whole.value(each[0].parts + each[1].parts), whole.total)


def test_empty_images_have_finite_gradients():
    logits, target, instances, weight = case(*CASES[0][::2])
    for ids, counts in ((instances * 0, weight), (instances, weight * 0)):
        total = embedseg(logits, target, ids, counts, units=(0.02, 0.01))
        assert torch.isfinite(total)
        assert torch.isfinite(torch.autograd.grad(total, logits)[0]).all()
    with raises("loss.units", key="units", value=(0.1, 0.1, 0.1)):
        embedseg(logits, target, instances, units=(0.1, 0.1, 0.1))


def test_perfect_outputs_cost_almost_nothing():
    labels = simulate(shape=(40, 40), n_objects=6, rng=np.random.default_rng(0)).labels
    target = torch.from_numpy(encode(labels, ["E"]))[None]
    logits = torch.cat([target[:, :2].atanh() * 512, (target[:, 2:4] - 1) * 24, torch.logit(target[:, 4:].clamp(1e-4, 1 - 1e-4))], dim=1)
    units = [1 / 1023, 1 / 1023]
    good, bad = (float(embedseg(each, target, torch.from_numpy(labels.astype(np.int64))[None], units=units)) for each in (logits, -logits))
    assert good < 1e-3 < 0.5 < bad
