"""Decode a prediction of any size block by block, and merge its objects across the borders of blocks.

Every block is decoded with a halo in which its neighbours decode, too::

    +-----------------+             The core of a block keeps the objects of the block's own decoding.
    |  core A         |
    |            +----|-------+     An object across the border is decoded twice: `a` in block A, `b` in block B.
    |        aaaa|bbbb|       |     B remembers what it sees in the core of A (its halo there), and both are one
    |    - - - - +----|       |     object where these two views agree, that is, where their intersection over
    +------------|----+       |     union inside this zone is at least one half.
                 |   core B   |
                 +------------+

With a halo of `Decoder.context` both views of an object smaller than the halo are equal, voxel by voxel, so that the result is the
partition of decoding the whole, for every shape of blocks. Larger objects are cut by the halo, and merged as far as the views agree.

Ids of the whole are 1..n in the order of the first voxel, so that they do not depend on blocks or on the order in which they were decoded.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from morula.core.array import ArraySource
from morula.core.region import Region, blocks
from morula.kernels.geometry import geometry
from morula.kernels.object_tables import first_voxels
from morula.labels.objects import Objects
from morula.labels.votes import elected

AGREEMENT = 0.5
"""Intersection over union of two views of an object from which on they are one object."""
_STEP = 32  # edge lengths of long cores are multiples of it, so that they consist of whole chunks

Decode = Callable[[np.ndarray], Objects]
"""Objects of the channels C(Z)YX float32 of a block."""
Vote = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Votes (n, classes) from channels C(Z)YX, the labels of the same voxels, and the number n of objects."""


