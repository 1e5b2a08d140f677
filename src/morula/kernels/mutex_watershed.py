"""Mutex watershed: partition voxels by attractions and repulsions, without seeds.

All pairs of voxels are sorted by weight and processed greedily (as in Kruskal's algorithm for spanning trees)::

    attraction a-b   merge the clusters of a and b, unless a repulsion between them was processed before
    repulsion  a-b   the clusters of a and b may never merge (a mutual exclusion, "mutex"), unless they already are one

    weight  0.95 attract 1-2   -> {1,2}
            0.90 repel   2-5   -> {1,2} and {5} exclude each other
            0.80 attract 4-5   -> {4,5}
            0.70 attract 2-4   -> forbidden: {1,2} and {4,5} exclude each other

Clusters are disjoint sets. Exclusions are kept twice: in a hash set of pairs of clusters, to test them in constant time, and in a linked
list per cluster, to move them when clusters merge (the shorter list into the longer one). Weights have 65,536 levels, so that sorting is a
counting sort; pairs are sorted in passes that hold no more pairs than there are voxels, which bounds the memory whatever the number of
offsets. Complexity: about O(pairs x log).

After Wolf et al., The Mutex Watershed: Efficient, Parameter-Free Image Partitioning (ECCV 2018, https://arxiv.org/abs/1904.12654).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import read_only, to_3d
from morula.kernels.disjoint_sets import FREE, key_of, root, shorter_first, slot_of, table, valid_pairs

LEVELS = 65_536
_ATTRACT, _REPEL, _BOTH = 0, 1, 2
Settings: TypeAlias = tuple[np.float32, np.float32, np.uint64]
"""Threshold, noise and its seed."""
Pairs: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, Settings]
"""Affinities CZYX, offsets (C, 3), kind of each channel, strides of repelling pairs, which voxels attract others (flat), settings."""
State: TypeAlias = tuple[np.ndarray, int, np.ndarray, np.ndarray, int]
"""Excluding pairs of clusters and their number, the nodes of the lists (member of the other cluster, next node) and their number."""


def mutex_watershed(
    affinities: np.ndarray,
    offsets: Sequence[Sequence[int]],
    *,
    threshold: float = 0.5,
    strides: Sequence[int] = (1,),
    noise: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Objects of affinities, without seeds.

    Direct neighbours (offsets of at most 1 along every axis) attract each other with the weight of their affinity a where it is above the
    threshold. Pairs farther apart repel each other with the weight 1 - a. Where all offsets are to direct neighbours, those at or below the
    threshold repel each other. Among equal weights direct neighbours go first, then the order of the array counts.

    Args:
        affinities: channels C(Z)YX float32 in [0, 1]; 1 where a voxel and the one at the offset belong to the same object.
        offsets: one per channel, in array order.
        threshold: affinity above which direct neighbours attract each other.
        strides: use repelling pairs only at every n-th voxel, one number or one per axis.
        noise: largest random number that is added to the weight of each repelling pair, so that equal ones are processed in random order.
        seed: seed of the random numbers.

    Returns:
        Ids (Z)YX uint32 from 1 on in the order of the array; 0 where a voxel attracts no other.

    Examples:
        >>> row = np.array([[[0, 1, 0.9, 0.2, 0.9]], [[0, 0, 0, 0.1, 0.1]]], np.float32)
        >>> mutex_watershed(row, [(0, -1), (0, -3)])
        array([[1, 1, 1, 2, 2]], dtype=uint32)
    """
    ndim = affinities.ndim - 1
    strides_3d = to_3d(tuple(strides) * (1 if len(strides) > 1 else ndim), 1).astype(np.int64)
    steps = np.array([to_3d(offset, 0) for offset in offsets], np.int64)
    # direct neighbours only attract where long-range pairs do the repelling
    direct = np.abs(steps).max(axis=1) == 1
    kinds = np.where(direct, _BOTH if direct.all() else _ATTRACT, _REPEL).astype(np.int64)
    values = _volumes(affinities)
    attracted = np.zeros(values[0].size, np.bool_)
    _attract(values, steps, kinds, np.float32(threshold), attracted)
    pairs = (values, steps, kinds, strides_3d, attracted, (np.float32(threshold), np.float32(noise), np.uint64(seed)))
    return _numbered(_clustered(np.argsort(~direct, kind="stable"), pairs), attracted).reshape(affinities.shape[1:])


