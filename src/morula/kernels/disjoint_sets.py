"""Groups of ids, and a set of unordered pairs of ids, for compiled loops."""

from __future__ import annotations

import numpy as np
from numba import njit

FREE = np.int64(-1)
_LOW = np.int64(0xFFFFFFFF)


@njit(cache=True, nogil=True)
def root(parent: np.ndarray, member: int) -> int:
    """Representative of a member's group; paths are halved on the way."""
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


@njit(cache=True, nogil=True)
def key_of(a: int, b: int) -> np.int64:
    """A pair of ids below 2**32 as one number, whatever their order."""
    low, high = (a, b) if a < b else (b, a)
    return (np.int64(low) << np.int64(32)) | np.int64(high)


@njit(cache=True, nogil=True)
def slot_of(keys: np.ndarray, key: np.int64) -> np.int64:
    """Where a pair stands in a table, or the free slot where it belongs. The table is never full, its length is a power of 2."""
    mask = np.int64(keys.size - 1)
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(mixed >> np.uint64(24)) & mask
    while keys[slot] != FREE and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def table(room: int) -> np.ndarray:
    """An empty table for so many pairs."""
    size = 64
    while 3 * size < 4 * room:
        size *= 2
    return np.full(size, FREE)


@njit(cache=True, nogil=True)
def current(keys: np.ndarray, parent: np.ndarray, more: int) -> tuple[np.ndarray, int]:
    """A table of those pairs that still name two groups, with room for them and so many more, and their number.

    Three quarters of a table may be filled.
    """
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
def shorter(a: int, b: int, head: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Two groups with linked lists, the one with the shorter list first; both lists are walked until one ends."""
    p, q = head[a], head[b]
    while p >= 0 and q >= 0:
        p, q = after[p], after[q]
    return (a, b) if p < 0 else (b, a)
