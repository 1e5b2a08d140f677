"""The differences between two runs of one job: files, weights, objects, columns of tables."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from morula.core.events import Artefact, Event, FileWritten, Finished, Logged
from morula.core.manifest import recorded
from morula.io.read import read_labels
from morula.jobs.run_folder import RunFolder
from morula.measurement.csv_table import read_table, write_table
from morula.metrics.matching import associate
from morula.nn.weights import EXAMPLE, WEIGHTS

_COMPARED = ("logs/training.csv", "scores.csv", "class_scores.csv", "baselines.csv")
_COMPARED_FOLDERS = ("objects", "associations", "predictions", "MAE_checks")
"""What depends on inputs and job alone. Left out are reports, logs and records, which hold times and the names of the folders."""

_TIMES = ("seconds",)
"""Columns of tables that hold durations."""


def compare_runs(before: RunFolder, after: RunFolder, *, began: float, weights: str = f"model/{WEIGHTS}") -> Iterator[Event]:
    """Compare the results of two runs and write ``replay.csv`` into the second. The last event is `Finished` with the figures.

    The weights are those of this file in both runs.

    ``replay.csv`` has one row per object: ``image``, ``label`` in the first run, ``replayed_label``, their ``iou``, and ``state``:
    ``equal`` (the same voxels), ``changed``, ``lost`` or ``new``.
    """
    files = [name for name in (weights, *_files(before)) if (after.path / name).is_file() or name != "logs/training.csv"]
    other = [name for name in files if not _same_file(before.path / name, after.path / name)]
    rows = list(_object_rows(before, after))
    figures = {"files": float(len(files)), "different files": float(len(other))}
    different = sum(row["state"] != "equal" for row in rows)
    if rows:
        figures |= {"objects": float(len(rows)), "different objects": float(different)}
    figures["largest weight difference"] = weight_difference(before.path / weights, after.path / weights)
    place = after.path / "replay.csv"
    columns = ("image", "label", "replayed_label", "iou", "state")
    write_table(place, {name: [row[name] for row in rows] for name in columns})
    yield FileWritten(place, Artefact.COMPARISON, "objects of both runs")
    yield Logged("weights are equal" if figures["largest weight difference"] == 0 else "weights differ")
    yield from map(Logged, _lines(rows, other, len(files)))
    yield Finished(time.monotonic() - began, figures)


def _lines(rows: list[dict[str, object]], other: list[str], files: int) -> Iterator[str]:
    states = [row["state"] for row in rows]
    if rows and set(states) == {"equal"}:
        yield f"all {len(rows)} objects are equal, voxel by voxel"
    elif rows:
        counts = ", ".join(f"{states.count(state)} {state}" for state in ("changed", "lost", "new") if state in states)
        yield f"{len(rows) - states.count('equal')} of {len(rows)} objects differ ({counts}); replay.csv lists them"
    if other:
        yield f"{len(other)} of {files} files differ: {', '.join(other[:5])}{' ...' if len(other) > 5 else ''}"
    else:
        yield f"all {files} files with results are equal"


def _files(folder: RunFolder) -> list[str]:
    """Names of the files of a run that hold results."""
    inside = [file for name in _COMPARED_FOLDERS for file in _of_run(folder, (folder.path / name).rglob("*"))]
    return [name for name in _COMPARED if (folder.path / name).is_file()] + [file.relative_to(folder.path).as_posix() for file in inside]


def _of_run(folder: RunFolder, files: Iterable[Path]) -> list[Path]:
    """The files that the run wrote; a user may keep others beside them."""
    known = recorded(folder.path)
    return [file for file in sorted(files) if file.is_file() and (known is None or file.relative_to(folder.path).as_posix() in known)]


def _same_file(before: Path, after: Path) -> bool:
    if not after.is_file():
        return False
    if before.suffix != ".csv":
        return before.read_bytes() == after.read_bytes()
    one, two = read_table(before), read_table(after)
    names = [name for name in one if name not in _TIMES]
    return names == [name for name in two if name not in _TIMES] and all(_same_column(one[name], two[name]) for name in names)


def _same_column(one: np.ndarray, two: np.ndarray) -> bool:
    return one.dtype.kind == two.dtype.kind and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")


def _object_rows(before: RunFolder, after: RunFolder) -> Iterator[dict[str, object]]:
    """One row per object of either run."""
    for file in _of_run(before, before.objects.glob("*.tif")):
        again = after.objects / file.name
        first = np.asarray(read_labels(file))
        second = np.asarray(read_labels(again)) if again.is_file() else np.zeros_like(first)
        for row in object_differences(first, second):
            yield {"image": file.stem, **row}


def object_differences(before: np.ndarray, after: np.ndarray) -> list[dict[str, object]]:
    """One row per object of either label image: ids, IoU and state (``equal``, ``changed``, ``lost``, ``new``).

    Examples:
        >>> rows = object_differences(np.array([[1, 1, 0, 2, 2, 0]]), np.array([[7, 7, 0, 0, 0, 9]]))
        >>> [(row["label"], row["replayed_label"], row["state"]) for row in rows]
        [(1, 7, 'equal'), (2, None, 'lost'), (None, 9, 'new')]
    """
    table = associate(before, after, 0.5)
    rows: list[dict[str, object]] = []
    columns = (table[name].tolist() for name in ("true_id", "predicted_id", "iou", "tag"))
    for label, again, iou, tag in zip(*columns, strict=True):
        state = {"FN": "lost", "FP": "new"}.get(tag, "equal" if iou == 1 else "changed")
        row = {"label": None if tag == "FP" else label, "replayed_label": None if tag == "FN" else again, "iou": iou, "state": state}
        rows.append(row)
    return rows


def weight_difference(before: Path, after: Path) -> float:
    """The largest difference of a weight between two files; infinite where they hold other tensors."""
    from safetensors.numpy import load_file

    one, two = _weights(load_file(before)), _weights(load_file(after))
    if one.keys() != two.keys() or any(one[name].shape != two[name].shape for name in one):
        return math.inf
    return max((float(np.abs(one[name].astype(np.float64) - two[name]).max(initial=0)) for name in one), default=0.0)


def _weights(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors without the test input and its outputs, which the file holds too."""
    return {name: values for name, values in tensors.items() if not name.startswith(EXAMPLE)}
