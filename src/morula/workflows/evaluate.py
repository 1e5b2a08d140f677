"""Scores of results against the truth."""

from __future__ import annotations

import math
import operator
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from morula.core.errors import DataError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, below
from morula.core.image import Image
from morula.io.read import read_labels
from morula.io.write import write
from morula.jobs.load import validate
from morula.jobs.run_folder import RunFolder
from morula.jobs.yaml_lines import Document, read_documents
from morula.labels.partial_labels import labelled_only
from morula.measurement.csv_table import write_table
from morula.methods.base import Method
from morula.metrics.classes import class_accuracy, class_confusion, class_scores
from morula.metrics.image_scores import ImageScores
from morula.workflows.baselines import Baselines, compared
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
    yield from logged(below("evaluate", _scored(rows, folder)), folder)


def _scored(rows: Sequence[Mapping[str, Any]], folder: RunFolder) -> Iterator[Event]:
    began = time.monotonic()
    job = validate(Document(read_documents(folder.job_file)[0].data, {}, str(folder.job_file)))
    yield Started(len(rows), "image")
    final, before, plain = Scoring(job), Scoring(job), Baselines(job)
    shutil.rmtree(folder.associations, ignore_errors=True)
    for done, row in enumerate(rows, start=1):
        name, prediction, truth = row["name"], Path(row["prediction"]), truth_of(row)
        yield from final.add(name, prediction, truth, folder.associations / name)
        if final.method:
            plain.add(name, final.method, row["raw"], truth)
        earlier = prediction.parent / "before" / prediction.name
        if earlier.exists():
            yield from before.add(name, earlier, truth, folder.associations / f"{name}_before")
        yield Progress(done, len(rows), "image", name)
    table = final.rows()
    earlier_rows = before.rows() if before.scores.keys() == final.scores.keys() else []
    for row, earlier_row in zip(table, earlier_rows):
        row |= {f"{key}_before": value for key, value in earlier_row.items() if key not in ("image", "threshold", "n_true")}
    write_table(folder.scores_file, columns_of(table))
    yield FileWritten(folder.scores_file, Artefact.SCORES)
    yield from _class_scores(final.class_rows(), folder)
    figures = pooled_figures(table)
    if final.method and plain.scores:
        rivals = plain.rows(final.method)
        write_table(folder.baselines_file, columns_of([{"method": name, **row} for name, each in rivals.items() for row in each]))
        yield FileWritten(folder.baselines_file, Artefact.BASELINES)
        yield from compared(job.method.kind, figures, {name: pooled_figures(each) for name, each in rivals.items()})
    yield Logged("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    yield Finished(time.monotonic() - began, figures)


def _class_scores(rows: Sequence[Mapping[str, Any]], folder: RunFolder) -> Iterator[Event]:
    """Write and tell the scores of the classes of objects, where there are some."""
    if not rows:
        return
    write_table(folder.class_scores_file, columns_of(rows))
    yield FileWritten(folder.class_scores_file, Artefact.CLASS_SCORES)
    first = rows[0]["threshold"]
    pooled = [row for row in rows if row["image"] == "pooled" and row["threshold"] == first]
    yield Logged(f"F1@{first:g} by class: " + "  ".join(f"{row['class']} {row['f1']:.3f}" for row in pooled))


def truth_of(row: Mapping[str, Any]) -> Truth:
    """Where the truth of an image of a run lies."""
    return Truth(*(None if row.get(name) is None else Path(row[name]) for name in ("truth", "classes", "mask")))  # type: ignore[arg-type]


class Scoring:
    """Scores of results against the truth, image by image."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self.method: Method | None = None
        self.scores: dict[str, Any] = {}
        self.whole: dict[str, ImageScores] = {}
        self.confusion: dict[str, list[Any]] = {}

    def add(self, name: str, file: Path, truth: Truth, associations: Path) -> Iterator[Event]:
        """Score an image; where there are objects, write what became of each of them at every threshold of the job."""
        import numpy as np

        result = read_labels(file)
        labels, classes, unlabelled = open_truth(truth, result, self.job.images)
        self.method = self.method or method_of(self.job, result)
        true, predicted = labelled_only(np.asarray(labels), np.asarray(result), unlabelled)
        self.scores[name] = self.method.score(true, predicted)
        if not self.method.instances:
            return
        self.whole[name] = ImageScores.of(true, predicted)
        found = self._class_file(file)
        if classes is not None and found.is_file():
            both = (true, np.asarray(classes)), (predicted, np.asarray(read_labels(found)))
            options = self.job.method.classes
            self.confusion[name] = [
                class_confusion(*both, options.number, threshold=each.threshold, ignore=options.ignore) for each in self.scores[name]
            ]
        coloured = self.job.objects.colour
        for threshold in sorted({*coloured, *(each.threshold for each in self.scores[name])}):
            yield from _associations(associations, true, predicted, threshold, colour=threshold in coloured, of=result)

    def _class_file(self, file: Path) -> Path:
        """The class image of a result, before post-processing or after it."""
        return file.parent / "classes" / file.name

    def class_rows(self) -> list[dict[str, Any]]:
        """A row an image, threshold and class, then the pooled ones; nothing where there are no classes."""
        rows = []
        for name, tables in self._confusions().items():
            for threshold, table in zip(self.job.method.thresholds, tables, strict=True):
                rows += [{"image": name, "threshold": threshold, **row} for row in class_scores(table, self.job.method.classes.titles)]
        return rows

    def _confusions(self) -> dict[str, list[Any]]:
        """Tables of true and predicted classes, by image and pooled, one a threshold."""
        if not self.confusion:
            return {}
        return {**self.confusion, "pooled": [sum(tables) for tables in zip(*self.confusion.values(), strict=True)]}

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the score table; what says something of a whole image stands in each of its rows."""
        rows = self.method.score_rows(self.scores) if self.method else []
        if not self.whole:
            return rows
        figures = {name: each.figures() for name, each in self.whole.items()}
        figures["pooled"] = reduce(operator.add, self.whole.values()).figures()
        right = {
            (name, threshold): {"class_accuracy": class_accuracy(table)}
            for name, tables in self._confusions().items()
            for threshold, table in zip(self.job.method.thresholds, tables, strict=True)
        }
        return [row | right.get((row["image"], row["threshold"]), {}) | figures.get(row["image"], {}) for row in rows]


def _associations(stem: Path, truth: Any, prediction: Any, threshold: float, *, colour: bool, of: Image) -> Iterator[Event]:
    """Tables of true objects and of surplus ones at one threshold, and a coloured image where it is wanted."""
    from morula.metrics.association import association_image, false_table, truth_table
    from morula.metrics.matching import associate

    found = associate(truth, prediction, threshold)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind, table in (("gt_assoc", truth_table(found)), ("fp", false_table(found))):
        write_table(stem.with_name(f"{stem.name}_th_{threshold:g}_{kind}.csv"), table)
    if colour:
        place = stem.with_name(f"{stem.name}_th_{threshold:g}.tif")
        axes = f"C{of.axes.spatial_axes}"
        write(place, association_image(truth, prediction, found), axes=axes, voxel_size=of.voxel_size, overwrite=True)
        yield FileWritten(place, Artefact.ASSOCIATIONS)


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
    named |= {f"class accuracy@{row['threshold']:g}": row["class_accuracy"] for row in pooled[:1] if "class_accuracy" in row}
    named |= {f"IoU {row['class']}": row["iou"] for row in pooled if "class" in row and not math.isnan(row["iou"])}
    return {name: float(value) for name, value in named.items()}
