r"""Hierarchical agglomeration: merge fragments whose contacts have high affinities, the most certain contact first.

The fragments of an over-segmentation are the nodes of a graph; two that touch share an edge with the histogram of the affinities of all
voxel pairs across their contact. The score of an edge is a quantile of its histogram::

      1 --0.9-- 2          merge 1 and 2 (0.9 is the highest score); their edges to 3 become one
       \       /           whose histogram is the sum: a quantile of the pairs of both contacts
      0.2     0.7    ->    {1,2} --0.55-- 3
         \   /
           3               continue while the highest score reaches the threshold

Adding histograms keeps every quantile exact to one of 128 bins, whatever the order of merges. Edges are in a heap; when an edge changes,
its version is raised and it is pushed again, so that outdated entries are recognised when they are popped. When two fragments merge, the
one with fewer edges hands them over (small to large), so that every edge moves at most a logarithmic number of times. Complexity: O(voxels
x offsets) for the histograms and O(edges x log^2) for the merges.

After Funke et al. (IEEE TPAMI 41, 2019, https://arxiv.org/abs/1709.02974), whose program is waterz.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, read_only, to_3d
from morula.kernels.disjoint_sets import FREE, key_of, root, shorter_first, slot_of, table, valid_pairs

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
    """Merge fragments along contacts whose score reaches a threshold, the highest score first.

    Args:
        fragments: ids (Z)YX uint32.
        number: the largest of them.
        affinities: channels C(Z)YX float32 in [0, 1].
        offsets: one per channel, in array order.
        threshold: lowest score of a contact that is merged.
        quantile: which quantile of the affinities across a contact is its score; 0.5 is the median.
        min_contact: smallest number of voxel pairs across a contact that is merged.

    Returns:
        Ids (Z)YX uint32; the id of an object is that of one of its fragments.

    Examples:
        >>> agglomerate(np.array([[1, 1, 2, 3]], np.uint32), 3, np.array([[[0, 1, 0.9, 0.2]]], np.float32), [(0, -1)])
        array([[2, 2, 2, 3]], dtype=uint32)
    """
    values = read_only(np.asarray(affinities, np.float32))
    values = values[:, None] if values.ndim == 3 else values
    steps = np.array([to_3d(offset, 0) for offset in offsets], np.int64)
    parent = np.arange(number + 1)
    # two passes: the pairs of fragments first, so that the histograms can be one dense array
    keys, _ = _contacts(as_volume(fragments), values.shape, steps, parent)
    # sorted, so that the order of contacts, and with it ties between equal scores, does not depend on the hash table
    pairs = np.sort(keys[keys != FREE])
    order = np.full(keys.size, -1)
    _index(pairs, keys, order)
    counts = np.zeros((len(pairs), BINS), np.uint32)
    _histograms(as_volume(fragments), values, steps, keys, order, counts)
    _merge(pairs, counts, parent, float(threshold), float(quantile), int(min_contact))
    return _roots(parent)[fragments]


@njit(cache=True, nogil=True)
def _contacts(ids: np.ndarray, shape: tuple[int, int, int, int], steps: np.ndarray, parent: np.ndarray) -> tuple[np.ndarray, int]:
    """Hash table of the pairs of fragments that touch, and their number."""
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
                        # no fragment has been merged yet: all pairs are valid, and the table doubles
                        if 4 * used > 3 * keys.size:
                            keys, used = valid_pairs(keys, parent, used)
    return valid_pairs(keys, parent, used)


@njit(cache=True, nogil=True)
def _roots(parent: np.ndarray) -> np.ndarray:
    out = np.empty(parent.size, np.uint32)
    for label in range(parent.size):
        out[label] = root(parent, label)
    return out


@njit(cache=True, nogil=True)
def _index(pairs: np.ndarray, keys: np.ndarray, order: np.ndarray) -> None:
    for contact in range(pairs.size):
        order[slot_of(keys, pairs[contact])] = contact


@njit(cache=True, nogil=True)
def _histograms(ids: np.ndarray, values: np.ndarray, steps: np.ndarray, keys: np.ndarray, order: np.ndarray, counts: np.ndarray) -> None:
    """Histogram of the affinities across each contact."""
    _, nz, ny, nx = values.shape
    for c in range(len(steps)):
        dz, dy, dx = steps[c]
        for z in range(max(0, -dz), nz - max(0, dz)):
            for y in range(max(0, -dy), ny - max(0, dy)):
                for x in range(max(0, -dx), nx - max(0, dx)):
                    a, b = ids[z, y, x], ids[z + dz, y + dy, x + dx]
                    if a != b and a != 0 and b != 0:
                        # rounded to the nearest bin; values outside [0, 1] are clipped
                        bin_ = int(min(max(values[c, z, y, x], np.float32(0)), np.float32(1)) * np.float32(BINS - 1) + np.float32(0.5))
                        counts[order[slot_of(keys, key_of(a, b))], bin_] += 1


@njit(cache=True, nogil=True)
def _score(counts: np.ndarray, quantile: float, min_contact: int) -> float:
    """Score of one contact, the quantile of its histogram; -1 where there are too few pairs."""
    total = counts.sum()
    if total < min_contact:
        return -1.0
    counted = np.int64(0)
    for bin_ in range(BINS):
        counted += counts[bin_]
        if counted > 0 and counted >= quantile * total:
            return bin_ / (BINS - 1)
    return 1.0


@njit(cache=True, nogil=True)
def _merge(  # noqa: C901 - the loop over contacts, as it is compiled
    pairs: np.ndarray,
    counts: np.ndarray,
    parent: np.ndarray,
    threshold: float,
    quantile: float,
    min_contact: int,
) -> None:
    """Merge fragments in the forest `parent`.

    Every fragment has a linked list of its contacts (`head`, `following_node`; two nodes per contact). `keys` and `order` find the contact
    of a pair. `version` counts the changes of a contact; -1 marks one that no longer exists.
    """
    n = pairs.size
    head, following_node = np.full(parent.size, -1), np.full(2 * n, -1)
    version = np.zeros(n, np.int64)
    keys, order, used = _rebuilt_table(pairs, version, parent)
    # Numba infers the type of a list from its first item
    heap = [(0.0, np.int64(-1), np.int64(0))]
    heap.pop()
    for contact in range(n):
        for side in range(2):
            fragment = int(pairs[contact] >> np.int64(32) if side == 0 else pairs[contact] & np.int64(0xFFFFFFFF))
            following_node[2 * contact + side], head[fragment] = head[fragment], 2 * contact + side
        score = _score(counts[contact], quantile, min_contact)
        if score >= threshold:
            heapq.heappush(heap, (-score, np.int64(contact), np.int64(0)))
    while len(heap) > 0:
        _, merged, pushed_version = heapq.heappop(heap)
        # an outdated entry: the contact has changed or disappeared since it was pushed
        if version[merged] != pushed_version:
            continue
        a, b = root(parent, pairs[merged] >> np.int64(32)), root(parent, pairs[merged] & np.int64(0xFFFFFFFF))
        # small to large: the fragment with fewer contacts hands them over
        short, long = shorter_first(a, b, head, following_node)
        parent[short] = long
        version[merged] = -1
        if 4 * (used + n) > 3 * keys.size:
            keys, order, used = _rebuilt_table(pairs, version, parent)
        node = head[short]
        while node >= 0:
            next_node, moved = following_node[node], node // 2
            other = pairs[moved] & np.int64(0xFFFFFFFF) if node % 2 == 0 else pairs[moved] >> np.int64(32)
            other = root(parent, other)
            if other != long and version[moved] >= 0:
                slot = slot_of(keys, key_of(long, other))
                if keys[slot] == FREE:
                    keys[slot] = key_of(long, other)
                    order[slot] = moved
                    following_node[node], head[long] = head[long], node
                    used += 1
                else:
                    # both fragments touched the same third one: their contacts become one
                    kept = order[slot]
                    counts[kept] += counts[moved]
                    version[moved] = -1
                    version[kept] += 1
                    score = _score(counts[kept], quantile, min_contact)
                    if score >= threshold:
                        heapq.heappush(heap, (-score, np.int64(kept), version[kept]))
            node = next_node


@njit(cache=True, nogil=True)
def _rebuilt_table(pairs: np.ndarray, version: np.ndarray, parent: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """A new hash table of the contacts that are left, with room for three times as many; their indices, and their number."""
    keys = table(4 * pairs.size)
    order = np.full(keys.size, -1)
    used = 0
    for contact in range(pairs.size):
        if version[contact] >= 0:
            key = key_of(root(parent, pairs[contact] >> np.int64(32)), root(parent, pairs[contact] & np.int64(0xFFFFFFFF)))
            slot = slot_of(keys, key)
            keys[slot], order[slot] = key, contact
            used += 1
    return keys, order, used