def _clustered(channels: np.ndarray, pairs: Pairs) -> np.ndarray:
    """The parent of each voxel in the forest of the clusters."""
    size = pairs[0][0].size
    parent = np.arange(size, dtype=np.int32 if size < 2**31 else np.int64)
    head = np.full(size, -1, parent.dtype)
    state = (table(1024), 0, np.empty(1024, parent.dtype), np.empty(1024, parent.dtype), 0)
    for order in _ordered(channels, pairs):
        state = _process(order, pairs, parent, head, state)
    return parent


def attach_voxels(labels: np.ndarray, affinities: np.ndarray, offsets: Sequence[Sequence[int]], *, threshold: float = 0.5) -> np.ndarray:
    """Extend labels: each unlabelled voxel joins the object to which the strongest path of affinities leads.

    The strength of a path is its lowest affinity; the objects themselves stay unchanged (a minimum spanning forest, Meyer 1994).

    Args:
        labels: ids (Z)YX uint32.
        affinities: channels C(Z)YX float32 in [0, 1], of direct neighbours.
        offsets: one per channel, in array order.
        threshold: affinity above which two voxels are connected.

    Examples:
        >>> attach_voxels(np.array([[0, 0, 7, 0, 9]], np.uint32), np.array([[[0, 0.2, 0.9, 0.7, 0.8]]], np.float32), [(0, -1)])
        array([[0, 7, 7, 9, 9]], dtype=uint32)
    """
    steps = np.array([to_3d(offset, 0) for offset in offsets], np.int64)
    settings = (np.float32(threshold), np.float32(0), np.uint64(0))
    pairs = (_volumes(affinities), steps, np.full(len(steps), _ATTRACT), np.ones(3, np.int64), np.empty(0, np.bool_), settings)
    # a copy: the ids of roots change while clusters merge
    ids = np.array(labels, np.uint32).ravel()
    parent = np.arange(ids.size, dtype=np.int32 if ids.size < 2**31 else np.int64)
    for order in _ordered(np.arange(len(steps)), pairs):
        _merge_unlabelled(order, pairs[0].shape, steps, parent, ids)
    return _ids_of_roots(parent, ids).reshape(labels.shape)


def _volumes(affinities: np.ndarray) -> np.ndarray:
    values = np.asarray(affinities, np.float32)
    return read_only(values[:, None] if values.ndim == 3 else values)


def _ordered(channels: np.ndarray, pairs: Pairs) -> Iterator[np.ndarray]:
    """The pairs that attract or repel, by decreasing weight, as channel x voxels + voxel.

    Each batch has at most as many pairs as there are voxels and reuses the same memory.
    """
    values = pairs[0]
    counts = np.zeros(LEVELS, np.int64)
    buffer = np.empty(values[0].size, np.uint32 if values.size < 2**32 else np.int64)
    # an empty order: this call only counts the pairs per level
    _collect(channels, pairs, LEVELS - 1, counts, buffer[:0])
    for low, high, chosen in _passes(counts[::-1], channels, values[0].size):
        in_pass = counts[LEVELS - 1 - high : LEVELS - low]
        slots = np.cumsum(in_pass) - in_pass
        _collect(chosen, pairs, high, slots, buffer)
        # `_collect` has moved each slot behind the last pair of its level: the last slot is the number of pairs
        yield buffer[: slots[-1]]


