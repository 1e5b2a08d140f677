"""Score results against the ground truth."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from morula.core.errors import DataError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, below
from morula.core.image import Image
from morula.core.manifest import discard
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import check_space
from morula.io.metadata import collected
from morula.io.read import read_labels
from morula.io.write import write
from morula.jobs.job import Job
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder, damaged, time_of
from morula.labels.partial_labels import labelled_only
from morula.measurement.csv_table import write_table
from morula.methods import METHODS
from morula.methods.base import Method
from morula.methods.scoring import Row, Score
from morula.metrics.association import association_image, false_table, truth_table
from morula.metrics.classes import class_accuracy, class_confusion, class_scores
from morula.metrics.image_scores import ImageScores
from morula.metrics.matching import associate
from morula.workflows.baselines import Baselines, compare_with_baselines
from morula.workflows.log import logged
from morula.workflows.result_files import class_image_path
from morula.workflows.run_results import check_results, report_again
from morula.workflows.sources import Truth, open_truth
from morula.workflows.space import coloured_bytes
from morula.workflows.stream import events_of


@events_of("morula.evaluate")
@with_named_os_errors
def evaluate(run: str | Path) -> Iterator[Event]:
    """Score the results of the test images of a run and write `scores.csv`; a report that is there is written again.

    Args:
        run: a run folder whose images were predicted.

    Yields:
        events; the last is `Finished` with the pooled figures.

    Raises:
        MissingFileError: when the folder is not a run folder.
        DataError: when nothing was predicted, or no test image has labels.

    Examples:
        >>> *_, last = evaluate("runs/nuclei")  # doctest: +SKIP
        >>> last.figures["F1@0.5"]  # doctest: +SKIP
        0.91
    """
    folder = RunFolder.existing(run)
    with folder.in_use():
        yield from evaluate_into(folder)
        yield from report_again(folder)  # it shows the scores of before


def evaluate_into(folder: RunFolder) -> Iterator[Event]:
    """Score as `evaluate` does, in a run folder whose lock is held."""
    run = folder.path
    if not folder.images_file.is_file():
        raise DataError("run.not_predicted", "the run has no results yet", file=run, remedy=f"Run `morula predict {run}` first.")
    rows = [row for row in folder.read_images() if row.get("truth") is not None]
    if any(row.get(key) is None for row in rows for key in ("prediction", "raw")):
        raise damaged(folder.images_file, "an image has no prediction or no raw image")
    if not rows:
        remedy = "Name labels in images.test.labels of the job.yaml of the run, and predict again."
        raise DataError("run.no_truth", "no test image has labels, so nothing can be scored", file=run, remedy=remedy)
    for row in rows:  # before the results of the last evaluation are removed
        read_labels(str(row["prediction"]))
    check_results(folder, folder.score_files)
    if colours := load_job(folder.job_file).objects.colour:  # only images are large; tables are not
        check_space(run, sum(coloured_bytes(read_labels(str(row["prediction"])).spatial_shape, len(colours)) for row in rows))
    yield from logged(below("evaluate", _scored(rows, folder)), folder)


def _scored(rows: Sequence[Mapping[str, Any]], folder: RunFolder) -> Iterator[Event]:
    began = time.monotonic()
    job = load_job(folder.job_file)
    yield Started(len(rows), "image")
    final, before, plain = Scoring(job), Scoring(job), Baselines(job)
    discard(folder.path, "associations")
    for done, row in enumerate(rows, start=1):
        name, prediction, truth = row["name"], Path(row["prediction"]), truth_of(row)
        yield from final.add(name, prediction, truth, folder.associations / name)
        if final.method:  # known after the first image: it depends on the number of dimensions
            plain.add(name, final.method, row["raw"], truth)
        earlier = prediction.parent / "before" / prediction.name
        if earlier.exists():
            yield from before.add(name, earlier, truth, folder.associations / f"{name}_before")
        yield Progress(done, len(rows), "image", name)
    table = final.rows()
    # columns of before post-processing only if all images have them; a table has no holes
    earlier_rows = before.rows() if before.scores.keys() == final.scores.keys() else []
    for row, earlier_row in zip(table, earlier_rows):
        row |= {f"{key}_before": value for key, value in earlier_row.items() if key not in ("image", "threshold", "n_true")}
    write_table(folder.scores_file, columns_of(table))
    yield FileWritten(folder.scores_file, Artefact.SCORES)
    yield from _class_scores(final.class_rows(), folder)
    figures = pooled_figures(table)
    if final.method and plain.scores:
        baselines = plain.rows(final.method)
        write_table(
            folder.baselines_file, columns_of([{"method": name, **row} for name, baseline in baselines.items() for row in baseline])
        )
        yield FileWritten(folder.baselines_file, Artefact.BASELINES)
        yield from compare_with_baselines(
            job.method.kind, figures, {name: pooled_figures(baseline) for name, baseline in baselines.items()}
        )
    yield Logged("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    yield Finished(time.monotonic() - began, figures)


def _class_scores(rows: Sequence[Row], folder: RunFolder) -> Iterator[Event]:
    """Write the scores per class of objects, if there are classes."""
    if not rows:
        return
    write_table(folder.class_scores_file, columns_of(rows))
    yield FileWritten(folder.class_scores_file, Artefact.CLASS_SCORES)
    first = rows[0]["threshold"]
    pooled = [row for row in rows if row["image"] == "pooled" and row["threshold"] == first]
    yield Logged(f"F1@{first:g} by class: " + "  ".join(f"{row['class']} {row['f1']:.3f}" for row in pooled))


def truth_of(row: Mapping[str, str | None]) -> Truth:
    """Ground truth of an image of a run."""
    labels, classes, mask = (None if (file := row.get(name)) is None else Path(file) for name in ("truth", "classes", "mask"))
    return Truth(labels, classes, mask, time_of(row))  # type: ignore[arg-type]


class Scoring:
    """Scores of results against the truth, image by image."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.method: Method | None = None
        self.scores: dict[str, Score] = {}
        self.whole: dict[str, ImageScores] = {}
        self.confusion: dict[tuple[str, float], np.ndarray] = {}

    def add(self, name: str, file: Path, truth: Truth, associations: Path) -> Iterator[Event]:
        """Score one image; for objects, write which are found, missed and false at every threshold of the job."""
        with collected():  # the prediction has reported invalid metadata of these files
            result = read_labels(file)
            labels, classes, unlabelled = open_truth(truth, result, self.job.images.of(self.job.images.test))
        self.method = self.method or method_of(self.job, result)
        true, predicted = labelled_only(np.asarray(labels), np.asarray(result), unlabelled)
        self.scores[name] = self.method.score(true, predicted)
        if not self.method.instances:
            return
        self.whole[name] = ImageScores.of(true, predicted)
        predicted_classes = class_image_path(file)
        if classes is not None and predicted_classes.is_file():
            both = (true, np.asarray(classes)), (predicted, np.asarray(read_labels(predicted_classes)))
            options = self.method.object_classes
            assert options is not None  # the class image was written by this method
            self.confusion |= {
                (name, score.threshold): class_confusion(*both, options.number, threshold=score.threshold, ignore=options.ignore)
                for score in self.scores[name]
            }
        coloured = self.job.objects.colour
        for threshold in sorted({*coloured, *(score.threshold for score in self.scores[name])}):
            yield from _associations(associations, true, predicted, threshold, colour=threshold in coloured, of=result)

    def class_rows(self) -> list[Row]:
        """One row per image, threshold and class, then the pooled rows; no rows without classes."""
        options = self.method.object_classes if self.method else None
        if options is None:
            return []
        tables = self._confusions()
        return [
            {"image": name, "threshold": threshold, **row}
            for (name, threshold), table in tables.items()
            for row in class_scores(table, options.titles)
        ]

    def _confusions(self) -> dict[tuple[str, float], np.ndarray]:
        """Tables of true and predicted classes by image and threshold; the image ``pooled`` is the sum of all."""
        pooled: dict[tuple[str, float], np.ndarray] = {}
        for (_, threshold), table in self.confusion.items():
            pooled[("pooled", threshold)] = pooled.get(("pooled", threshold), 0) + table
        return self.confusion | pooled

    def rows(self) -> list[Row]:
        """Rows of the score table. Scores of a whole image are repeated in each of its rows."""
        rows = self.method.score_rows(self.scores) if self.method else []
        if not self.whole:
            return rows
        figures = {name: score.figures() for name, score in self.whole.items()}
        # pooled scores are of the sums over all images, not the mean of their scores: images with many objects count more
        figures["pooled"] = reduce(operator.add, self.whole.values()).figures()
        accuracies = {key: {"class_accuracy": class_accuracy(table)} for key, table in self._confusions().items()}
        return [row | accuracies.get((row["image"], row["threshold"]), {}) | figures.get(row["image"], {}) for row in rows]


