"""Scores of results against the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from morula.core.errors import DataError
from morula.core.events import Event, FileWritten, Finished, Logged, Progress, Started
from morula.core.image import Image
from morula.io.read import read_labels
from morula.io.tables import write_table
from morula.jobs.load import validate
from morula.jobs.run_folder import RunFolder
from morula.jobs.yaml_lines import Document, read_documents
from morula.labels.unlabelled import labelled_only
from morula.methods.base import Method
from morula.workflows.log import logged
from morula.workflows.sources import Truth, open_truth


def evaluate(run: str | Path) -> Iterator[Event]:
    """Score the results of a run's test images and write `scores.csv`.

    Args:
        run: a run folder whose images were predicted.

    Yields:
        events; the last is `Finished` with the pooled figures.

    Raises:
        MissingFileError: when it is no run folder, or nothing was predicted.
        DataError: when no test image has labels.

    Examples:
        >>> *_, last = evaluate("runs/nuclei")  # doctest: +SKIP
        >>> last.figures["F1@0.5"]  # doctest: +SKIP
        0.91
    """
    import json

    folder = RunFolder.existing(run)
    if not folder.images_file.is_file():
        raise DataError(f"the run {str(run)!r} has no results yet. Run `morula predict {run}` first.")
    rows = [row for row in json.loads(folder.images_file.read_text(encoding="utf-8")) if row["truth"] is not None]
    if not rows:
        raise DataError(f"no test image of {str(run)!r} has labels, so nothing can be scored. State images.test.labels.")
    yield from logged(_scored(rows, folder), folder.log_file)


def _scored(rows: Sequence[Mapping[str, Any]], folder: RunFolder) -> Iterator[Event]:
    import numpy as np

    began = time.monotonic()
    job = validate(Document(read_documents(folder.job_file)[0].data, {}, str(folder.job_file)))
    yield Started("evaluate", len(rows))
    scores = {}
    method: Method | None = None
    for done, row in enumerate(rows, start=1):
        result = read_labels(row["prediction"])
        truth, _, unlabelled = open_truth(truth_of(row), result, job.images)
        method = method or method_of(job, result)
        scores[row["name"]] = method.score(*labelled_only(np.asarray(truth), np.asarray(result), unlabelled))
        yield Progress("evaluate", done, len(rows), row["name"])
    table = method.score_rows(scores) if method else []
    write_table(folder.scores_file, columns_of(table))
    yield FileWritten(folder.scores_file, "scores of each image and pooled")
    figures = pooled_figures(table)
    yield Logged("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    yield Finished("evaluate", time.monotonic() - began, figures)


def truth_of(row: Mapping[str, Any]) -> Truth:
    """Where the truth of an image of a run lies."""
    return Truth(*(None if row.get(name) is None else Path(row[name]) for name in ("truth", "classes", "mask")))  # type: ignore[arg-type]


def method_of(job: Any, image: Image) -> Method:
    """The job's method, for images like this one."""
    from morula.methods import METHODS

    return METHODS.load(job.method.kind)(job.method, job.objects, ndim=image.ndim_spatial, spacing=image.spacing)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns.

    Examples:
        >>> columns_of([{"a": 1, "b": 2}, {"a": 3, "b": 4}])
        {'a': [1, 3], 'b': [2, 4]}
    """
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def pooled_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The headline figures of a score table: F1 at each threshold, or IoU of each class.

    Examples:
        >>> pooled_figures([{"image": "pooled", "threshold": 0.5, "f1": 0.91}])
        {'F1@0.5': 0.91}
    """
    pooled = [row for row in rows if row["image"] == "pooled"]
    named = {f"F1@{row['threshold']:g}": row["f1"] for row in pooled if "threshold" in row}
    named |= {f"IoU {row['class']}": row["iou"] for row in pooled if "class" in row and not math.isnan(row["iou"])}
    return {name: float(value) for name, value in named.items()}
