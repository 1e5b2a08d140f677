"""Laws of the plan and its weights."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morula.core.errors import OptionError
from morula.inference.plan import EXACT_COST, plan_tiles
from morula.testing.errors import raises


@st.composite
def problems(draw):
    ndim = draw(st.integers(2, 3))
    axis = lambda strategy: tuple(draw(strategy) for _ in range(ndim))  # noqa: E731
    multiple = axis(st.sampled_from([1, 2, 4, 8, 16]))
    least = math.prod(multiple)
    return {
        "shape": axis(st.integers(1, 300)),
        "halo": axis(st.integers(0, 40)),
        "multiple": multiple,
        "memory": draw(st.integers(least * 10, least * 10 + 10**7)),
        "bytes_per_voxel": 10.0,
        "overlap": draw(st.sampled_from([None, 0.0, 0.25, 0.5])),
    }


@given(problems())
def test_tiles_cover_the_image_within_memory(problem):
    try:
        plan = plan_tiles(**problem)
    except OptionError:
        assert problem["overlap"] is not None  # half of the only tile that fits may be less than a pooling step
        return
    assert plan.peak_bytes <= problem["memory"]
    assert plan.peak_bytes >= math.prod(plan.tile) * plan.batch * 10
    assert 1 <= plan.batch <= min(8, plan.n_tiles)
    for axis, (n, starts) in enumerate(zip(plan.shape, plan.starts, strict=True)):
        tile, step = plan.tile[axis], problem["multiple"][axis]
        assert tile % step == 0
        assert all(start % step == 0 for start in starts)
        assert starts[0] == 0
        assert starts[-1] + tile >= n
        assert all(a < b <= a + tile - plan.overlap[axis] for a, b in itertools.pairwise(starts))
        total = np.zeros(n)
        for begin, weights in plan.weights(axis):
            assert (weights > 0).all()
            total[begin : begin + len(weights)] += weights
        np.testing.assert_allclose(total, 1, atol=1e-6)
    if plan.exact:
        assert all(len(s) == 1 or m >= h for s, m, h in zip(plan.starts, plan.margin, problem["halo"], strict=True))


@given(problems())
def test_one_tile_where_it_fits(problem):
    problem["memory"] = 10**12
    plan = plan_tiles(**problem)
    assert plan.n_tiles == 1
    assert plan.exact
    assert all(n <= t < n + m for n, t, m in zip(plan.shape, plan.tile, problem["multiple"], strict=True))


@given(problems(), st.integers(2, 8))
def test_more_memory_never_costs_more(problem, factor):
    problem["overlap"], problem["halo"] = None, tuple(min(h, 4) for h in problem["halo"])
    first = plan_tiles(**problem)
    second = plan_tiles(**{**problem, "memory": factor * problem["memory"]})
    if first.exact and second.exact:
        assert second.computed_voxels <= first.computed_voxels


def test_tiles_compute_the_fewest_voxels():
    problem = {"halo": (8, 16, 16), "multiple": (8, 8, 8), "memory": 10**9, "bytes_per_voxel": 1000.0}
    plan = plan_tiles((128, 128, 128), **problem)
    costs = [
        plan_tiles((128, 128, 128), tile=(z, y, x), **problem).computed_voxels
        for z in range(24, 136, 16)
        for y in range(48, 136, 16)
        for x in range(48, 136, 16)
        if z * y * x <= 10**6
    ]
    assert plan.exact
    assert plan.computed_voxels <= min(costs)


def test_large_receptive_fields_are_not_exact():
    plan = plan_tiles((500, 500, 500), halo=(92,) * 3, multiple=(16,) * 3, memory=10**9, bytes_per_voxel=1000)
    assert not plan.exact
    assert plan.overlap == tuple(t // 4 for t in plan.tile)
    assert plan.n_tiles < 1000
    assert plan.computed_voxels < EXACT_COST * 500**3


def test_given_tile():
    plan = plan_tiles((100, 30), halo=(4, 4), multiple=(8, 8), memory=10**9, bytes_per_voxel=8, tile=(64, 64))
    assert plan.tile == (64, 64)
    assert plan.starts == ((0, 40), (0,))
    assert plan.batch == 2
    assert plan.ramp == (0, 0)


def test_tiles_of_one_plane():
    plan = plan_tiles((5, 40, 40), halo=(0, 4, 4), multiple=(1, 8, 8), memory=10**9, bytes_per_voxel=1, tile=(1, 16, 16), overlap=0.25)
    assert plan.starts[0] == (0, 1, 2, 3, 4)
    assert plan.overlap == (0, 4, 4)


def test_a_given_tile_as_short_as_the_pooling_step_still_overlaps():
    problem = {"halo": (4, 4), "multiple": (16, 16), "memory": 10**9, "bytes_per_voxel": 1, "tile": (16, 64)}
    plan = plan_tiles((40, 100), **problem, overlap=0.25)
    assert plan.overlap == (4, 16)
    assert max(np.diff(plan.starts[0])) <= 12
    assert plan.starts[0][-1] + 16 >= 40
    # along the other axis there is room on the pooling grid
    assert all(start % 16 == 0 for start in plan.starts[1])
    # off the pooling grid nothing is exact, however much overlaps
    assert not plan_tiles((40, 40), **{**problem, "tile": (16, 16)}, overlap=0.75).exact


def test_batches_fill_memory():
    problem = {"halo": (4, 4), "multiple": (8, 8), "bytes_per_voxel": 8.0, "tile": (64, 64)}
    assert [plan_tiles((500, 500), memory=n * 64 * 64 * 8, **problem).batch for n in (1, 3, 99)] == [1, 3, 8]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"memory": 100}, "tile.memory"),
        ({"tile": (30, 64)}, "tile.not_a_multiple"),
        ({"tile": (64,)}, "tile.dimensions"),
        ({"overlap": 1.5}, "overlap.fraction"),
        ({"overlap": (60, 0), "tile": (64, 64)}, "overlap.too_large"),
        ({"shape": (0, 5)}, "tile.empty_image"),
    ],
)
def test_errors(change, code):
    problem = {"shape": (100, 100), "halo": (4, 4), "multiple": (8, 8), "memory": 10**6, "bytes_per_voxel": 8.0}
    with raises(code, key=next(iter(change)), value=next(iter(change.values()))):
        plan_tiles(**{**problem, **change})
