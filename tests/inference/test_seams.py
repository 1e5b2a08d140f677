"""No seams in the tiled prediction of a network whose normalisation depends on the tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morula.inference.plan import plan_tiles
from morula.inference.predict import TiledNetwork, predict_array
from morula.nn.options import WNetOptions
from morula.nn.wnet import WNet

TILE = 16


def bright_and_dark(shape: tuple[int, ...]) -> np.ndarray:
    """A smooth image, dark in one half and bright in the other, so that neighbouring tiles are normalised by other statistics."""
    place = np.indices(shape).astype(np.float32)
    waves = np.prod([np.sin(0.1 * axis + 1) for axis in place], axis=0)
    return (50 + 10 * waves + 40 * np.tanh((place[-1] - shape[-1] / 2) / 20))[None].astype(np.float32)


def steps_at(prediction: np.ndarray, borders: set[int]) -> tuple[float, float]:
    """Mean step of the profile along the last axis where tiles begin or end, and elsewhere; in pairs of voxels, as pooling makes them."""
    profile = prediction.mean(axis=tuple(range(1, prediction.ndim - 1)))
    steps = np.abs(np.diff(profile.reshape(len(profile), -1, 2).mean(axis=-1), axis=-1)).mean(axis=0)
    at = np.isin(2 * np.arange(1, len(steps) + 1), sorted(borders))
    return float(steps[at].mean()), float(steps[~at].mean())


@pytest.mark.parametrize("norm", ["group", "instance", "batch"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_no_larger_steps_at_tile_borders(ndim, norm):
    shape = (TILE,) * (ndim - 1) + (8 * TILE,)
    image = bright_and_dark(shape)
    ratios = {0.0: [], 0.25: []}
    for seed in range(6):
        torch.manual_seed(seed)
        network = WNet(WNetOptions(features=(8, 16), norm=norm), ndim=ndim, in_channels=1, heads={"classes": 2}).for_prediction().eval()
        for overlap, found in ratios.items():
            fixed = {"tile": (TILE,) * ndim, "overlap": overlap, "memory": 10**9, "bytes_per_voxel": 100.0}
            plan = plan_tiles(shape, halo=network.receptive_halo, multiple=network.multiple, **fixed)
            assert plan.tile == (TILE,) * ndim
            ends = {start + TILE for start in plan.starts[-1]} - {shape[-1]}
            forward = lambda batch, network=network: network((batch - 50) / 25)["classes"]  # noqa: E731
            at, elsewhere = steps_at(predict_array(image, TiledNetwork(forward, 2), plan), ends | set(plan.starts[-1]) - {0})
            found.append(at / elsewhere)
    assert np.median(ratios[0.25]) < 1.35
    assert np.median(ratios[0.0]) > 1.35  # side by side there are seams: what blending is for