def no_votes(prediction: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """The votes where no classes are predicted."""
    del prediction, labels
    return np.zeros((n, 0), np.int64)


@dataclass(frozen=True)
class BlockPlan:
    """Blocks that cover an image: cores without overlap, and the halo with which each is decoded. All lengths are voxels (Z)YX.

    Examples:
        >>> plan = BlockPlan((10, 10), core=(5, 10), halo=(2, 2))
        >>> len(plan), plan.window(1), plan.neighbours(1)
        (2, Region(start=(3, 0), stop=(10, 10)), [0])
    """

    shape: tuple[int, ...]
    core: tuple[int, ...]
    halo: tuple[int, ...]

    @cached_property
    def cores(self) -> list[Region]:
        """The cores in C order."""
        return list(blocks(self.shape, self.core))

    def __len__(self) -> int:
        return math.prod(self.grid)

    def __reduce__(self) -> tuple[type[BlockPlan], tuple[tuple[int, ...], ...]]:
        return BlockPlan, (self.shape, self.core, self.halo)  # other processes make the list of cores again

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of blocks per axis."""
        return tuple(-(-n // size) for n, size in zip(self.shape, self.core, strict=True))

    @property
    def effort(self) -> float:
        """Voxels of all windows per voxel of the image."""
        read = 1.0
        for n, size, halo in zip(self.shape, self.core, self.halo, strict=True):  # windows are products of ranges along the axes
            read *= sum(min(a + size + halo, n) - max(a - halo, 0) for a in range(0, n, size)) / n
        return read

    def window(self, number: int) -> Region:
        """What is read to decode a block: its core with the halo, inside the image."""
        return self.cores[number].grow(self.halo, within=self.shape)

    def neighbours(self, number: int) -> list[int]:
        """Blocks before this one in C order that share a face, an edge or a corner with it."""
        place = np.unravel_index(number, self.grid)
        found = []
        for step in itertools.product((-1, 0, 1), repeat=len(self.grid)):
            other = [int(p) + s for p, s in zip(place, step, strict=True)]
            if all(0 <= o < n for o, n in zip(other, self.grid, strict=True)):
                found.append(int(np.ravel_multi_index(other, self.grid)))
        return sorted(neighbour for neighbour in found if neighbour < number)

    def zone(self, number: int, other: int) -> Region:
        """The part of another block's core that this block sees."""
        zone = self.window(number).intersect(self.cores[other])
        assert zone is not None  # they are neighbours, and the halo has at least one voxel
        return zone


def plan_blocks(
    shape: Sequence[int], halo: Sequence[int], *, memory: float, bytes_per_voxel: float, align: Sequence[int] | None = None
) -> BlockPlan | None:
    """The blocks that fit into the memory and read the fewest voxels, halos included; `None` where none fits.

    Args:
        shape: (Z)YX of the image.
        halo: voxels per axis, from `Decoder.context`.
        memory: bytes for one block.
        bytes_per_voxel: bytes per voxel of a window.
        align: voxels per axis of which cores start at a multiple, from `Decoder.alignment`.

    Examples:
        >>> plan_blocks((64, 512, 512), (8, 8, 8), memory=10**8, bytes_per_voxel=50).core
        (64, 128, 128)
    """
    align = tuple(align or [1] * len(shape))
    halo = tuple(-(-max(h, 1) // a) * a for h, a in zip(halo, align, strict=True))
    # per axis: core lengths of which fewer would need one more block, from the whole axis down
    steps = [math.lcm(_STEP, a) for a in align]
    cores = [sorted({min(n, -(-n // (k * s)) * s) for k in range(1, n // s + 2)}) for n, s in zip(shape, steps, strict=True)]
    windows = [np.minimum(np.array(c) + 2 * h, n) for c, h, n in zip(cores, halo, shape, strict=True)]
    read = [w * -(-n // np.array(c)) for w, c, n in zip(windows, cores, shape, strict=True)]
    voxels, total = (functools.reduce(np.multiply, np.ix_(*(axis.astype(float) for axis in lengths))) for lengths in (windows, read))
    fits = voxels * bytes_per_voxel <= memory
    if not fits.any():
        return None
    best = np.unravel_index(np.argmin(np.where(fits, total, np.inf)), fits.shape)
    return BlockPlan(tuple(shape), tuple(c[i] for c, i in zip(cores, best, strict=True)), halo)


@dataclass(frozen=True, eq=False)
class BlockObjects:
    """Objects that reach into the core of a block, with ids 1..n in the order of their first voxel there.

    Attributes:
        labels: (Z)YX uint32 of the core.
        voxels: (n,) voxels in the core.
        first: (n,) index of the first voxel in the core, counted in the whole image in C order.
        whole: (n,) whether the object ends inside the window, so that the halo was large enough for it.
        starts, stops: (n, ndim) box of the object in the core, in the whole image; start <= index < stop.
        confidence: (n,) from the decoder.
        votes: (n, classes) voxels in the core that vote for each class; without classes (n, 0).
        seen: labels in the zones of the block's `neighbours`, of objects that reach into the core, in the order of the neighbours.
    """

    labels: np.ndarray
    voxels: np.ndarray
    first: np.ndarray
    whole: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    confidence: np.ndarray
    votes: np.ndarray
    seen: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.voxels)

    def save(self, file: Any) -> None:
        """Write everything but `labels` as a compressed ``.npz``."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _COLUMNS}
        arrays |= {f"seen_{i}": zone for i, zone in enumerate(self.seen)}
        np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, file: Any) -> BlockObjects:
        """What `save` has written, with empty `labels`."""
        with np.load(file) as stored:
            zones = sum(name.startswith("seen_") for name in stored.files)
            seen = tuple(stored[f"seen_{i}"] for i in range(zones))
            return cls(labels=_NOTHING, seen=seen, **{name: stored[name] for name in _COLUMNS})


_COLUMNS = tuple(field.name for field in fields(BlockObjects) if field.name not in ("labels", "seen"))
_NOTHING = np.empty(0, np.uint32)


def decode_block(plan: BlockPlan, number: int, prediction: ArraySource, decode: Decode, vote: Vote = no_votes) -> BlockObjects:
    """Decode one block of a prediction C(Z)YX, which may be lazy; the objects that reach into its core."""
    window, core = plan.window(number), plan.cores[number]
    channels = np.ascontiguousarray(prediction[(slice(None), *window.slices)], dtype=np.float32)
    objects = decode(channels)
    back = tuple(-a for a in window.start)
    inside = np.ascontiguousarray(objects.labels[core.shift(back).slices])
    first, voxels = first_voxels(inside, len(objects))
    old = np.flatnonzero(voxels)
    old = old[np.argsort(first[old])]
    table = np.zeros(len(objects) + 1, np.uint32)
    table[old] = np.arange(1, len(old) + 1)
    boxes = geometry(inside, len(objects))
    places = np.unravel_index(first[old], core.shape)
    index = np.ravel_multi_index([p + a for p, a in zip(places, core.start, strict=True)], plan.shape)
    labels = table[inside]
    return BlockObjects(
        labels=labels,
        voxels=voxels[old],
        first=np.asarray(index, np.int64),
        whole=~np.isin(old, _cut(objects.labels, window, plan.shape)),
        starts=boxes.starts[old] + core.start,
        stops=boxes.stops[old] + core.start,
        confidence=np.asarray(objects.confidence)[old - 1],
        votes=vote(channels[(slice(None), *core.shift(back).slices)], labels, len(old)),
        seen=tuple(table[objects.labels[plan.zone(number, other).shift(back).slices]] for other in plan.neighbours(number)),
    )


def _cut(labels: np.ndarray, window: Region, shape: Sequence[int]) -> np.ndarray:
    """Ids of the objects that touch a face of the window inside the image."""
    faces = []
    for axis, (start, stop, n) in enumerate(zip(window.start, window.stop, shape, strict=True)):
        faces += [labels.take(0, axis)] if start > 0 else []
        faces += [labels.take(-1, axis)] if stop < n else []
    return np.unique(np.concatenate([np.unique(face) for face in faces])) if faces else np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Merged:
    """Objects of the whole image, with ids 1..n in the order of their first voxel.

    Attributes:
        tables: per block, the id in the whole image of each id in the block; (n + 1,), 0 for the background.
        confidence: (n,) per object.
        classes: (n,) per object, `None` where no classes are predicted.
        class_confidence: (n,) per object, or `None`.
        voxels: (n,) sizes.
        starts, stops: (n, ndim) boxes.
        merged: number of objects that are larger than the halo and were merged across blocks.
    """

    tables: list[np.ndarray]
    voxels: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    confidence: np.ndarray
    classes: np.ndarray | None
    class_confidence: np.ndarray | None
    merged: int

    def __len__(self) -> int:
        return len(self.confidence)

    def as_arrays(self) -> dict[str, np.ndarray]:
        """All values as arrays, for a file."""
        values = {name: getattr(self, name) for name in _MERGED}
        arrays = {name: np.asarray(value) for name, value in values.items() if value is not None}
        tables = np.concatenate([*self.tables, np.empty(0, np.int64)])
        return {**arrays, "tables": tables, "lengths": np.array([len(table) for table in self.tables], np.int64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Merged:
        """The objects that `as_arrays` has given."""
        tables = np.split(arrays["tables"], np.cumsum(arrays["lengths"])[:-1])
        known: dict[str, Any] = {name: arrays.get(name) for name in _MERGED}
        return cls(**{**known, "tables": tables, "merged": int(arrays["merged"])})


_MERGED = tuple(field.name for field in fields(Merged) if field.name != "tables")


def merge_blocks(plan: BlockPlan, load: Callable[[int], BlockObjects], labels: ArraySource) -> Merged:
    """Ids of the whole image for the objects of all blocks.

    Args:
        plan: the blocks.
        load: the objects of a block by its number; `labels` is not needed there.
        labels: (Z)YX, the labels of all cores with the ids of their blocks; may be lazy.
    """
    parts, pairs, offsets = [], [np.empty((0, 2), np.int64)], [0]
    for number in range(len(plan)):
        block = load(number)
        for other, view in zip(plan.neighbours(number), block.seen, strict=True):
            same = agreeing(np.asarray(labels[plan.zone(number, other).slices]), view)
            pairs.append(same - 1 + np.array([offsets[other], offsets[number]]))
        parts.append(replace(block, labels=_NOTHING, seen=()))
        offsets.append(offsets[-1] + len(block))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return _merge(BlockObjects(labels=_NOTHING, seen=(), **columns), np.concatenate(pairs), offsets)


def agreeing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pairs (n, 2) of ids in two label images of one zone whose intersection over union is at least one half.

    Examples:
        >>> agreeing(np.array([1, 1, 1, 2, 0]), np.array([5, 5, 0, 0, 7]))
        array([[1, 5]])
    """
    both = (one > 0) & (other > 0)
    if not both.any():
        return np.empty((0, 2), np.int64)
    size = int(other.max()) + 1
    keys, overlap = np.unique(one[both].astype(np.int64) * size + other[both], return_counts=True)
    a, b = keys // size, keys % size
    union = np.bincount(one.ravel())[a] + np.bincount(other.ravel())[b] - overlap
    return np.stack([a, b], axis=1)[overlap >= AGREEMENT * union]


def _merge(parts: BlockObjects, pairs: np.ndarray, offsets: Sequence[int]) -> Merged:
    """Connected components of the pairs, numbered by their first voxel, with the properties of their parts."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(parts)
    edges = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    count, component = connected_components(edges, directed=False) if n else (0, np.empty(0, np.int64))
    first = _reduced(np.minimum, component, parts.first, count)
    objects = np.argsort(np.argsort(first))[component]
    leading = np.empty(count, np.int64)
    leading[objects[parts.first == first[component]]] = np.flatnonzero(parts.first == first[component])
    cut = np.bincount(objects, ~parts.whole, count) > 0
    # the parts of an object that no halo holds whole differ, and count by their voxels; parts of all others are equal
    sizes = np.bincount(objects, parts.voxels, count).astype(np.int64)
    mean = np.bincount(objects, parts.confidence * parts.voxels, count) / np.maximum(sizes, 1)
    ids = objects + 1
    votes = np.zeros((count, parts.votes.shape[1]), np.int64)
    np.add.at(votes, objects, parts.votes)
    classes, share = elected(votes) if votes.shape[1] else (None, None)
    return Merged(
        tables=[np.concatenate([[0], ids[a:b]]) for a, b in itertools.pairwise(offsets)],
        voxels=sizes,
        starts=_reduced(np.minimum, objects, parts.starts, count),
        stops=_reduced(np.maximum, objects, parts.stops, count),
        confidence=np.where(cut, mean, parts.confidence[leading]).astype(np.float32),
        classes=classes,
        class_confidence=share,
        merged=int((cut & (np.bincount(objects, minlength=count) > 1)).sum()),
    )


def _reduced(operation: np.ufunc, groups: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """The minimum or maximum of the values of each group."""
    start = np.iinfo(np.int64).max if operation is np.minimum else -1
    out = np.full((count, *values.shape[1:]), start, np.int64)
    operation.at(out, groups, values)
    return out
