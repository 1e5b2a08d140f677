"""Mutex watershed: groups of voxels that attract each other, kept apart by those that repel each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numba import njit

from morula.core.label_image import to_3d
from morula.kernels.disjoint_sets import FREE, current, key_of, root, shorter, slot_of, table

LEVELS = 65_536
_ATTRACT, _REPEL, _BOTH = 0, 1, 2
Settings: TypeAlias = tuple[np.float32, np.float32, np.uint64]
"""Threshold, noise and its seed."""
Pairs: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, Settings]
"""Affinities CZYX, offsets (C, 3), kind of each channel, strides of repelling pairs, which voxels attract others (flat), settings."""
State: TypeAlias = tuple[np.ndarray, int, np.ndarray, np.ndarray, int]
"""Excluding pairs of groups and their number, the nodes of the lists (member of the other group, next node) and their number."""


def mutex_watershed(
    affinities: np.ndarray,
    offsets: Sequence[Sequence[int]],
    *,
    threshold: float = 0.5,
    strides: Sequence[int] = (1,),
    noise: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Objects of affinities, without any seed.

    All pairs of voxels are taken in the order of their weight. Direct neighbours (offsets of no more than 1 along any axis) attract each
    other with the weight of their affinity a where it is above the threshold: their groups become one, unless they exclude each other.
    Pairs farther apart repel each other with the weight 1 - a: from then on their groups exclude each other, unless they are one
    already. Where all offsets are to direct neighbours, those at or below the threshold repel each other. After Wolf et al., The Mutex
    Watershed (ECCV 2018, https://arxiv.org/abs/1904.12654). Weights are brought to 65,536 levels; within one, direct neighbours come
    first, then the order of the array counts.

    Args:
        affinities: channels C(Z)YX float32 in [0, 1]; 1 where a voxel and the one at the offset belong together.
        offsets: one a channel, in array order.
        threshold: affinity above which direct neighbours attract each other.
        strides: take repelling pairs at every so many voxels only, one number or one an axis.
        noise: largest number that is added to the weights of repelling pairs, drawn for each, so that equal ones come in random order.
        seed: of the noise.

    Returns:
        Ids (Z)YX uint32 from 1 on in the order of the array; 0 where a voxel attracts no other.

    Examples:
        >>> row = np.array([[[0, 1, 0.9, 0.2, 0.9]], [[0, 0, 0, 0.1, 0.1]]], np.float32)
        >>> mutex_watershed(row, [(0, -1), (0, -3)])
        array([[1, 1, 1, 2, 2]], dtype=uint32)
    """
    ndim = affinities.ndim - 1
    every = to_3d(tuple(strides) * (1 if len(strides) > 1 else ndim), 1).astype(np.int64)
    steps = np.array([to_3d(offset, 0) for offset in offsets], np.int64)
    direct = np.abs(steps).max(axis=1) == 1
    kinds = np.where(direct, _BOTH if direct.all() else _ATTRACT, _REPEL).astype(np.int64)
    values = _volumes(affinities)
    attracted = np.zeros(values[0].size, np.bool_)
    _attract(values, steps, kinds, np.float32(threshold), attracted)
    pairs = (values, steps, kinds, every, attracted, (np.float32(threshold), np.float32(noise), np.uint64(seed)))
    return _numbered(_grouped(np.argsort(~direct, kind="stable"), pairs), attracted).reshape(affinities.shape[1:])


def _grouped(channels: np.ndarray, pairs: Pairs) -> np.ndarray:
    """The parent of each voxel in the forest of the groups."""
    size = pairs[0][0].size
    parent = np.arange(size, dtype=np.int32 if size < 2**31 else np.int64)
    head = np.full(size, -1, parent.dtype)
    state = (table(1024), 0, np.empty(1024, parent.dtype), np.empty(1024, parent.dtype), 0)
    for order in _ordered(channels, pairs):
        state = _take(order, *pairs, parent, head, state)
    return parent


def attach_voxels(labels: np.ndarray, affinities: np.ndarray, offsets: Sequence[Sequence[int]], *, threshold: float = 0.5) -> np.ndarray:
    """Labels with the voxels outside them given to the object that they hang on by the strongest chain of affinities above a threshold.

    A chain is as strong as its weakest link; the objects themselves stay (a spanning forest, Meyer 1994).

    Args:
        labels: ids (Z)YX uint32.
        affinities: channels C(Z)YX float32 in [0, 1], of direct neighbours.
        offsets: one a channel, in array order.
        threshold: affinity above which a link holds.

    Examples:
        >>> attach_voxels(np.array([[0, 0, 7, 0, 9]], np.uint32), np.array([[[0, 0.2, 0.9, 0.7, 0.8]]], np.float32), [(0, -1)])
        array([[0, 7, 7, 9, 9]], dtype=uint32)
    """
    steps = np.array([to_3d(offset, 0) for offset in offsets], np.int64)
    settings = (np.float32(threshold), np.float32(0), np.uint64(0))
    pairs = (_volumes(affinities), steps, np.full(len(steps), _ATTRACT), np.ones(3, np.int64), np.empty(0, np.bool_), settings)
    ids = np.array(labels, np.uint32).ravel()
    parent = np.arange(ids.size, dtype=np.int32 if ids.size < 2**31 else np.int64)
    for order in _ordered(np.arange(len(steps)), pairs):
        _hang(order, pairs[0].shape, steps, parent, ids)
    return _inherited(parent, ids).reshape(labels.shape)


