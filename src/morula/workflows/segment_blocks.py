"""Segment an image that does not fit into the memory: predict to the disk, decode block by block, merge, measure group by group.

::

    tiles -> prediction.zarr -> histograms of all voxels -> thresholds, sizes of a sample
                             -> blocks with halo -> labels of the cores -> objects merged across blocks -> labels, table

Each stage holds one tile, block or group at a time. The result does not depend on the blocks: see `morula.decoders.blockwise`. The
prediction is stored as float32, because shorter numbers would move the borders of objects by a voxel here and there.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.allocator import keep_freed_memory
from morula.core.array import ArraySource
from morula.core.errors import OptionError
from morula.core.events import Event, Logged, Progress, Warned
from morula.core.image import Image
from morula.core.label_image import smallest_type
from morula.core.region import Region, blocks
from morula.decoders.blockwise import BlockPlan, Merged, decode_block, merge_blocks, plan_blocks
from morula.decoders.class_blocks import class_block, merge_classes
from morula.decoders.statistics import ChannelStatistics
from morula.inference.memory import decoding_bytes, room_beside_program, room_of_worker, tile_memory
from morula.inference.predict import predict
from morula.inference.stitch import layer_size
from morula.io.blocks import block_shape, chunk_shape
from morula.kernels.geometry import geometry
from morula.labels.objects import Objects
from morula.measurement.blockwise import GroupMeasurement, joined
from morula.measurement.filter import removed_ids
from morula.measurement.large_objects import KNOWN_EXTRA
from morula.measurement.measure import as_table
from morula.measurement.measures import Boxes, Measures
from morula.methods.base import Method
from morula.methods.classes import class_image
from morula.models.model import Model
from morula.workflows.block_store import BlockStore, MedianFiltered, MergedLabels
from morula.workflows.workers import results

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE = {2: 1024, 3: 96}
"""Edge length in voxels of the samples from which the size of objects is taken."""
_MEASURING = 40  # bytes per voxel: labels twice, intensities, their indices
_SPARE = 1.25  # factor on the largest object of the samples
_SHARES = (100, 95, 75)  # percentiles of the diameters that the halo may be planned for
_EFFORT = 2.5  # decoded voxels per voxel of the image up to which a larger halo is preferred
_SMALLEST = 8.0  # diameter in voxels that the halo is planned for at least


@dataclass(frozen=True, eq=False)
class InBlocks:
    """A segmented image; all arrays are computed when they are read.

    Attributes:
        labels: (Z)YX.
        unfiltered: as `labels`, with the objects that the filter of the job removes.
        table: one row per object.
        classes: (Z)YX, the class of each voxel's object, or `None`.
        channels: K(Z)YX, the predicted channels.
    """

    labels: ArraySource
    unfiltered: ArraySource
    table: pd.DataFrame
    classes: ArraySource | None
    channels: ArraySource


def needs_blocks(model: Model, shape: Sequence[int], memory: int) -> bool:
    """Whether the channels and the decoding of a whole image take more memory than there is."""
    return decoding_bytes(shape, len(model.method.channels)) > room_beside_program(memory)


def segment_in_blocks(
    model: Model, image: Image, store: BlockStore, *, device: str, memory: int, workers: int = 1
) -> Generator[Event, None, InBlocks]:
    """Labels and table of an image, with at most `memory` bytes for the whole process.

    Args:
        model: the trained model; its `block_problem` must be empty.
        image: from `model.as_image`.
        store: folder for unfinished results, which a killed process may have left.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: bytes.
        workers: processes that decode and measure, at most; fewer where the memory allows no blocks for all of them.

    Raises:
        OptionError: when the memory is not enough for one block.
    """
    stored = yield from _predicted(model, image, store, device=device, memory=memory)
    filters = model.job.prediction.median
    prediction: ArraySource = MedianFiltered(stored, filters) if filters else stored
    parameters, plan, workers = yield from _planned(model, prediction, store, memory, workers)
    merged = yield from _decoded(_Decoding(model.method, parameters, plan, store, prediction), workers)
    cores = _label_array(store, plan)

    def relabelled(values: np.ndarray) -> MergedLabels:
        return MergedLabels(cores, plan.core, [values[table] for table in merged.tables])

    # class images are stored as they are decoded, in 8 bits where that suffices
    kind = np.uint8 if not model.method.instances and len(merged) < 256 else smallest_type(len(merged))
    labels = relabelled(np.arange(len(merged) + 1, dtype=kind))
    if merged.merged:
        yield Logged(f"{merged.merged} objects are larger than the halo of {plan.halo} voxels; their parts were merged across blocks")
    room = room_of_worker(memory, workers) // _MEASURING
    table = yield from _measured(model, merged, measured_in(model, labels, merged, image, room), plan.core, workers)
    kept = np.arange(len(merged) + 1, dtype=labels.dtype)
    if model.job.objects.filter:
        kept[removed_ids(table)] = 0
    classes = None if merged.classes is None else class_image(kept, merged.classes)
    return InBlocks(relabelled(kept), labels, table, None if classes is None else relabelled(classes), prediction)


def _predicted(model: Model, image: Image, store: BlockStore, *, device: str, memory: int) -> Generator[Event, None, ArraySource]:
    """The predicted channels K(Z)YX on the disk; an interrupted prediction continues with its first unfinished layer of tiles."""
    shape = (len(model.method.channels), *image.spatial_shape)
    out = store.array("prediction", shape, chunk_shape(shape, f"C{image.axes.spatial_axes}"), np.dtype(np.float32))
    room = tile_memory(memory)
    state = store.noted("predicted") or {"layers": 0, "memory": room}
    if state.get("finished"):
        return out
    if state["memory"] > room:  # tiles of another size round differently, so that what there is cannot be used
        state = {"layers": 0, "memory": room}
    device = model.device(device)
    model.fast_network.to(device)
    plan = model.plan(image.spatial_shape, state["memory"], device)
    yield from model.tile_warnings(plan)
    size, normalise = layer_size(plan), model.scaling(image).apply
    with keep_freed_memory():  # tiles have equal sizes
        tiles = predict(image.lazy(), model.tiled(device), plan, normalise=normalise, out=out, first_layer=state["layers"])
        for progress in tiles:
            if progress.done // size > state["layers"]:
                state["layers"] = progress.done // size
                # the last one is recorded below
                if progress.done < plan.n_tiles:
                    store.note("predicted", state)
            yield progress
    store.note("predicted", {**state, "finished": True})
    return out


def _planned(
    model: Model, prediction: ArraySource, store: BlockStore, memory: int, workers: int
) -> Generator[Event, None, tuple[Mapping[str, Any], BlockPlan, int]]:
    """Parameters of the decoder, from histograms of the whole prediction and samples; the blocks, and how many workers they are for."""
    shape = tuple(prediction.shape[1:])
    if (noted := store.noted("decoding")) is not None:
        return noted["parameters"], BlockPlan(shape, tuple(noted["core"]), tuple(noted["halo"])), min(workers, noted["workers"])
    method = model.method
    parts = list(blocks(shape, block_shape(shape, 4 * prediction.shape[0], chunk_shape(shape, "ZYX"[-len(shape) :]))))
    statistics: ChannelStatistics | None = None
    for done, box in enumerate(parts, start=1):
        part = method.statistics(np.asarray(prediction[(slice(None), *box.slices)]))
        statistics = part if statistics is None else statistics.merge(part)
        yield Progress(done, len(parts), "block", task=("histograms",))
    assert statistics is not None
    parameters, diameters = method.fit(statistics), np.full(1, _SMALLEST)
    if method.instances:
        parameters, diameters = _sampled(model, prediction, parameters)
    plan, count = _fitting_plan(model, shape, parameters, diameters, memory, workers)
    store.note("decoding", {"parameters": parameters, "core": plan.core, "halo": plan.halo, "workers": count})
    fewer = f"; the memory is for {count} of {workers} workers" if count < workers else ""
    yield Logged(f"{len(plan)} blocks of {plan.core} voxels, each decoded with a halo of {plan.halo}{fewer}")
    return parameters, plan, count


def _fitting_plan(
    model: Model, shape: tuple[int, ...], parameters: Mapping[str, Any], diameters: np.ndarray, memory: int, workers: int
) -> tuple[BlockPlan, int]:
    """Blocks with a halo for the largest object; for most objects, where that would take too much memory or time. And for how many workers.

    More workers have less memory each and read more halos, so that fewer of them may be as fast.

    Raises:
        OptionError: ``blocks.memory`` where no block fits.
    """
    method, each = model.method, decoding_bytes((1,), len(model.method.channels))
    halos = [method.block_halo(parameters, _SPARE * float(np.percentile(diameters, share))) for share in _SHARES]

    def planned(halo: tuple[int, ...], limit: int, count: int) -> BlockPlan | None:
        room = room_of_worker(limit, count)
        return plan_blocks(shape, halo, memory=room, bytes_per_voxel=each, align=method.block_alignment())

    def chosen(count: int) -> BlockPlan | None:
        fitting = [plan for halo in halos if (plan := planned(halo, memory, count)) is not None]
        return next((plan for plan in fitting if plan.effort <= _EFFORT), fitting[-1] if fitting else None)

    plans = [(plan, count) for count in range(1, workers + 1) if (plan := chosen(count)) is not None]
    if not plans:
        least = next(limit for limit in itertools.count(memory, 10**8) if planned(halos[-1], limit, 1))
        raise OptionError(
            "blocks.memory",
            f"is too little for a block with the halo of {halos[-1]} voxels that these objects need",
            key="memory",
            value=f"{memory / 1e6:.0f}MB",
            remedy=f"Give at least --memory {least / 1e6:.0f}MB; the prediction is kept, and the same command continues.",
        )
    return min(plans, key=lambda each: each[0].effort / min(each[1], len(each[0])))


def _sampled(model: Model, prediction: ArraySource, parameters: Mapping[str, Any]) -> tuple[Mapping[str, Any], np.ndarray]:
    """Parameters completed by the first sample that has objects, and the diameters of the objects, in voxels of the finest axis."""
    method, found = model.method, [np.full(1, _SMALLEST)]
    finest = np.asarray(method.spacing) / min(method.spacing)
    complete = parameters
    for box in sample_boxes(prediction.shape[1:]):
        sample = np.ascontiguousarray(prediction[(slice(None), *box.slices)], dtype=np.float32)
        calibrated = complete if len(found) > 1 else method.calibrate(sample, parameters)
        objects = method.decode(sample, calibrated)
        if len(objects):
            complete = calibrated
            boxes = geometry(objects.labels, len(objects))
            found.append(((boxes.stops - boxes.starts)[boxes.ids] * finest).max(axis=1))
    return complete, np.concatenate(found)


def sample_boxes(shape: Sequence[int]) -> list[Region]:
    """The centre of an image and both ends of its longest axis, as samples of its objects.

    Examples:
        >>> [box.start for box in sample_boxes((3000, 1000))]
        [(988, 0), (0, 0), (1976, 0)]
    """
    edge = [min(_SAMPLE[len(shape)], n) for n in shape]
    centre = [(n - e) // 2 for n, e in zip(shape, edge, strict=True)]
    axis = max(range(len(shape)), key=lambda i: shape[i])
    last = shape[axis] - edge[axis]
    starts = [centre, *([*centre[:axis], end, *centre[axis + 1 :]] for end in ((0, last) if last else ()))]
    return [Region(tuple(start), tuple(a + e for a, e in zip(start, edge, strict=True))) for start in starts]


def _label_array(store: BlockStore, plan: BlockPlan) -> Any:
    """The array for the labels of the cores, of which each consists of whole chunks."""
    limit = {2: 512, 3: 128}[len(plan.shape)]
    # blocks are written one by one, and two must not share a chunk
    chunks = tuple(core if core <= limit else max(c for c in range(1, limit + 1) if core % c == 0) for core in plan.core)
    return store.array("labels", plan.shape, chunks, np.dtype(np.uint32))


@dataclass(frozen=True, eq=False)
class _Decoding:
    """Decodes blocks of the stored prediction; can be sent to other processes."""

    method: Method
    parameters: Mapping[str, Any]
    plan: BlockPlan
    store: BlockStore
    prediction: ArraySource

    def __call__(self, number: int) -> None:
        """Decode a block, and record its labels and objects."""
        core = self.plan.cores[number]
        if self.method.instances:
            block = decode_block(self.plan, number, self.prediction, self._objects, self.method.votes)
        else:
            block = class_block(self.plan, number, self.prediction, self._objects)
        self.store.existing("labels")[core.slices] = block.labels
        self.store.put_block(number, block)

    def _objects(self, block: np.ndarray) -> Objects:
        return self.method.decode(block, self.parameters)


def _decoded(work: _Decoding, workers: int) -> Generator[Event, None, Merged]:
    """Decode the blocks that are not finished, and merge the objects of all."""
    plan, store = work.plan, work.store
    labels = _label_array(store, plan)
    open_ones = [number for number in range(len(plan)) if not store.finished(number)]
    yield Progress(len(plan) - len(open_ones), len(plan), "block", task=("blocks",))
    for done, _ in enumerate(results(work, open_ones, workers), len(plan) - len(open_ones) + 1):
        yield Progress(done, len(plan), "block", task=("blocks",))
    return merge_blocks(plan, store.block, labels) if work.method.instances else merge_classes(plan, store.block)


def measured_in(model: Model, labels: ArraySource, merged: Merged, image: Image, room: int) -> GroupMeasurement:
    """How the objects are measured, with at most `room` voxels in memory at a time."""
    options = model.job.objects.measure
    measures = Measures(
        voxel_size=image.voxel_size,
        extra=options.extra,
        confidence=merged.confidence,
        surface=options.surface,
        intensity=options.intensity,
        evidence=model.job.objects.calibration is not None,
    )
    values = image.lazy() if measures.intensity or measures.evidence else None
    return GroupMeasurement(labels, Boxes(merged.voxels, merged.starts, merged.stops), values, room, measures)


def _measured(
    model: Model, merged: Merged, work: GroupMeasurement, block: Sequence[int], workers: int
) -> Generator[Event, None, pd.DataFrame]:
    """The table of all objects."""
    parts, done = [], 0
    for part in results(work, work.groups(block), workers):
        parts.append(part)
        done += len(part[0]["label"])
        yield Progress(done, len(merged), "object", task=("measure",))
    columns, evidence = joined(parts)
    large = int(work.boxes.too_large(work.room).sum())
    if unknown := [name for name in work.measures.extra if large and name not in KNOWN_EXTRA]:
        text = f"{large} objects are too large to measure {', '.join(unknown)} in this memory: they have no value there. Give more memory."
        yield Warned("blocks.not_measured", text)
    return model.completed(as_table(columns), evidence or None, merged.classes, merged.class_confidence)
