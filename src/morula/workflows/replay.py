"""Run a job again as its record says, and compare the results object by object.

The run itself is only read. Its record (``provenance.json``) names the inputs with their checksums, the thread count and the memory for
tiles, on which the last digits of all figures depend. With the same record and the same machine every result is equal, byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from morula.core.atomic import atomic
from morula.core.errors import DataError, ModelError
from morula.core.events import Event, Warned, below
from morula.jobs.inputs import check_new_run
from morula.jobs.job import Job
from morula.jobs.load import load_job
from morula.jobs.provenance import checksum, circumstances, place_of
from morula.jobs.run_folder import RunFolder, damaged
from morula.jobs.tuning import changed
from morula.methods import METHODS
from morula.nn.weights import SIDECAR, WEIGHTS
from morula.report.build import write_report
from morula.workflows.calibrate import calibrate_into
from morula.workflows.differences import compare_runs
from morula.workflows.evaluate import evaluate_into
from morula.workflows.log import logged
from morula.workflows.predict import has_truth, predict_into
from morula.workflows.run_settings import RunSettings
from morula.workflows.train import train_into
from morula.workflows.training_parts import StopAfter, TrainingPart, stored_parts
from morula.workflows.tune import tune_into

_MOST_THREADS = 1024
"""More than any machine has; their stacks alone could end the process."""


def replay(run: str | Path, settings: RunSettings, *, fast: bool = False) -> Iterator[Event]:
    """Run the job of a run again in a new folder, and report what differs: weights, objects, tables, scores.

    Args:
        run: a run folder whose training has finished. It is only read.
        settings: the new run folder, ``RUN_replay`` by default, whether an earlier run in it is replaced, and the device.
        fast: take the stored weights, and repeat the prediction and the scores only.

    Yields:
        events; `Finished` is the last, with the numbers of ``objects`` and ``different objects``, of ``files`` and ``different files``,
        and the ``largest weight difference``.

    Raises:
        DataError: when inputs are missing or changed, or the run has no record.
        ModelError: when the stored weights are not those of the record.
        FileWriteError: when the new folder is not empty.
    """
    began = time.monotonic()
    source = RunFolder.existing(run)
    target = RunFolder(Path(settings.output) if settings.output is not None else source.path.with_name(f"{source.path.name}_replay"))
    made = _Replayed.of(source)
    check_new_run(target, made.job, source.path)  # the images too: predictions are written before anything else would look
    fast = fast or made.job.images.train is None  # weights of another program: there is no training to repeat
    made.record.check(fast=fast)
    with ExitStack() as held, made.record.same_threads():
        if fast:
            held.enter_context(target.new(overwrite=settings.overwrite))
            _copy_model(source, target)
        else:
            yield from made.train(target, held, settings)
        yield from logged(below("replay", made.record.changes()), target)
        yield from made.predict(target, device=settings.device)
        yield from logged(below("replay", compare_runs(source, target, began=began)), target)


@dataclass(frozen=True)
class Record:
    """What a run wrote down about its inputs and circumstances.

    Attributes:
        source: the run.
        entries: the content of ``provenance.json``.
    """

    source: RunFolder
    entries: Mapping[str, object]

    @classmethod
    def of(cls, source: RunFolder) -> Record:
        """The record of a run.

        Raises:
            DataError: when there is none.
            FileReadError: when it is damaged.
        """
        entries = source.read_provenance()
        if "inputs" not in entries and "predict" not in entries:
            rule = "has no record of its inputs (provenance.json), so it cannot be compared"
            raise DataError("replay.no_record", rule, file=source.path, remedy="Run the job again with `morula run`.")
        for key in ("inputs", "threads", "environment", "code", "predict"):
            if not isinstance(entries.get(key, {}), dict):
                raise damaged(source.provenance_file, f"{key} must be a mapping")
        record = cls(source, entries)
        if record.threads is not None and not (isinstance(record.threads, int) and 0 < record.threads <= _MOST_THREADS):
            raise damaged(source.provenance_file, f"threads.torch must be a number from 1 to {_MOST_THREADS}")
        return record

    @property
    def threads(self) -> object:
        """Number of threads of PyTorch, `None` where it was not recorded."""
        return (_mapping(self.entries, "threads") or _mapping(self.prediction, "threads")).get("torch")

    @property
    def prediction(self) -> Mapping[str, object]:
        """The record of the prediction, empty where nothing was predicted."""
        return _mapping(self.entries, "predict")

    @contextmanager
    def same_threads(self) -> Iterator[None]:
        """Compute with as many threads of PyTorch as the run, if they were recorded: sums in another order round differently."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads if isinstance(self.threads, int) else before)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def check(self, *, fast: bool) -> None:
        """The inputs are those of the record.

        Raises:
            DataError: naming the first files that are missing or changed.
            ModelError: when the stored weights have changed.
        """
        inputs = {**({} if fast else _mapping(self.entries, "inputs")), **_mapping(self.prediction, "inputs")}
        missing = [name for name in inputs if not place_of(name).exists()]
        if missing:
            rule = f"{len(missing)} of {len(inputs)} inputs do not exist, the first is {missing[0]}"
            raise DataError("replay.inputs_missing", rule, file=self.source.path, remedy="Copy them back to where they were.")
        other = [name for name, digest in inputs.items() if checksum(place_of(name)) != digest]
        if other:
            rule = f"{len(other)} of {len(inputs)} inputs have changed since the run, the first is {other[0]}"
            raise DataError("replay.inputs_changed", rule, file=self.source.path, remedy="Restore the original files.")
        weights = self.entries.get("weights", self.prediction.get("weights"))
        if weights is not None and checksum(self.source.model / WEIGHTS) != weights:
            rule = "are not the weights that the record of the run names"
            raise ModelError("replay.weights_changed", rule, file=self.source.model / WEIGHTS, remedy="Restore the original file.")

    def changes(self) -> Iterator[Event]:
        """Warnings of differences of code, packages and machine between the record and this process: any of them may change last digits."""
        now = circumstances()
        for section in ("code", "environment"):
            before, after = _mapping(self.entries, section), now[section]
            assert isinstance(after, dict)
            for key, value in before.items():
                if key != "commit" and after.get(key) != value:
                    text = f"{section} {key} differs from that of the run: {value} then, {after.get(key)} now; results may differ"
                    yield Warned("replay.other_circumstances", text)