def _passes(counts: np.ndarray, channels: np.ndarray, most: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Ranges of levels, from the highest to the lowest, with at most `most` pairs each, and the channels to visit.

    A level with more pairs is processed channel by channel, which is its order anyway.
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
    """Level of a pair's weight; `LEVELS` where the pair neither attracts nor repels."""
    threshold, noise, seed = settings
    if kind != _REPEL and value > threshold:
        weight = value
    elif kind == _ATTRACT:
        return LEVELS
    else:
        weight = np.float32(1) - value
        if noise > 0:  # a random number in [0, 1) per pair: a hash of its index and the seed, so that no numbers are stored
            bits = (np.uint64(pair) + seed * np.uint64(0x632BE59BD9B4E019)) * np.uint64(0x9E3779B97F4A7C15)
            bits = (bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            weight += noise * np.float32(np.float64(bits >> np.uint64(11)) / 9007199254740992.0)
    # clipped: noise may raise a weight above 1
    return int(min(max(weight, np.float32(0)), np.float32(1)) * np.float32(LEVELS - 1) + np.float32(0.5))


@njit(cache=True, nogil=True)
def _collect(channels: np.ndarray, pairs: Pairs, high: int, slots: np.ndarray, order: np.ndarray) -> None:
    """Write the pairs of the levels from `high` downwards into `order`, starting at their slots; or only count them, where `order` is
    empty.

    Repelling pairs are left out where one voxel attracts no other: it is background, and its exclusions have no effect.
    """
    values, steps, kinds, strides_3d, attracts, settings = pairs
    _, nz, ny, nx = values.shape
    low = high + 1 - slots.size
    for c in channels:
        dz, dy, dx = steps[c]
        shift = (dz * ny + dy) * nx + dx
        sz, sy, sx = (strides_3d[0], strides_3d[1], strides_3d[2]) if kinds[c] == _REPEL else (1, 1, 1)
        for z in range(max(0, -dz), nz - max(0, dz)):
            for y in range(max(0, -dy), ny - max(0, dy)):
                if z % sz != 0 or y % sy != 0:
                    continue
                for x in range(max(0, -dx), nx - max(0, dx)):
                    if sx > 1 and x % sx != 0:
                        continue
                    voxel = (z * ny + y) * nx + x
                    value = values[c, z, y, x]
                    # `not >`, as in `_level`: both must decide equally about every value, NaN included
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
def _process(order: np.ndarray, pairs: Pairs, parent: np.ndarray, head: np.ndarray, state: State) -> State:
    """Process pairs in their order.

    `keys` holds the pairs of clusters that exclude each other (`used` of them, some of clusters that no longer exist). Each cluster has a
    linked list, `head` and `following`, of members of the clusters that it excludes (`partner`); `nodes` is the number of nodes.
    """
    values, steps, kinds, _, _, settings = pairs
    keys, used, partner, following, nodes = state
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
        # already exclusive: the attraction is forbidden, the repulsion is known
        if keys[slot] == key:
            continue
        if not attract:
            keys[slot] = key
            used += 1
            # both clusters list the other one; the arrays of nodes grow by doubling
            if nodes + 2 > partner.size:
                partner, following = _doubled(partner), _doubled(following)
            partner[nodes], following[nodes], head[a] = b, head[a], nodes
            partner[nodes + 1], following[nodes + 1], head[b] = a, head[b], nodes + 1
            nodes += 2
        else:
            # small to large: moving the shorter list bounds all moves together by n log n
            short, long = shorter_first(a, b, head, following)
            parent[short] = long
            node = head[short]
            while node >= 0:
                next_node = following[node]
                # the exclusions of the smaller cluster now hold for the merged one
                moved = key_of(long, root(parent, partner[node]))
                slot = slot_of(keys, moved)
                if keys[slot] == FREE:
                    keys[slot] = moved
                    used += 1
                    following[node], head[long] = head[long], node
                    if 4 * used > 3 * keys.size:
                        keys, used = valid_pairs(keys, parent, used // 2 + 1024)
                node = next_node
        if 4 * used > 3 * keys.size:
            keys, used = valid_pairs(keys, parent, used // 2 + 1024)
    return keys, used, partner, following, nodes


@njit(cache=True, nogil=True)
def _doubled(nodes: np.ndarray) -> np.ndarray:
    longer = np.empty(2 * nodes.size, nodes.dtype)
    longer[: nodes.size] = nodes
    return longer


@njit(cache=True, nogil=True)
def _numbered(parent: np.ndarray, attracted: np.ndarray) -> np.ndarray:
    """Ids of the clusters in the order of their first voxel."""
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
def _merge_unlabelled(order: np.ndarray, shape: tuple[int, int, int, int], steps: np.ndarray, parent: np.ndarray, ids: np.ndarray) -> None:
    """Merge clusters along the pairs unless both have an id. The id of a cluster is that of its root in `ids`."""
    _, nz, ny, nx = shape
    shifts = (steps[:, 0] * ny + steps[:, 1]) * nx + steps[:, 2]
    size = nz * ny * nx
    for pair in order:
        voxel = pair % size
        a, b = root(parent, voxel), root(parent, voxel + shifts[pair // size])
        if a != b and (ids[a] == 0 or ids[b] == 0):
            parent[b] = a
            # one of them is 0
            ids[a] = max(ids[a], ids[b])


@njit(cache=True, nogil=True)
def _ids_of_roots(parent: np.ndarray, ids: np.ndarray) -> np.ndarray:
    out = np.empty_like(ids)
    for voxel in range(ids.size):
        out[voxel] = ids[root(parent, voxel)]
    return out
