"""After training: learn from the validation images how often objects are right, see `morula.measurement.calibration`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, below
from morula.data.patches import Source
from morula.jobs.run_folder import RunFolder
from morula.jobs.tuning import changed
from morula.labels.partial_labels import labelled_only
from morula.measurement.calibration import FEWEST, Calibration, fit_calibration
from morula.measurement.evidence import evidence
from morula.measurement.measure import measured_columns
from morula.metrics.matching import associate
from morula.models.load import load
from morula.models.model import Model
from morula.models.scale import Fitted
from morula.nn.weights import update_sidecar
from morula.workflows.log import logged
from morula.workflows.prepare import validation_labels, validation_parts

ENOUGH = 2000
"""Objects after which no further validation image is predicted."""

Predicted = Callable[[int], Generator[Event, None, np.ndarray]]
"""Predicts the validation image of this number: the input of the decoder, K(Z)YX."""


def calibrate_into(folder: RunFolder, *, device: str, memory: str | None) -> Iterator[Event]:
    """Calibrate the confidences of a finished run whose lock is held, unless that was done, or the job or its data do not allow it."""
    model = load(folder.path)
    if model.job.objects.calibration is not None or not wanted(model):
        return
    parts = validation_parts(model)
    sources, fitted = [source for source, _ in parts], [image for _, image in parts]

    def predicted(number: int) -> Generator[Event, None, np.ndarray]:
        image = fitted[number]
        prediction = yield from below(sources[number].title, model.predict_steps(image.image, device=device, memory=memory))
        return model.settled(image.channels(prediction), image.decoded)[0]

    if not sources or any(source.labels is None for source in sources):
        return
    began = time.monotonic()
    yield from logged(below("calibrate", calibrate(folder, model, sources, fitted, predicted)), folder)
    yield from logged(below("calibrate", [Finished(time.monotonic() - began, {})]), folder)


def wanted(model: Model) -> bool:
    """Whether the job has confidences to calibrate."""
    method, job = model.method, model.job
    return job.objects.calibrate and job.images.train is not None and method.instances and not method.restores


def calibrate(
    folder: RunFolder, model: Model, sources: Sequence[Source], fitted: Sequence[Fitted], predicted: Predicted
) -> Iterator[Event]:
    """Fit the calibration to validation images with labels, and write it into `job.yaml` and `model.json`."""
    tables, right, total = [], [], 0
    for number, source in enumerate(sources):
        values = np.asarray((yield from predicted(number)))
        objects = fitted[number].objects(model.method.decode(values, model.method.fit(model.method.statistics(values))))
        if len(objects):
            surface = model.job.objects.measure.surface
            table = measured_columns(objects.labels, source.image.voxel_size, confidence=objects.confidence, surface=surface)
            tables.append({**table, **evidence(objects.labels, fitted[number].original, table)})
            right.append(_right(*labelled_only(validation_labels(source), objects.labels, source.unlabelled), tables[-1]["label"]))
            total += int(np.isfinite(right[-1]).sum())
        if total >= ENOUGH:
            break
    found = fit_calibration(tables, right)
    if found is None:
        yield Logged(f"the confidences of the decoder are kept: the validation images hold {total} objects, fewer than {FEWEST}")
        return
    yield from _written(folder, model, found)


def _right(truth: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """1 for each id that matches a true object, 0 for the others, NaN for those outside the annotated part."""
    found = associate(truth, labels)
    matched = found["predicted_id"][found["tag"] == "TP"]
    wrong = found["predicted_id"][found["tag"] == "FP"]
    return np.where(np.isin(ids, matched), 1.0, np.where(np.isin(ids, wrong), 0.0, np.nan))


def _written(folder: RunFolder, model: Model, found: Calibration) -> Iterator[Event]:
    job = changed(model.job, {"objects.calibration": found.model_dump(mode="json")})
    yield FileWritten(folder.write_job(job), Artefact.JOB, "job with calibrated confidences")
    yield FileWritten(update_sidecar(folder.model, job=job.model_dump(mode="json", by_alias=True)), Artefact.MODEL)
    share = found.right / found.objects
    yield Logged(f"confidences calibrated on {found.objects} objects of {found.images} validation images, {share:.0%} of them right")
