"""Predict an image to the disk, in parts that do not depend on each other.

A part is a range of rows of chunks along the longest axis of the image. Each part computes the layers of tiles that reach into it, and
writes only its own chunks, so that parts may be computed at the same time, and give the same values as the whole in one go::

    rows of chunks    |   0   |   1   |   2   |   3   |   4   |
    parts             |      0_2      |          2_5          |
    layers of tiles   [   0   ][   1   ][   2   ][   3   ]         layer 1 is computed for both parts

Where a prediction was interrupted, the rows without a part that is finished are parts again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from morula.core.allocator import keep_freed_memory
from morula.core.array import ArraySource, ArrayTarget
from morula.core.errors import OptionError
from morula.core.events import Event, Progress
from morula.core.image import Image
from morula.core.region import Region, blocks
from morula.data.normalise import Normalisation
from morula.decoders.statistics import ChannelStatistics
from morula.inference.memory import tile_memory
from morula.inference.plan import TilePlan
from morula.inference.predict import predict
from morula.inference.stitch import layer_size, layers_of, outer_axis
from morula.io.blocks import block_shape, chunk_shape
from morula.methods.base import Method
from morula.models.model import Model
from morula.workflows.block_store import BlockStore
from morula.workflows.workers import Executor

Part = tuple[int, int]
"""Rows of chunks along the longest axis: the first, and the one behind the last."""
_LAYERS = 3  # layers of tiles in a part at least, so that few are computed twice


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicts parts of an image into the folder of its unfinished results; can be sent to other processes.

    Attributes:
        model: the trained model.
        image: from `Model.as_image`.
        store: the folder.
        device: a result of `Model.device`.
        room: bytes that tiles may take.
    """

    model: Model
    image: Image
    store: BlockStore
    device: str
    room: int

    @classmethod
    def begun(cls, model: Model, image: Image, store: BlockStore, *, device: str, memory: int, shared: bool) -> Prediction:
        """The prediction of an image with at most `memory` bytes, or with what an interrupted command began with.

        Raises:
            OptionError: ``shares.memory`` where other tasks predict with more memory than there is, or on another device.
        """
        shape = (len(model.method.channels), *image.spatial_shape)
        store.array("prediction", shape, chunk_shape(shape, f"C{image.axes.spatial_axes}"), np.dtype(np.float32))
        room = tile_memory(memory)
        tiles = store.agreed("tiles", {"memory": room, "device": device})
        work = cls(model, image, store, device, tiles["memory"])
        # tiles of another size, and other devices, round differently, so that what there is cannot be used
        if (tiles["memory"] > room or tiles["device"] != device) and work.missing():
            if shared:
                rule = f"and the device must be those of the task that came first: {tiles['memory']} bytes for tiles, {tiles['device']}"
                raise OptionError("shares.memory", rule, key="memory", value=room, remedy="Give all tasks the same options.")
            store.discard("predicted_")
            store.discard("statistics_")
            store.note("tiles", {"memory": room, "device": device})
            work = cls(model, image, store, device, room)
        return work

    @property
    def stored(self) -> ArraySource:
        """The predicted channels K(Z)YX."""
        return self.store.existing("prediction")

    @property
    def axis(self) -> int:
        """The longest axis (Z)YX."""
        return outer_axis(self.image.spatial_shape)

    @cached_property
    def rows(self) -> int:
        """Rows of chunks along the longest axis."""
        return rows_of(self.store)

    def box(self, part: Part) -> Region:
        """The voxels of a part."""
        return part_box(self.store, part)

    def missing(self) -> list[Part]:
        """The rows that no finished part holds."""
        return gaps(finished_parts(self.store), (0, self.rows))

    def parts(self, count: int) -> list[Part]:
        """The missing rows in about `count` parts, each of several layers of tiles."""
        layers = layers_of(self.plan, 0, self.image.spatial_shape[self.axis])[1]
        step = -(-self.rows // max(1, min(count, layers // _LAYERS)))
        return [(a, min(a + step, last)) for first, last in self.missing() for a in range(first, last, step)]

    @cached_property
    def plan(self) -> TilePlan:
        """The tiles of the whole image."""
        return self.model.plan(self.image.spatial_shape, self.room, self.device)

    @cached_property
    def scaling(self) -> Normalisation:
        """The normalisation of the image; where it is that of its own values, they are read once for all parts."""
        found = self.model.normalisation
        if found is None:
            known = self.store.noted("scaling")
            found = self.model.scaling(self.image) if known is None else Normalisation.from_dict(known)
            if known is None and type(found) is Normalisation:
                found = Normalisation.from_dict(self.store.agreed("scaling", found.as_dict()))
        return found

    def steps(self, part: Part) -> Iterator[Progress]:
        """Predict a part, from the first layer of tiles on that is not finished."""
        name, box, axis = _name("predicted", part), self.box(part), self.axis
        first, last = layers_of(self.plan, box.start[axis], box.stop[axis])
        size, done = layer_size(self.plan), (self.store.noted(name) or {"layers": first})["layers"]
        yield Progress((done - first) * size, (last - first) * size, "tile", task=("tiles",))
        out = _Clipped(self.store.existing("prediction"), box)
        self.model.fast_network.to(self.device)
        tiled = self.model.tiled(self.device)
        tiles = predict(self.image.lazy(), tiled, self.plan, normalise=self.scaling.apply, out=out, first_layer=done)
        with keep_freed_memory(), closing(tiles):  # tiles have equal sizes
            for progress in tiles if done < last else ():
                if progress.done // size > done:
                    self._record(name, done, progress.done // size, box)
                    done = progress.done // size
                if progress.done > first * size:
                    yield Progress(progress.done - first * size, (last - first) * size, "tile", task=("tiles",))
                if done == last:
                    break
        self.store.note(name, {"layers": last, "finished": True})

    def _record(self, name: str, first: int, layers: int, box: Region) -> None:
        """Record that these layers are finished."""
        axis = self.axis
        begins = [begin for begin, _ in self.plan.weights(axis)] + [self.image.spatial_shape[axis]]
        low, high = max(begins[first], box.start[axis]), min(begins[layers], box.stop[axis])
        if low < high:
            self.store.flush("prediction", _cut(box, axis, low, high))
        self.store.note(name, {"layers": layers})

    def __call__(self, part: Part) -> None:
        """Predict a part, and count its values where no filter changes them."""
        for _ in self.steps(part):
            pass
        if not self.model.job.prediction.median:
            for _ in statistics_steps(self.model.method, self.stored, self.store, part):
                pass


class _Clipped:
    """An array K(Z)YX into which only the voxels of a box are written."""

    def __init__(self, array: ArrayTarget, box: Region) -> None:
        self.array, self.box, self.shape = array, box, array.shape

    def __setitem__(self, key: tuple[slice, ...], values: np.ndarray) -> None:
        channels, *spatial = key
        region = Region(tuple(part.start for part in spatial), tuple(part.stop for part in spatial))
        kept = region.intersect(self.box)
        if kept is not None:
            inside = kept.shift([-start for start in region.start])
            self.array[(channels, *kept.slices)] = values[(slice(None), *inside.slices)]


def predicted(work: Prediction, executor: Executor) -> Iterator[Event]:
    """Predict the missing parts: here, or where the executor runs tasks."""
    yield from work.model.tile_warnings(work.plan)
    if not executor.remote:
        for part in work.missing():
            yield from work.steps(part)
        return
    parts = work.parts(4 * executor.count)
    for done, _ in enumerate(executor.run(work, parts, work.store.path), start=1):
        yield Progress(done, len(parts), "part", task=("tiles",))


def statistics_of(method: Method, prediction: ArraySource, store: BlockStore) -> Generator[Progress, None, ChannelStatistics]:
    """Histograms of a whole prediction, from those of its parts."""
    found: ChannelStatistics | None = None
    for part in covering(finished_parts(store)):
        one = yield from statistics_steps(method, prediction, store, part)
        found = one if found is None else found.merge(one)
    assert found is not None
    return found


def statistics_steps(
    method: Method, prediction: ArraySource, store: BlockStore, part: Part
) -> Generator[Progress, None, ChannelStatistics]:
    """Histograms of a part, which are recorded."""
    name = _name("statistics", part)
    if (known := store.arrays(name)) is not None:
        return ChannelStatistics.from_arrays(known)
    box = part_box(store, part)
    shape = block_shape(box.shape, 4 * prediction.shape[0], store.existing("prediction").chunks[1:])
    boxes = [block.shift(box.start) for block in blocks(box.shape, shape)]
    found: ChannelStatistics | None = None
    for done, window in enumerate(boxes, start=1):
        one = method.statistics(np.asarray(prediction[(slice(None), *window.slices)]))
        found = one if found is None else found.merge(one)
        yield Progress(done, len(boxes), "block", task=("histograms",))
    assert found is not None
    store.put_arrays(name, found.as_arrays())
    return found


def rows_of(store: BlockStore) -> int:
    """Rows of chunks of the stored prediction along the longest axis."""
    prediction = store.existing("prediction")
    axis = 1 + outer_axis(prediction.shape[1:])
    return -(-prediction.shape[axis] // prediction.chunks[axis])


def part_box(store: BlockStore, part: Part) -> Region:
    """The voxels of a part."""
    prediction = store.existing("prediction")
    shape = prediction.shape[1:]
    axis = outer_axis(shape)
    edge = prediction.chunks[1 + axis]
    return _cut(Region.whole(shape), axis, part[0] * edge, min(part[1] * edge, shape[axis]))


def finished_parts(store: BlockStore) -> list[Part]:
    """The parts that are predicted."""
    names = store.names("predicted_", ".json")
    found = [name.split("_") for name in names if (store.noted(name) or {}).get("finished")]
    return sorted((int(first), int(last)) for _, first, last in found)


def covering(parts: Sequence[Part]) -> list[Part]:
    """Parts that follow on each other, of those that may overlap.

    Examples:
        >>> covering([(0, 4), (2, 6), (4, 8)])
        [(0, 4), (4, 8)]
    """
    found: list[Part] = []
    for part in sorted(parts):
        if not found or part[0] >= found[-1][1]:
            found.append(part)
    return found


def gaps(parts: Sequence[Part], whole: Part) -> list[Part]:
    """What the covering parts leave out of a range.

    Examples:
        >>> gaps([(2, 4), (3, 5)], (0, 8))
        [(0, 2), (4, 8)]
    """
    inside = [(max(first, whole[0]), min(last, whole[1])) for first, last in covering(parts)]
    bounds = [whole[0], *(bound for first, last in inside if first < last for bound in (first, last)), whole[1]]
    return [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if a < b]


def _name(kind: str, part: Part) -> str:
    return f"{kind}_{part[0]}_{part[1]}"


def _cut(box: Region, axis: int, first: int, last: int) -> Region:
    """A box between two places of an axis."""
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = first, last
    return Region(tuple(start), tuple(stop))
