"""Patches at given places against a plain loop over them."""

import itertools

import numpy as np
import pytest

from morula.inference.patches import PatchPlan
from morula.inference.predict import TiledNetwork, predict_array
from morula.testing.errors import raises

CASES = [
    ((10, 11), (4, 5), ((0, 3, 6), (0, 5, 6)), (2, 3), 1),
    ((9, 8, 7), (4, 4, 3), ((0, 2, 4, 5), (0, 4), (0, 1, 2, 3, 4)), (0, 1, 2), 4),
    ((3, 12, 5), (3, 6, 5), ((0,), (0, 6), (0,)), (7, 0, 0), 2),  # a halo beyond the image's mirror image
    ((5, 4), (9, 4), ((-2,), (0,)), (1, 0), 1),  # a patch larger than the image
]


def forward(tile):
    """An answer that tells tiles apart, of two channels."""
    mean = tile.mean(dim=tuple(range(2, tile.ndim)), keepdim=True)
    return (tile + mean).repeat(1, 2, *[1] * (tile.ndim - 2))


def answers(image, plan):
    """Each patch's box and its answer, in the order of the original: z, y, x."""
    beyond = [(h + max(0, -s[0]), h + max(0, s[-1] + p - n)) for h, s, p, n in zip(plan.halo, plan.patch_starts, plan.patch, plan.shape)]
    padded = np.pad(image, [(0, 0), *beyond], mode="reflect")
    for start in itertools.product(*plan.patch_starts):
        first = [a - h + low for a, h, (low, _) in zip(start, plan.halo, beyond)]
        tile = padded[(slice(None), *(slice(a, a + t) for a, t in zip(first, plan.tile)))]
        answer = np.repeat(tile + tile.mean(dtype=np.float64), 2, axis=0)
        inner = answer[(slice(None), *(slice(h, h + p) for h, p in zip(plan.halo, plan.patch)))]
        cut = [(max(0, -a), min(p, n - a)) for a, p, n in zip(start, plan.patch, plan.shape)]
        box = tuple(slice(a + low, a + high) for a, (low, high) in zip(start, cut))
        yield box, inner[(slice(None), *(slice(*ends) for ends in cut))]


@pytest.mark.parametrize(("shape", "patch", "starts", "halo", "batch"), CASES)
def test_last_patch_wins(shape, patch, starts, halo, batch):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    plan = PatchPlan(shape, patch, starts, halo, batch, blend="last")
    expected = np.full((2, *shape), np.nan)
    for box, answer in answers(image, plan):
        expected[(slice(None), *box)] = answer
    np.testing.assert_allclose(predict_array(image, TiledNetwork(forward, 2), plan), expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "patch", "starts", "halo", "batch"), CASES)
def test_overlaps_are_blended(shape, patch, starts, halo, batch):
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    plan = PatchPlan(shape, patch, starts, halo, batch)
    result = predict_array(image, TiledNetwork(forward, 2), plan)
    covered = np.zeros(shape, int)
    least, most = np.full((2, *shape), np.inf), np.full((2, *shape), -np.inf)
    for box, answer in answers(image, plan):
        covered[box] += 1
        least[(slice(None), *box)] = np.minimum(least[(slice(None), *box)], answer)
        most[(slice(None), *box)] = np.maximum(most[(slice(None), *box)], answer)
    assert covered.min() > 0
    assert (result >= least - 1e-6).all()
    assert (result <= most + 1e-6).all()
    alone = np.broadcast_to(covered == 1, result.shape)
    np.testing.assert_allclose(result[alone], least[alone], atol=1e-6)


def test_weights_are_raised_cosines_with_sum_1():
    plan = PatchPlan((12,), (8,), ((0, 4),), (0,))
    (first, falling), (second, rising) = plan.weights(0)
    assert (first, second) == (0, 4)
    np.testing.assert_allclose(rising[:4], np.sin(np.pi * (np.arange(4) + 0.5) / 8) ** 2, atol=1e-7)
    np.testing.assert_allclose(falling[4:] + rising[:4], 1, atol=1e-7)
    dense = PatchPlan((20,), (8,), (tuple(range(0, 13, 2)),), (0,))
    total = np.zeros(20)
    for begin, weights in dense.weights(0):
        assert (weights > 0).all()
        total[begin : begin + len(weights)] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_gaps_are_rejected():
    with raises("patch.gap", value=(0, 6)):
        PatchPlan((10,), (4,), ((0, 6),), (0,))
    with raises("patch.gap", value=(0, 4)):
        PatchPlan((10,), (4,), ((0, 4),), (0,))
