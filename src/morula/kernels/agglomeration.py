"""Agglomeration: fragments become objects where the affinities across their contact are high."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numba import njit

from morula.core.label_image import as_volume, to_3d
from morula.kernels.disjoint_sets import FREE, current, key_of, root, shorter, slot_of, table

BINS = 128


def agglomerate(
    fragments: np.ndarray,
    number: int,
    affinities: np.ndarray,
    offsets: Sequence[Sequence[int]],
    *,
    threshold: float = 0.5,
    quantile: float = 0.5,
    min_contact: int = 1,
) -> np.ndarray:
    """Labels in which fragments are joined, the surest contact first.

    A contact of two fragments is as sure as a quantile of the affinities of the pairs of voxels across it; contacts that become one as
    their fragments are joined count together. After Funke et al. (IEEE TPAMI 41, 2019, https://arxiv.org/abs/1709.02974). Affinities are
    counted in 128 bins.

    Args:
        fragments: ids (Z)YX uint32.
        number: the largest of them.
        affinities: channels C(Z)YX float32 in [0, 1].
        offsets: one a channel, in array order.
        threshold: what a contact must reach.
        quantile: 0.5 for the median.
        min_contact: pairs that a contact needs.

    Returns:
        Ids (Z)YX uint32: of each object that of one of its fragments.

    Examples:
        >>> agglomerate(np.array([[1, 1, 2, 3]], np.uint32), 3, np.array([[[0, 1, 0.9, 0.2]]], np.float32), [(0, -1)])
        array([[2, 2, 2, 3]], dtype=uint32)
    """
    values = np.asarray(affinities, np.float32)
    values = values[:, None] if values.ndim == 3 else values
    steps = np.array([to_3d(offset, 0) for offset in offsets], np.int64)
    parent = np.arange(number + 1)
    keys, _ = _contacts(as_volume(fragments), values.shape, steps, parent)
    ends = np.sort(keys[keys != FREE])
    order = np.full(keys.size, -1)
    _index(ends, keys, order)
    counts = np.zeros((len(ends), BINS), np.uint32)
    _histograms(as_volume(fragments), values, steps, keys, order, counts)
    _merge(ends, counts, parent, float(threshold), float(quantile), int(min_contact))
    return _roots(parent)[fragments]


@njit(cache=True, nogil=True)
def _contacts(ids: np.ndarray, shape: tuple[int, int, int, int], steps: np.ndarray, parent: np.ndarray) -> tuple[np.ndarray, int]:
    """Pairs of fragments that touch, as a table with their number; there is room for as many again."""
    _, nz, ny, nx = shape
    keys, used = table(1024), 0
    for dz, dy, dx in steps:
        for z in range(max(0, -dz), nz - max(0, dz)):
            for y in range(max(0, -dy), ny - max(0, dy)):
                for x in range(max(0, -dx), nx - max(0, dx)):
                    a, b = ids[z, y, x], ids[z + dz, y + dy, x + dx]
                    if a == b or a == 0 or b == 0:
                        continue
                    key = key_of(a, b)
                    slot = slot_of(keys, key)
                    if keys[slot] == FREE:
                        keys[slot] = key
                        used += 1
                        if 4 * used > 3 * keys.size:
                            keys, used = current(keys, parent, used)
    return current(keys, parent, used)


@njit(cache=True, nogil=True)
def _roots(parent: np.ndarray) -> np.ndarray:
    out = np.empty(parent.size, np.uint32)
    for label in range(parent.size):
        out[label] = root(parent, label)
    return out


@njit(cache=True, nogil=True)
def _index(ends: np.ndarray, keys: np.ndarray, order: np.ndarray) -> None:
    for contact in range(ends.size):
        order[slot_of(keys, ends[contact])] = contact


@njit(cache=True, nogil=True)
def _histograms(ids: np.ndarray, values: np.ndarray, steps: np.ndarray, keys: np.ndarray, order: np.ndarray, counts: np.ndarray) -> None:
    """Affinities across each contact."""
    _, nz, ny, nx = values.shape
    for c in range(len(steps)):
        dz, dy, dx = steps[c]
        for z in range(max(0, -dz), nz - max(0, dz)):
            for y in range(max(0, -dy), ny - max(0, dy)):
                for x in range(max(0, -dx), nx - max(0, dx)):
                    a, b = ids[z, y, x], ids[z + dz, y + dy, x + dx]
                    if a != b and a != 0 and b != 0:
                        bin_ = int(min(max(values[c, z, y, x], np.float32(0)), np.float32(1)) * np.float32(BINS - 1) + np.float32(0.5))
                        counts[order[slot_of(keys, key_of(a, b))], bin_] += 1


@njit(cache=True, nogil=True)
def _sureness(counts: np.ndarray, quantile: float, least: int) -> float:
    """The quantile of one contact; -1 where there are too few pairs."""
    total = counts.sum()
    if total < least:
        return -1.0
    seen = np.int64(0)
    for bin_ in range(BINS):
        seen += counts[bin_]
        if seen > 0 and seen >= quantile * total:
            return bin_ / (BINS - 1)
    return 1.0


@njit(cache=True, nogil=True)
def _merge(  # noqa: C901 - the loop over contacts, as it is compiled
    ends: np.ndarray,
    counts: np.ndarray,
    parent: np.ndarray,
    threshold: float,
    quantile: float,
    least: int,
) -> None:
    """Join fragments in `parent`. Each fragment has a list of its contacts, two nodes a contact; `keys` with `order` finds the
    contact of a pair. The version of a contact counts its changes; -1 when it is no more."""
    n = ends.size
    head, after = np.full(parent.size, -1), np.full(2 * n, -1)
    version = np.zeros(n, np.int64)
    keys, order, used = _anew(ends, version, parent)
    heap = [(0.0, np.int64(-1), np.int64(0))]
    heap.pop()
    for each in range(n):
        for side in range(2):
            end = int(ends[each] >> np.int64(32) if side == 0 else ends[each] & np.int64(0xFFFFFFFF))
            after[2 * each + side], head[end] = head[end], 2 * each + side
        sure = _sureness(counts[each], quantile, least)
        if sure >= threshold:
            heapq.heappush(heap, (-sure, np.int64(each), np.int64(0)))
    while len(heap) > 0:
        _, contact, when = heapq.heappop(heap)
        if version[contact] != when:
            continue
        a, b = root(parent, ends[contact] >> np.int64(32)), root(parent, ends[contact] & np.int64(0xFFFFFFFF))
        short, long = shorter(a, b, head, after)
        parent[short] = long
        version[contact] = -1
        if 4 * (used + n) > 3 * keys.size:
            keys, order, used = _anew(ends, version, parent)
        node = head[short]
        while node >= 0:
            following, moved = after[node], node // 2
            other = ends[moved] & np.int64(0xFFFFFFFF) if node % 2 == 0 else ends[moved] >> np.int64(32)
            other = root(parent, other)
            if other != long and version[moved] >= 0:
                slot = slot_of(keys, key_of(long, other))
                if keys[slot] == FREE:
                    keys[slot] = key_of(long, other)
                    order[slot] = moved
                    after[node], head[long] = head[long], node
                    used += 1
                else:
                    kept = order[slot]
                    counts[kept] += counts[moved]
                    version[moved] = -1
                    version[kept] += 1
                    sure = _sureness(counts[kept], quantile, least)
                    if sure >= threshold:
                        heapq.heappush(heap, (-sure, np.int64(kept), version[kept]))
            node = following


@njit(cache=True, nogil=True)
def _anew(ends: np.ndarray, version: np.ndarray, parent: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """A table of the contacts that are left, with room for three times as many, their numbers, and how many they are."""
    keys = table(4 * ends.size)
    order = np.full(keys.size, -1)
    used = 0
    for contact in range(ends.size):
        if version[contact] >= 0:
            key = key_of(root(parent, ends[contact] >> np.int64(32)), root(parent, ends[contact] & np.int64(0xFFFFFFFF)))
            slot = slot_of(keys, key)
            keys[slot], order[slot] = key, contact
            used += 1
    return keys, order, used
