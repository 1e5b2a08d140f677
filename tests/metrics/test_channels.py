"""Overlap of channels in batches of patches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morula.metrics.channels import channel_dice, channel_iou
from morula.metrics.overlap import dice, iou

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))


@given(SHAPES, st.integers(0, 2**32 - 1), st.booleans())
def test_iou_is_the_mean_over_samples_and_channels(shape, seed, partly):
    rng = np.random.default_rng(seed)
    predicted, target, counted = (rng.random(shape) < 0.5 for _ in range(3))
    found = []
    for sample in range(shape[0]):
        for channel in range(shape[1]):
            p, t, c = (array[sample, channel] for array in (predicted, target, counted if partly else np.ones(shape, bool)))
            found.append(iou((t & c).astype(np.uint8), (p & c).astype(np.uint8)) if ((p | t) & c).any() else 1.0)
    assert channel_iou(predicted, target, counted if partly else None) == pytest.approx(np.mean(found))


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_dice_of_masks_is_that_of_the_batch(shape, seed):
    rng = np.random.default_rng(seed)
    predicted, target, counted = (rng.random(shape) < 0.6 for _ in range(3))
    found = []
    for channel in range(shape[1]):
        p, t = ((array & counted)[:, channel].reshape(1, -1).astype(np.uint8) for array in (predicted, target))
        found.append(dice(t, p) if p.any() or t.any() else 0.0)
    assert channel_dice(predicted, target, counted) == pytest.approx(np.mean(found))


def test_dice_of_probabilities():
    p, t = np.array([0.2, 0.9, 0.5]), np.array([0.0, 1.0, 1.0])
    assert channel_dice(p.reshape(1, 1, 1, 3), t.reshape(1, 1, 1, 3)) == pytest.approx(2 * p @ t / (p @ p + t @ t))