@dataclass(frozen=True)
class _Replayed:
    """A run with its job as it was trained, and its record."""

    source: RunFolder
    job: Job
    record: Record

    @classmethod
    def of(cls, source: RunFolder) -> _Replayed:
        if not (source.model / SIDECAR).is_file():
            rule, remedy = "has no model: the training is not finished", f"Finish it with `morula run ... --resume`, in {source.path}."
            raise DataError("replay.not_finished", rule, file=source.path, remedy=remedy)
        record = Record.of(source)
        return cls(source, load_job(source.job_file), record)

    def train(self, target: RunFolder, held: ExitStack, settings: RunSettings) -> Iterator[Event]:
        """Train, and tune or calibrate if the run was."""
        tuned = self.job.objects.tuned
        job = self.job if tuned is None else changed(self.job, tuned.before)
        document = job.model_dump(mode="json", by_alias=True)
        device = settings.device
        parts = stored_parts(self.source)
        for number, part in enumerate(parts):
            stop = StopAfter(part.until)
            chosen = replace(settings, overrides=part.overrides, stop=stop.reached)
            with ExitStack() as of_part:
                yield from stop.read(
                    train_into(target, of_part, document, chosen if number == 0 else replace(chosen, resume=True, overwrite=False))
                )
        rest = replace(settings, overrides=TrainingPart.of(job).overrides, resume=True, overwrite=False) if parts else settings
        yield from train_into(target, held, document, rest)
        if tuned is not None:
            yield from tune_into(target, metric=tuned.metric, thresholds=tuned.thresholds or None, device=device, memory=self.memory)
        elif job.objects.calibration is not None:
            yield from calibrate_into(target, device=device, memory=self.memory)

    @property
    def memory(self) -> str | None:
        """Memory for tiles, as in the run."""
        stated = self.record.prediction.get("memory")
        return None if stated is None else str(stated)

    def predict(self, target: RunFolder, *, device: str) -> Iterator[Event]:
        """Predict, score and report as far as the run did."""
        if self.job.images.test is None or not (self.source.images_file.is_file() or self.source.scores_file.is_file()):
            return
        yield from predict_into(target, device=device, memory=self.memory)
        restores = METHODS.load(self.job.method.kind).restores
        if self.source.scores_file.is_file() and has_truth(target) and not restores:
            yield from evaluate_into(target)
        if self.source.report_file.is_file():
            write_report(target.path)


def _mapping(record: Mapping[str, object], key: str) -> dict[str, object]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _copy_model(source: RunFolder, target: RunFolder) -> None:
    """Job and model of a run, written as files of the new run."""
    target.model.mkdir()
    files = [source.job_file, *(file for file in sorted(source.model.iterdir()) if file.is_file())]
    for file in files:
        with atomic(target.path / file.relative_to(source.path)) as part:
            part.write_bytes(file.read_bytes())
