"""Segment an image that does not fit into the memory: predict to the disk, decode block by block, merge, measure group by group.

::

    tiles -> prediction.zarr -> histograms of all voxels -> thresholds, sizes of a sample
                             -> blocks with halo -> labels of the cores -> objects merged across blocks -> labels, table

Each stage holds one tile, block or group at a time. The result does not depend on the blocks: see `morula.decoders.blockwise`. The
prediction is stored as float32, because shorter numbers would move the borders of objects by a voxel here and there.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.array import ArraySource
from morula.core.errors import OptionError
from morula.core.events import Event, Logged, Progress, Warned
from morula.core.image import Image
from morula.core.label_image import smallest_type
from morula.core.region import Region
from morula.decoders.blockwise import BlockPlan, Merged, decode_block, merge_blocks, plan_blocks
from morula.decoders.class_blocks import class_block, merge_classes
from morula.inference.memory import decoding_bytes, room_beside_program, room_of_worker
from morula.kernels.geometry import geometry
from morula.labels.objects import Objects
from morula.measurement.blockwise import GroupMeasurement, joined
from morula.measurement.columns import Columns
from morula.measurement.filter import removed_ids
from morula.measurement.large_objects import KNOWN_EXTRA
from morula.measurement.measure import as_table
from morula.measurement.measures import Boxes, Measures
from morula.methods.base import Method
from morula.methods.classes import class_image
from morula.methods.object_options import ObjectOptions
from morula.models.model import Model
from morula.workflows.block_store import BlockStore, MedianFiltered, MergedLabels
from morula.workflows.predict_blocks import Prediction, predicted, statistics_of
from morula.workflows.workers import Executor, Processes

if TYPE_CHECKING:
    import pandas as pd
    import zarr

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
    model: Model, image: Image, store: BlockStore, executor: Executor, *, device: str, memory: int
) -> Generator[Event, None, InBlocks]:
    """Labels and table of an image, with at most `memory` bytes for the whole process.

    Args:
        model: the trained model; its `block_problem` must be empty.
        image: from `model.as_image`.
        store: folder for unfinished results, which a killed process or other tasks may have left.
        executor: where blocks are decoded and measured; with fewer workers where the memory allows no blocks for all of them.
        device: a result of `Model.device`.
        memory: bytes.

    Raises:
        OptionError: when the memory is not enough for one block.
    """
    prediction = Prediction.begun(model, image, store, device=device, memory=memory, shared=False)
    yield from predicted(prediction, executor)
    decoding, executor = yield from planned(model, store, memory, executor)
    with closing(executor):
        return (yield from _decoded_and_measured(model, image, decoding, executor, memory))


def _decoded_and_measured(
    model: Model, image: Image, decoding: Decoding, executor: Executor, memory: int
) -> Generator[Event, None, InBlocks]:
    """What follows from a finished prediction."""
    store = decoding.store
    yield from _decoded(decoding, executor)
    plan, cores = decoding.plan, decoding.cores()
    merged = merge_blocks(plan, store.block, cores) if model.method.instances else merge_classes(plan, store.block)
    store.put_arrays("merged", merged.as_arrays())

    def relabelled(values: np.ndarray) -> MergedLabels:
        return MergedLabels(cores, plan.core, [values[table] for table in merged.tables])

    labels = relabelled(_ids(len(merged), instances=model.method.instances))
    if merged.merged:
        yield Logged(f"{merged.merged} objects are larger than the halo of {plan.halo} voxels; their parts were merged across blocks")
    measuring = _Measuring(model.job.objects, model.method.instances, image, store, plan, room_of(memory, executor) // _MEASURING)
    table = yield from _measured(model, measuring, merged, executor)
    kept = np.arange(len(merged) + 1, dtype=labels.dtype)
    if model.job.objects.filter:
        kept[removed_ids(table)] = 0
    classes = None if merged.classes is None else class_image(kept, merged.classes)
    return InBlocks(relabelled(kept), labels, table, None if classes is None else relabelled(classes), decoding.prediction)


def _ids(count: int, *, instances: bool) -> np.ndarray:
    """Ids 0..count of the type that label images have."""
    # class images are stored as they are decoded, in 8 bits where that suffices
    return np.arange(count + 1, dtype=np.uint8 if not instances and count < 256 else smallest_type(count))


def room_of(memory: int, executor: Executor) -> int:
    """Bytes for images in each worker."""
    return room_of_worker(memory, 1 if executor.remote else executor.count)


def planned(
    model: Model, store: BlockStore, memory: int, executor: Executor, *, tasks: int = 1
) -> Generator[Event, None, tuple[Decoding, Executor]]:
    """How the blocks of a finished prediction are decoded, and where: with as many workers as the blocks are for.

    `tasks` is the number of tasks with this memory that share the blocks.
    """
    stored, filters = store.existing("prediction"), model.job.prediction.median
    prediction: ArraySource = MedianFiltered(stored, filters) if filters else stored
    noted = store.noted("decoding")
    if noted is None:
        workers, computers = (1, executor.count) if executor.remote else (executor.count, tasks)
        found = yield from _new_plan(model, prediction, store, memory, workers=workers, computers=computers)
        noted = store.agreed("decoding", found)
    plan = BlockPlan(tuple(prediction.shape[1:]), tuple(noted["core"]), tuple(noted["halo"]))
    if not executor.remote and noted["workers"] < executor.count:
        executor = Processes(noted["workers"])
    return Decoding(model.method, noted["parameters"], plan, store, prediction), executor


def _new_plan(
    model: Model, prediction: ArraySource, store: BlockStore, memory: int, *, workers: int, computers: int
) -> Generator[Event, None, dict[str, object]]:
    """Parameters of the decoder, from histograms of the whole prediction and samples; the blocks, and how many workers they are for."""
    method, shape = model.method, tuple(prediction.shape[1:])
    statistics = yield from statistics_of(method, prediction, store)
    parameters, diameters = method.fit(statistics), np.full(1, _SMALLEST)
    if method.instances:
        parameters, diameters = _sampled(model, prediction, parameters)
    halos = [method.block_halo(parameters, _SPARE * float(np.percentile(diameters, share))) for share in _SHARES]
    plan, count = _fitting_plan(model, shape, halos, memory, workers=workers, computers=computers)
    fewer = f"; the memory is for {count} of {workers} workers" if count < workers else ""
    yield Logged(f"{len(plan)} blocks of {plan.core} voxels, each decoded with a halo of {plan.halo}{fewer}")
    return {"parameters": parameters, "core": plan.core, "halo": plan.halo, "workers": count}


def _fitting_plan(
    model: Model, shape: tuple[int, ...], halos: Sequence[tuple[int, ...]], memory: int, *, workers: int, computers: int
) -> tuple[BlockPlan, int]:
    """Blocks with the first of the halos that does not take too much memory or time; and for how many workers of each computer.

    More workers have less memory each and read more halos, so that fewer of them may be as fast. Of fewer blocks than there are workers,
    smaller ones may be faster.

    Raises:
        OptionError: ``blocks.memory`` where no block fits.
    """
    per_voxel = decoding_bytes((1,), len(model.method.channels))

    def planned(halo: tuple[int, ...], room: int) -> BlockPlan | None:
        return plan_blocks(shape, halo, memory=room, bytes_per_voxel=per_voxel, align=model.method.block_alignment())

    def chosen(room: int) -> BlockPlan | None:
        fitting = [plan for halo in halos if (plan := planned(halo, room)) is not None]
        return next((plan for plan in fitting if plan.effort <= _EFFORT), fitting[-1] if fitting else None)

    # parts of the memory: smaller blocks, so that several computers have as many each
    parts = [2**i for i in range(computers.bit_length() + 1)] if computers > 1 else [1]
    rooms = [(count, room_of_worker(memory, count) // part) for count in range(1, workers + 1) for part in parts]
    plans = [(plan, count) for count, room in rooms if (plan := chosen(room)) is not None]
    if not plans:
        least = next(limit for limit in itertools.count(memory, 10**8) if planned(halos[-1], room_of_worker(limit, 1)))
        raise OptionError(
            "blocks.memory",
            f"is too little for a block with the halo of {halos[-1]} voxels that these objects need",
            key="memory",
            value=f"{memory / 1e6:.0f}MB",
            remedy=f"Give at least --memory {least / 1e6:.0f}MB; the prediction is kept, and the same command continues.",
        )
    # voxels that the busiest worker decodes
    return min(plans, key=lambda choice: choice[0].effort * -(-len(choice[0]) // (choice[1] * computers)) / len(choice[0]))


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


@dataclass(frozen=True, eq=False)
class Decoding:
    """Decodes blocks of the stored prediction; can be sent to other processes."""

    method: Method
    parameters: Mapping[str, Any]
    plan: BlockPlan
    store: BlockStore
    prediction: ArraySource

    def cores(self) -> zarr.Array:
        """The array for the labels of the cores, of which each consists of whole chunks."""
        limit = {2: 512, 3: 128}[len(self.plan.shape)]
        # blocks are written one by one, and two must not share a chunk
        chunks = tuple(core if core <= limit else max(c for c in range(1, limit + 1) if core % c == 0) for core in self.plan.core)
        return self.store.array("labels", self.plan.shape, chunks, np.dtype(np.uint32))

    def missing(self) -> list[int]:
        """The blocks that are not finished."""
        return missing_blocks(self.store, self.plan)

    def __call__(self, number: int) -> None:
        """Decode a block, and record its labels and objects."""
        core = self.plan.cores[number]
        if self.method.instances:
            block = decode_block(self.plan, number, self.prediction, self._objects, self.method.votes)
        else:
            block = class_block(self.plan, number, self.prediction, self._objects)
        self.store.existing("labels")[core.slices] = block.labels
        self.store.put_block(number, block, core)

    def _objects(self, block: np.ndarray) -> Objects:
        return self.method.decode(block, self.parameters)


def missing_blocks(store: BlockStore, plan: BlockPlan) -> list[int]:
    """Numbers of the blocks that are not finished."""
    finished = {int(name.removeprefix("block_")) for name in store.names("block_", ".npz")}
    return [number for number in range(len(plan)) if number not in finished]


def _decoded(work: Decoding, executor: Executor) -> Iterator[Event]:
    """Decode the blocks that are not finished."""
    work.cores()
    yield from decoded_steps(work, work.missing(), executor)


def decoded_steps(work: Decoding, numbers: Sequence[int], executor: Executor) -> Iterator[Event]:
    """Decode these blocks."""
    total = len(work.plan)
    yield Progress(total - len(numbers), total, "block", task=("blocks",))
    for done, _ in enumerate(executor.run(work, numbers, work.store.path), total - len(numbers) + 1):
        yield Progress(done, total, "block", task=("blocks",))


@dataclass(frozen=True, eq=False)
class _Measuring:
    """Measures groups of objects of the stored labels; can be sent to other processes, which read the merged objects from the disk.

    Attributes:
        options: of the job.
        instances: whether the labels are ids of objects, not classes.
        image, store, plan: as in the other steps.
        room: voxels that may be in memory at a time.
    """

    options: ObjectOptions
    instances: bool
    image: Image
    store: BlockStore
    plan: BlockPlan
    room: int

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "groups"}

    @cached_property
    def groups(self) -> GroupMeasurement:
        """The measurement of all groups."""
        arrays = self.store.arrays("merged")
        assert arrays is not None
        merged = Merged.from_arrays(arrays)
        ids = _ids(len(merged), instances=self.instances)
        labels = MergedLabels(self.store.existing("labels"), self.plan.core, [ids[table] for table in merged.tables])
        return _measurement(self.options, labels, merged, self.image, self.room)

    def name(self, members: np.ndarray) -> str:
        """The name of a group."""
        return f"measured_{hashlib.sha256(f'{self.room} '.encode() + members.tobytes()).hexdigest()[:16]}"

    def __call__(self, members: np.ndarray) -> None:
        """Measure a group, and record its columns."""
        columns, evidence = self.groups(members)
        self.store.put_arrays(self.name(members), {f"0{name}": values for name, values in columns.items()} | evidence_named(evidence))

    def found(self, members: np.ndarray) -> tuple[Columns, Columns] | None:
        """The columns of a group, and its columns of evidence, where it is finished."""
        arrays = self.store.arrays(self.name(members))
        if arrays is None:
            return None
        columns, evidence = ({name[1:]: values for name, values in arrays.items() if name[0] == kind} for kind in "01")
        return columns, evidence


def evidence_named(evidence: Columns) -> Columns:
    """Columns of evidence, under names that those of `measure` do not have."""
    return {f"1{name}": values for name, values in evidence.items()}


def _measurement(options: ObjectOptions, labels: ArraySource, merged: Merged, image: Image, room: int) -> GroupMeasurement:
    """How the objects are measured, with at most `room` voxels in memory at a time."""
    wanted = options.measure
    measures = Measures(
        voxel_size=image.voxel_size,
        extra=wanted.extra,
        confidence=merged.confidence,
        surface=wanted.surface,
        intensity=wanted.intensity,
        evidence=options.calibration is not None,
    )
    values = image.lazy() if measures.intensity or measures.evidence else None
    return GroupMeasurement(labels, Boxes(merged.voxels, merged.starts, merged.stops), values, room, measures)


def _measured(model: Model, work: _Measuring, merged: Merged, executor: Executor) -> Generator[Event, None, pd.DataFrame]:
    """The table of all objects."""
    groups = work.groups.groups(work.plan.core)
    known = set(work.store.names("measured_", ".npz"))
    missing = [members for members in groups if work.name(members) not in known]
    done = len(merged) - sum(map(len, missing))
    for members in executor.run(work, missing, work.store.path):
        done += len(members)
        yield Progress(done, len(merged), "object", task=("measure",))
    columns, evidence = joined([part for members in groups if (part := work.found(members)) is not None])
    large = int(work.groups.boxes.too_large(work.room).sum())
    if unknown := [name for name in work.groups.measures.extra if large and name not in KNOWN_EXTRA]:
        text = f"{large} objects are too large to measure {', '.join(unknown)} in this memory: they have no value there. Give more memory."
        yield Warned("blocks.not_measured", text)
    return model.completed(as_table(columns), evidence or None, merged.classes, merged.class_confidence)
