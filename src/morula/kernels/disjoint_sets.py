"""Disjoint sets of ids, and hash sets of unordered pairs of ids, for compiled loops.

Disjoint sets are a forest in one array: the parent of a member is another member of the same set, and a root is its own parent. Finding the
root halves the path on the way, which makes a sequence of operations almost linear (Tarjan and van Leeuwen 1984).

A set of pairs is an open-addressing hash table of 64-bit keys, the smaller id in the upper half. Numba's own dictionaries are several times
slower, and these tables can be filtered in place when sets merge and pairs become obsolete.
"""

from __future__ import annotations

import numpy as np

from morula.core.compiled import njit

# no key has all bits set: it would be a pair of an id with itself
FREE = np.int64(-1)
_LOW = np.int64(0xFFFFFFFF)


@njit(cache=True, nogil=True)
def root(parent: np.ndarray, member: int) -> int:
    """Representative of the set that a member belongs to; paths are halved on the way."""
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


@njit(cache=True, nogil=True)
def key_of(a: int, b: int) -> np.int64:
    """A pair of ids below 2**32 as one number that does not depend on their order."""
    low, high = (a, b) if a < b else (b, a)
    return (np.int64(low) << np.int64(32)) | np.int64(high)


@njit(cache=True, nogil=True)
def slot_of(keys: np.ndarray, key: np.int64) -> np.int64:
    """Slot of a pair in a table, or the free slot where it belongs. The table is never full and its length is a power of 2.

    The multiplication by a constant near 2**64 / golden ratio spreads neighbouring ids (Fibonacci hashing).
    """
    mask = np.int64(keys.size - 1)
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    # shifted, because the lowest bits of the product depend only on the larger id
    slot = np.int64(mixed >> np.uint64(24)) & mask
    # linear probing: the next slots are in the same cache line
    while keys[slot] != FREE and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def table(room: int) -> np.ndarray:
    """An empty table for a number of pairs; at most three quarters of it are filled."""
    size = 64
    while 3 * size < 4 * room:
        size *= 2
    return np.full(size, FREE)


@njit(cache=True, nogil=True)
def valid_pairs(keys: np.ndarray, parent: np.ndarray, more: int) -> tuple[np.ndarray, int]:
    """A table of the pairs of which both ids are still roots, with room for `more` pairs; and their number."""
    # counted first: the size of the new table must be known before it is filled
    count = 0
    for key in keys:
        if key != FREE and parent[key >> np.int64(32)] == key >> np.int64(32) and parent[key & _LOW] == key & _LOW:
            count += 1
    kept = table(count + more)
    for key in keys:
        if key != FREE and parent[key >> np.int64(32)] == key >> np.int64(32) and parent[key & _LOW] == key & _LOW:
            kept[slot_of(kept, key)] = key
    return kept, count


@njit(cache=True, nogil=True)
def shorter_first(a: int, b: int, head: np.ndarray, following: np.ndarray) -> tuple[int, int]:
    """Two sets with linked lists, the one with the shorter list first.

    Both lists are walked in parallel until one ends, so that the cost is that of the shorter list.
    """
    p, q = head[a], head[b]
    while p >= 0 and q >= 0:
        p, q = following[p], following[q]
    return (a, b) if p < 0 else (b, a)