def _volumes(affinities: np.ndarray) -> np.ndarray:
    values = np.asarray(affinities, np.float32)
    return np.ascontiguousarray(values[:, None] if values.ndim == 3 else values)


def _ordered(channels: np.ndarray, pairs: Pairs) -> Iterator[np.ndarray]:
    """The pairs that say something in the order of their weight, as channel x voxels + voxel: as many at a time as there are voxels,
    each time in the same memory."""
    values = pairs[0]
    counts = np.zeros(LEVELS, np.int64)
    room = np.empty(values[0].size, np.uint32 if values.size < 2**32 else np.int64)
    _sweep(channels, *pairs, LEVELS - 1, counts, room[:0])
    for low, high, chosen in _passes(counts[::-1], channels, values[0].size):
        found = counts[LEVELS - 1 - high : LEVELS - low]
        slots = np.cumsum(found) - found
        _sweep(chosen, *pairs, high, slots, room)
        yield room[: slots[-1]]


def _passes(counts: np.ndarray, channels: np.ndarray, most: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Ranges of levels from the highest to the lowest that hold at most so many pairs, with the channels to look at.

    A level that holds more is taken channel by channel, which is its order anyway.
    """
    high = len(counts) - 1
    while high >= 0:
        low, pairs = high, int(counts[high])
        while low > 0 and pairs + counts[low - 1] <= most:
            low -= 1
            pairs += int(counts[low])
        if pairs > most:
            for channel in channels:
                yield low, high, np.array([channel])
        elif pairs:
            yield low, high, channels
        high = low - 1


@njit(cache=True, nogil=True)
def _attract(values: np.ndarray, steps: np.ndarray, kinds: np.ndarray, threshold: np.float32, attracts: np.ndarray) -> None:
    """Mark the voxels of pairs that attract each other."""
    _, nz, ny, nx = values.shape
    for c in range(len(steps)):
        dz, dy, dx = steps[c]
        shift = (dz * ny + dy) * nx + dx
        if kinds[c] == _REPEL:
            continue
        for z in range(max(0, -dz), nz - max(0, dz)):
            for y in range(max(0, -dy), ny - max(0, dy)):
                for x in range(max(0, -dx), nx - max(0, dx)):
                    if values[c, z, y, x] > threshold:
                        voxel = (z * ny + y) * nx + x
                        attracts[voxel] = attracts[voxel + shift] = True


@njit(cache=True, nogil=True, inline="always")
def _level(value: np.float32, kind: int, pair: int, settings: Settings) -> int:
    """Level of a pair's weight; `LEVELS` where it says nothing."""
    threshold, noise, seed = settings
    if kind != _REPEL and value > threshold:
        weight = value
    elif kind == _ATTRACT:
        return LEVELS
    else:
        weight = np.float32(1) - value
        if noise > 0:  # a number in [0, 1) of the pair's own, by mixing the bits of its place and the seed
            bits = (np.uint64(pair) + seed * np.uint64(0x632BE59BD9B4E019)) * np.uint64(0x9E3779B97F4A7C15)
            bits = (bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            weight += noise * np.float32(np.float64(bits >> np.uint64(11)) / 9007199254740992.0)
    return int(min(max(weight, np.float32(0)), np.float32(1)) * np.float32(LEVELS - 1) + np.float32(0.5))


@njit(cache=True, nogil=True)
def _sweep(  # noqa: PLR0913 - one loop over the pairs, which counts them or puts them in order
    channels: np.ndarray,
    values: np.ndarray,
    steps: np.ndarray,
    kinds: np.ndarray,
    every: np.ndarray,
    attracts: np.ndarray,
    settings: Settings,
    high: int,
    slots: np.ndarray,
    order: np.ndarray,
) -> None:
    """Put the pairs of the levels from `high` downwards into `order` from their slots on, as channel x voxels + voxel; or only count them,
    where `order` has no room.

    Pairs that repel each other are left out where one of them attracts no voxel at all: it stays alone, and excludes nothing.
    """
    _, nz, ny, nx = values.shape
    low = high + 1 - slots.size
    for c in channels:
        dz, dy, dx = steps[c]
        shift = (dz * ny + dy) * nx + dx
        sz, sy, sx = (every[0], every[1], every[2]) if kinds[c] == _REPEL else (1, 1, 1)
        for z in range(max(0, -dz), nz - max(0, dz)):
            for y in range(max(0, -dy), ny - max(0, dy)):
                if z % sz != 0 or y % sy != 0:
                    continue
                for x in range(max(0, -dx), nx - max(0, dx)):
                    if sx > 1 and x % sx != 0:
                        continue
                    voxel = (z * ny + y) * nx + x
                    value = values[c, z, y, x]
                    repel = kinds[c] == _REPEL or (kinds[c] == _BOTH and not value > settings[0])
                    if repel and not (attracts[voxel] and attracts[voxel + shift]):
                        continue
                    pair = c * nz * ny * nx + voxel
                    level = _level(value, kinds[c], pair, settings)
                    if low <= level <= high:
                        if order.size > 0:
                            order[slots[high - level]] = pair
                        slots[high - level] += 1


@njit(cache=True, nogil=True)
def _take(  # noqa: PLR0913 - the loop over pairs, as it is compiled
    order: np.ndarray,
    values: np.ndarray,
    steps: np.ndarray,
    kinds: np.ndarray,
    every: np.ndarray,
    attracts: np.ndarray,
    settings: Settings,
    parent: np.ndarray,
    head: np.ndarray,
    state: State,
) -> State:
    """Take pairs in their order.

    `keys` holds the pairs of groups that exclude each other (`used` of them, some of groups that are no more); each group has a list,
    from `head` through `after`, of members of the groups that it excludes (`partner`), `made` nodes in all.
    """
    keys, used, partner, after, made = state
    _, nz, ny, nx = values.shape
    flat = values.ravel()
    shifts = (steps[:, 0] * ny + steps[:, 1]) * nx + steps[:, 2]
    size = nz * ny * nx
    for pair in order:
        channel, voxel = pair // size, pair % size
        attract = kinds[channel] != _REPEL and flat[pair] > settings[0]
        other = voxel + shifts[channel]
        a, b = root(parent, voxel), root(parent, other)
        if a == b:
            continue
        key = key_of(a, b)
        slot = slot_of(keys, key)
        if keys[slot] == key:
            continue
        if not attract:
            keys[slot] = key
            used += 1
            if made + 2 > partner.size:
                partner, after = _longer(partner), _longer(after)
            partner[made], after[made], head[a] = b, head[a], made
            partner[made + 1], after[made + 1], head[b] = a, head[b], made + 1
            made += 2
        else:
            short, long = shorter(a, b, head, after)
            parent[short] = long
            node = head[short]
            while node >= 0:
                following = after[node]
                moved = key_of(long, root(parent, partner[node]))
                slot = slot_of(keys, moved)
                if keys[slot] == FREE:
                    keys[slot] = moved
                    used += 1
                    after[node], head[long] = head[long], node
                    if 4 * used > 3 * keys.size:
                        keys, used = current(keys, parent, used // 2 + 1024)
                node = following
        if 4 * used > 3 * keys.size:
            keys, used = current(keys, parent, used // 2 + 1024)
    return keys, used, partner, after, made


@njit(cache=True, nogil=True)
def _longer(nodes: np.ndarray) -> np.ndarray:
    longer = np.empty(2 * nodes.size, nodes.dtype)
    longer[: nodes.size] = nodes
    return longer


@njit(cache=True, nogil=True)
def _numbered(parent: np.ndarray, attracted: np.ndarray) -> np.ndarray:
    """Ids of the groups in the order of their first voxel."""
    ids = np.zeros(parent.size, np.uint32)
    number = 0
    for voxel in range(parent.size):
        if attracted[voxel]:
            group = root(parent, voxel)
            if ids[group] == 0:
                number += 1
                ids[group] = number
            ids[voxel] = ids[group]
    return ids


@njit(cache=True, nogil=True)
def _hang(order: np.ndarray, shape: tuple[int, int, int, int], steps: np.ndarray, parent: np.ndarray, ids: np.ndarray) -> None:
    """Join groups along the pairs unless both have an id; `ids` of a group's representative is the group's."""
    _, nz, ny, nx = shape
    shifts = (steps[:, 0] * ny + steps[:, 1]) * nx + steps[:, 2]
    size = nz * ny * nx
    for pair in order:
        voxel = pair % size
        a, b = root(parent, voxel), root(parent, voxel + shifts[pair // size])
        if a != b and (ids[a] == 0 or ids[b] == 0):
            parent[b] = a
            ids[a] = max(ids[a], ids[b])


@njit(cache=True, nogil=True)
def _inherited(parent: np.ndarray, ids: np.ndarray) -> np.ndarray:
    out = np.empty_like(ids)
    for voxel in range(ids.size):
        out[voxel] = ids[root(parent, voxel)]
    return out