def _associations(stem: Path, truth: np.ndarray, prediction: np.ndarray, threshold: float, *, colour: bool, of: Image) -> Iterator[Event]:
    """Write the tables of true and of false objects at one threshold, and with `colour` an image of them."""
    association = associate(truth, prediction, threshold)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind, table in (("gt_assoc", truth_table(association)), ("fp", false_table(association))):
        write_table(stem.with_name(f"{stem.name}_th_{threshold:g}_{kind}.csv"), table)
    if colour:
        place = stem.with_name(f"{stem.name}_th_{threshold:g}.tif")
        axes = f"C{of.axes.spatial_axes}"
        write(place, association_image(truth, prediction, association), axes=axes, voxel_size=of.voxel_size, overwrite=True)
        yield FileWritten(place, Artefact.ASSOCIATIONS)


def method_of(job: Job, image: Image) -> Method:
    """The method of a job, for images like this one."""
    return METHODS.load(job.method.kind)(job.method, job.objects, ndim=image.ndim_spatial, spacing=image.spacing)


def columns_of(rows: Sequence[Row]) -> dict[str, list[object]]:
    """Rows as columns.

    Examples:
        >>> columns_of([{"a": 1, "b": 2}, {"a": 3, "b": 4}])
        {'a': [1, 3], 'b': [2, 4]}
    """
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def pooled_figures(rows: Sequence[Row]) -> dict[str, float]:
    """The main scores of a table: F1 at each threshold, or IoU of each class.

    Examples:
        >>> pooled_figures([{"image": "pooled", "threshold": 0.5, "f1": 0.91}])
        {'F1@0.5': 0.91}
    """
    # which columns there are depends on the method: objects have thresholds, semantic results have classes
    pooled = [row for row in rows if row["image"] == "pooled"]
    named = {f"F1@{row['threshold']:g}": row["f1"] for row in pooled if "threshold" in row}
    named |= {f"class accuracy@{row['threshold']:g}": row["class_accuracy"] for row in pooled[:1] if "class_accuracy" in row}
    named |= {f"IoU {row['class']}": row["iou"] for row in pooled if "class" in row and not math.isnan(row["iou"])}
    return {name: float(value) for name, value in named.items()}
