"""Images whose blocks are shared by several tasks, which may run at the same time on computers that share a folder.

Each task computes its share of every stage whose input is complete, and records it in the folder of the image's unfinished results::

    1/3   rows 0-4 of the prediction | blocks 0, 3, 6, ... |
    2/3   rows 4-8                   | blocks 1, 4, 7, ... | --merge: objects across blocks, tables, labels
    3/3   rows 8-12                  | blocks 2, 5, 8, ... |

The thresholds of the decoder follow from the whole prediction. So a task that ends before the prediction of the others is complete has
to be given again for its blocks; nothing waits. Results do not depend on the number of tasks or on their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from morula.core.errors import DataError, OptionError
from morula.core.events import Event, Logged
from morula.core.image import Image
from morula.decoders.blockwise import BlockPlan
from morula.models.model import Model
from morula.workflows.block_store import BlockStore
from morula.workflows.hardware import Hardware
from morula.workflows.predict_blocks import Part, Prediction, finished_parts, gaps, rows_of
from morula.workflows.segment_blocks import decoded_steps, missing_blocks, planned

Share = tuple[int, int]
"""Number of a task, counted from 1, and how many there are."""


def share_of_rows(rows: int, share: Share) -> Part:
    """The rows of chunks that a task predicts.

    Examples:
        >>> [share_of_rows(5, (number, 2)) for number in (1, 2)]
        [(0, 2), (2, 5)]
    """
    number, count = share
    return (number - 1) * rows // count, number * rows // count


def segment_share(model: Model, image: Image, store: BlockStore, hardware: Hardware, share: Share, *, memory: int) -> Iterator[Event]:
    """Predict and decode a share of an image, as far as the other tasks have come.

    Args:
        model: the trained model; its `block_problem` must be empty.
        image: from `model.as_image`.
        store: folder for unfinished results, which the tasks share.
        hardware: what the share is computed with.
        share: number of the task, and how many there are.
        memory: bytes.

    Raises:
        OptionError: ``shares.count`` where the blocks are shared by another number of tasks.
    """
    number, count = share
    agreed = store.agreed("tasks", {"count": count})["count"]
    if agreed != count:
        rule = f"shares the image among {count} tasks, but those before share it among {agreed}"
        raise OptionError("shares.count", rule, key="shard", value=f"{number}/{count}", remedy=f"Write {number}/{agreed} for this task.")
    work = Prediction.begun(model, image, store, device=hardware.device, memory=memory, shared=True)
    yield from model.tile_warnings(work.plan)
    for part in gaps(finished_parts(store), share_of_rows(work.rows, share)):
        yield from work.steps(part)
        work(part)
    if work.missing():
        others = named(tasks_of_rows(store, count))
        yield Logged(f"its share of the prediction is finished; give the command again for its blocks when {others} have finished theirs")
        return
    decoding, executor = yield from planned(model, store, memory, hardware.executor, tasks=count)
    decoding.cores()
    mine = [block for block in decoding.missing() if block % count == number - 1]
    with closing(executor):
        yield from decoded_steps(decoding, mine, executor)
    missing = len(decoding.missing())
    yield Logged(
        f"its blocks are finished; {missing} of {len(decoding.plan)} are left to other tasks" if missing else "all blocks are finished"
    )


def tasks_of_rows(store: BlockStore, count: int) -> list[int]:
    """Numbers of the tasks that have not finished their share of the prediction."""
    rows, done = rows_of(store), finished_parts(store)
    return [number for number in range(1, count + 1) if gaps(done, share_of_rows(rows, (number, count)))]


def missing_tasks(store: BlockStore) -> tuple[list[int], str]:
    """Numbers of the tasks that have not finished, and what is missing; none where all have, or where no tasks share the image."""
    count = (store.noted("tasks") or {"count": 1})["count"]
    every = list(range(1, count + 1))
    if not store.has("prediction"):
        return every, "the prediction"
    if tasks := tasks_of_rows(store, count):
        return tasks, "the prediction"
    noted = store.noted("decoding")
    if noted is None:
        return every, "all blocks"
    missing = missing_blocks(store, BlockPlan(store.existing("prediction").shape[1:], tuple(noted["core"]), tuple(noted["halo"])))
    return sorted({1 + block % count for block in missing}), f"{len(missing)} blocks"


def check_tasks(store: BlockStore, labels_file: Path) -> None:
    """Reject an image whose tasks have not finished.

    Raises:
        DataError: ``shares.unfinished``, which names the tasks.
    """
    tasks, what = missing_tasks(store)
    if tasks:
        rule = f"cannot be merged: {what} of {named(tasks)} {'is' if what == 'the prediction' else 'are'} missing"
        remedy = f"Give the command with --shard {tasks[0]}/{(store.noted('tasks') or {'count': 1})['count']}, and so on, first."
        raise DataError("shares.unfinished", rule, key="shard", value=tasks, file=labels_file, remedy=remedy)


def named(tasks: Sequence[int]) -> str:
    """Names of tasks for messages.

    Examples:
        >>> named([3]), named(range(1, 12))
        ('task 3', 'tasks 1, 2, 3, 4, 5, 6, 7, 8, ... (11 tasks)')
    """
    shown = ", ".join(map(str, tasks[:8]))
    return f"task {shown}" if len(tasks) == 1 else f"tasks {shown}{f', ... ({len(tasks)} tasks)' if len(tasks) > 8 else ''}"
