"""Hypothesis strategies: label images, voxel spacings and intensity images, in 2D and 3D.

They need the package hypothesis (``pip install hypothesis``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cc3d
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Ids = Literal["sequential", "gaps", "huge"]


def shapes(*, ndim: int | None = None, min_side: int = 1, max_side: int = 24) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes (Z)YX; 2D and 3D where `ndim` is `None`. The z axis is no longer than 12."""
    flat = st.tuples(*[st.integers(min_side, max_side)] * 2)
    deep = st.tuples(st.integers(min_side, max(min_side, min(max_side, 12))), *[st.integers(min_side, max_side)] * 2)
    return {2: flat, 3: deep}[ndim] if ndim else st.one_of(flat, deep)


def spacings(ndim: int) -> st.SearchStrategy[tuple[float, ...]]:
    """Voxel edge lengths in array order: equal ones, a longer z, and in the plane equal or not."""
    lengths = st.sampled_from([0.5, 1.0, 2.0])
    plane = st.one_of(lengths.map(lambda y: (y, y)), st.tuples(lengths, lengths))
    if ndim == 2:
        return plane
    return st.tuples(st.sampled_from([1.0, 2.0, 3.5]), plane).map(lambda pair: (pair[0] * pair[1][1], *pair[1]))


@st.composite
def label_images(
    draw: Callable,
    *,
    ndim: int | None = None,
    min_objects: int = 0,
    max_objects: int = 6,
    max_side: int = 24,
    pieces: bool = False,
    ids: Ids | None = None,
) -> np.ndarray:
    """Label images (Z)YX uint32 of a stated number of boxes and ellipsoids that touch each other and the border, or fill the image.

    Every image has at least as many voxels as objects. The objects are distinct connected pieces unless `pieces` lets one id stand on
    several.

    Args:
        draw: given by hypothesis.
        ndim: 2 or 3; both where `None`.
        min_objects: minimum number of objects.
        max_objects: maximum number of objects.
        max_side: longest edge in voxels.
        pieces: whether an object may consist of several pieces.
        ids: 1 to n, with gaps, or up to 2**31; any of them where `None`.
    """
    shape = draw(shapes(ndim=ndim, max_side=max_side).filter(lambda shape: int(np.prod(shape)) >= min_objects))
    n = draw(st.integers(min_objects, min(max_objects, int(np.prod(shape)))))
    extra = draw(st.integers(0, 2)) if pieces and n else 0
    total = min(n + extra, int(np.prod(shape)))
    places = draw(st.lists(st.integers(0, int(np.prod(shape)) - 1), min_size=total, max_size=total, unique=True))
    centres = np.stack(np.unravel_index(np.array(places, np.intp), shape), axis=1) if total else np.zeros((0, len(shape)), np.intp)
    seeds = np.zeros(shape, np.uint32)
    distance = np.full(shape, np.inf)
    grid = np.indices(shape, dtype=np.float64)
    for number, centre in enumerate(centres, start=1):
        reach = draw(st.sampled_from([1.0, 3.0, 6.0, 100.0]))
        order = draw(st.sampled_from([1.0, 2.0, np.inf]))
        offset = np.abs(grid - centre.reshape(-1, *[1] * len(shape)))
        measure = np.linalg.norm(offset, ord=order, axis=0) if order != 2 else np.sqrt((offset**2).sum(axis=0))
        nearer = (measure < distance) & (measure < reach)
        seeds[nearer] = number
        distance[nearer] = measure[nearer]
    # a later object may have covered the centre of an earlier one, which must keep at least that voxel
    for number, centre in enumerate(centres, start=1):
        seeds[tuple(centre)] = number
    # the pieces beyond the first n get the id of a random object
    owners = np.array([0, *range(1, n + 1), *(draw(st.integers(1, n)) for _ in range(total - n))])
    return _names(draw, n, ids)[owners][_whole(seeds, centres)]


def _whole(seeds: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The piece of each number that holds its centre; the rest becomes background."""
    if not len(centres):
        return seeds
    pieces = cc3d.connected_components(seeds, connectivity=4 if seeds.ndim == 2 else 6)
    kept = np.unique(pieces[tuple(centres.T)])
    return np.where(np.isin(pieces, kept), seeds, 0)


def _names(draw: Callable, n: int, ids: Ids | None) -> np.ndarray:
    """Table from numbers 0 to n to ids."""
    kind = draw(st.sampled_from(["sequential", "gaps", "huge"])) if ids is None else ids
    if kind == "sequential":
        return np.arange(n + 1, dtype=np.uint32)
    # "huge" ids do not fit a table; gaps are dense enough for one
    high = 2**31 if kind == "huge" else max(300, 3 * n)
    chosen = draw(st.lists(st.integers(1, high), min_size=n, max_size=n, unique=True))
    return np.array([0, *chosen], np.uint32)


def images(shape: tuple[int, ...], *, channels: int | None = None) -> st.SearchStrategy[np.ndarray]:
    """Intensity images (Z)YX, or C(Z)YX with `channels`: uint8, uint16, or finite float32, constant ones among them."""
    full = shape if channels is None else (channels, *shape)
    numbers = st.floats(-1e3, 1e3, width=32)
    return st.one_of(
        hnp.arrays(np.uint8, full),
        hnp.arrays(np.uint16, full),
        hnp.arrays(np.float32, full, elements=numbers),
    )
