"""Tune the settings of the decoder on the validation images, and write the best ones into the run.

The search is coordinate ascent: one setting after another takes the value with the best score, while the others keep theirs. Channels are
predicted once; every trial only decodes and scores them, so hundreds of settings take minutes.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from morula.core.atomic import atomic
from morula.core.errors import DataError, MorulaError, OptionError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, below
from morula.core.family import did_you_mean
from morula.core.manifest import discard
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import check_space
from morula.data.patches import Source
from morula.jobs.job import Job
from morula.jobs.run_folder import RunFolder, damaged, read_json
from morula.jobs.tuning import changed
from morula.labels.on_grid import nearest
from morula.labels.partial_labels import labelled_only
from morula.measurement.csv_table import read_table, write_table
from morula.methods import METHODS
from morula.methods.base import Method
from morula.methods.object_options import Tuned
from morula.methods.scoring import Row
from morula.models.load import load
from morula.models.model import Model
from morula.models.scale import Fitted
from morula.nn.weights import update_sidecar
from morula.workflows.calibrate import calibrate, wanted
from morula.workflows.log import logged
from morula.workflows.prepare import validation_labels, validation_parts
from morula.workflows.run_results import report_again
from morula.workflows.stream import events_of

if TYPE_CHECKING:
    from morula.decoders.statistics import ChannelStatistics

GAIN = 5e-4
"""Smaller gains are noise: the current value is kept."""
ROUNDS = 4
"""Most passes over all settings."""

Setting: TypeAlias = dict[str, object]
"""Values by key of the job."""
Space: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Values to try by key of the job, the present one first."""


@events_of("morula.tune")
@with_named_os_errors
def tune(
    run: str | Path,
    *,
    metric: str | None = None,
    thresholds: Sequence[float] | None = None,
    device: str = "auto",
    memory: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Tune thresholds and post-processing on the validation images of a run, and write the best settings into the run.

    The images are predicted once. For each setting, every value of the search space of the decoder is tried while the other settings
    stay; then the neighbours of the best values, until the score does not improve any more. `job.yaml` and `model/model.json` of the run
    are rewritten with the best settings and, under `objects.tuned`, the settings and scores before and after. The job file of the user
    is not changed, and test images are not used. Each trial is stored in `tuning/trials.csv`, from which a stopped search continues.

    Args:
        run: a run folder whose training has finished.
        metric: the score to maximise, as in `objects.tune.metric`; by default as the job says.
        thresholds: IoU thresholds over which the score is averaged; by default as the job says.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for tiles in prediction, for example ``"8GB"``.
        stop: called after every trial; when it returns true, the search ends and only the table of trials is written.

    Yields:
        events; the last one is `Finished` with the score before and after, unless the search was stopped.

    Raises:
        MissingFileError: when the run has no model.
        DataError: when the run has no validation images, some have no labels, or the method has no settings to tune.
        OptionError: for an unknown metric, or a threshold that is not between 0 and 1.

    Examples:
        >>> import morula
        >>> for event in morula.tune("runs/nuclei"):  # doctest: +SKIP
        ...     print(event)
    """
    folder = RunFolder.existing(run)
    with folder.in_use():
        yield from tune_into(folder, metric=metric, thresholds=thresholds, device=device, memory=memory, stop=stop)


def tune_into(
    folder: RunFolder,
    *,
    metric: str | None = None,
    thresholds: Sequence[float] | None = None,
    device: str = "auto",
    memory: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Tune as `tune` does, in a run folder whose lock is held."""
    run = folder.path
    model = load(run)
    parts = validation_parts(model)
    sources = [source for source, _ in parts]
    if not sources:
        rule = "the run was trained without validation images, so nothing can be tuned"
        remedy = "State images.validate in the job, for example 10%, and train again."
        raise DataError("tune.no_validation", rule, key="images.validate", file=run, remedy=remedy)
    unlabelled = [source.title for source in sources if source.labels is None]
    if unlabelled:
        rule = f"{len(unlabelled)} of {len(sources)} validation images have no labels, the first is {unlabelled[0]}"
        remedy = "Name labels in images.validate of the job, and train again."
        raise DataError("tune.no_labels", rule, key="images.validate", file=run, remedy=remedy)
    search = _Search(model, sources, [fitted for _, fitted in parts], folder, Goal.of(model, metric, thresholds), stop=stop)
    yield from logged(below("tune", search.run(device=device, memory=memory)), folder)


@dataclass(frozen=True)
class Goal:
    """The score to maximise: a column of the score table, averaged over thresholds (empty: over all rows)."""

    metric: str
    thresholds: tuple[float, ...] = ()

    @classmethod
    def of(cls, model: Model, metric: str | None, thresholds: Sequence[float] | None) -> Goal:
        """As given, else as the job says, else the default of the method.

        Raises:
            OptionError: for an unknown metric, or thresholds with a method that has none.
        """
        known, stated = model.method.figures, model.job.objects.tune
        metric = metric or getattr(stated, "metric", None) or known[0]
        if metric not in known:
            rule = f"is not a score of the method {model.job.method.kind}, which has {', '.join(known)}"
            raise OptionError("tune.unknown_metric", rule, key="metric", value=metric, remedy=did_you_mean(metric, list(known)).strip())
        own = model.job.method.matching_thresholds
        chosen = tuple(thresholds or getattr(stated, "thresholds", None) or own)
        invalid = [threshold for threshold in chosen if not 0 < threshold <= 1]
        if invalid:
            raise OptionError("tune.threshold", "must be above 0 and at most 1", key="threshold", value=invalid[0])
        if chosen and not own:
            rule = f"has no effect: the scores of {model.job.method.kind} have no IoU threshold"
            raise OptionError("tune.threshold_without_objects", rule, key="threshold", value=chosen[0], remedy="Leave it out.")
        return cls(metric, chosen)

    def figure(self, rows: Sequence[Row]) -> float:
        """The score in a score table, pooled over all images; 0 if there is nothing to score."""
        pooled = [row for row in rows if row["image"] == "pooled" and row.get("class") != "mean"]
        values = [float(row[self.metric]) for row in pooled if not math.isnan(row[self.metric])]
        return sum(values) / len(values) if values else 0.0

    def words(self) -> str:
        """Name and thresholds."""
        return f"{self.metric}{' at ' + ', '.join(f'{threshold:g}' for threshold in self.thresholds) if self.thresholds else ''}"


@dataclass(eq=False)
class _Search:
    """One search with its trials so far."""

    model: Model
    sources: Sequence[Source]
    fitted: Sequence[Fitted]
    folder: RunFolder
    goal: Goal
    stop: Callable[[], bool]
    tried: dict[str, float] = field(default_factory=dict)
    truths: list[np.ndarray] = field(default_factory=list)

    @property
    def trials_file(self) -> Path:
        return self.folder.tuning / "trials.csv"

    @property
    def search_file(self) -> Path:
        return self.folder.tuning / "search.json"

    def _channels_file(self, number: int) -> Path:
        return self.folder.tuning / "predictions" / f"{number}.npy"

    def run(self, *, device: str, memory: str | None) -> Iterator[Event]:
        """Predict, search, write."""
        began = time.monotonic()
        # a tuned run is searched again from its settings before the tuning, so that a repeated search gives the same result
        former = self.model.job.objects.tuned
        job = self.model.job if former is None else changed(self.model.job, former.before)
        # a calibration is valid only for the settings that it was fitted with
        job = changed(job, {"objects.calibration": None})
        self.truths = [validation_labels(source) for source in self.sources]
        known = [labelled_only(truth, truth, source.unlabelled)[0] for truth, source in zip(self.truths, self.sources, strict=True)]
        space = self._method(job).search_space([nearest(truth, shape) for truth, shape in zip(known, self._shapes, strict=True)])
        steps = sum(len(values) - 1 for values in space.values())
        if not steps:  # before the prediction, which may take hours
            rule = f"the method {job.method.kind} has no setting that can be tuned after training"
            raise DataError("tune.nothing_to_tune", rule, file=self.folder.path)
        self._check_space()
        plan = self._plan()
        continued = self._continues(plan)  # before the first event: a search that is refused changes nothing, logs included
        yield Started(steps + 1, "setting", f"{self.goal.words()} on {len(self.sources)} validation images")
        if not continued:
            self._begin(plan)
        predictions = yield from self._predicted(device, memory)
        result = yield from self._searched(job, space, predictions, steps + 1)
        if result is None:
            yield Logged(f"stopped after {len(self.tried)} settings; `morula tune {self.folder.path}` continues the search")
            return
        first, best = result
        tuned = yield from self._written(job, space, first, best)
        model = replace(self.model, job=tuned, method=self._method(tuned))
        if wanted(model):
            yield from calibrate(self.folder, model, self.sources, self.fitted, self._stored)
        discard(self.folder.path, "tuning/predictions")
        if self.folder.stale_file.is_file():  # the report says so from now on
            yield from report_again(self.folder)
        figures = {f"{self.goal.metric} before": self.tried[_key(first)], self.goal.metric: self.tried[_key(best)]}
        yield Finished(time.monotonic() - began, figures)

    def _check_space(self) -> None:
        missing = [shape for number, shape in enumerate(self._shapes) if not self._channels_file(number).is_file()]
        check_space(self.folder.tuning, 4 * len(self.model.method.channels) * sum(map(math.prod, missing)))

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        """Shapes (Z)YX on which the objects of the images are decoded."""
        return [fitted.decoded.spatial_shape for fitted in self.fitted]

    def _method(self, job: Job) -> Method:
        model = self.model
        options = job.method.model_copy(update={"thresholds": self.goal.thresholds}) if self.goal.thresholds else job.method
        return METHODS.load(job.method.kind)(options, job.objects, ndim=model.ndim, spacing=model.method.spacing)

    def _plan(self) -> dict[str, object]:
        """What the trials of a search depend on."""
        return {
            "weights": read_json(self.folder.model / "model.json", dict)["weights"]["sha256"],
            "images": [[source.title, *source.extent.start, *source.extent.stop] for source in self.sources],
            "labels": [zlib.crc32(np.ascontiguousarray(truth).data) for truth in self.truths],
            "metric": self.goal.metric,
            "thresholds": list(self.goal.thresholds),
        }

    def _continues(self, plan: dict[str, object]) -> bool:
        """Load the trials of a stopped search, if there is one of the same plan.

        Raises:
            FileReadError: when a file of that search is damaged.
        """
        if not self.search_file.is_file() or read_json(self.search_file, dict) != plan:
            return False
        self.tried = self._trials()
        for number, shape in enumerate(self._shapes):
            if self._channels_file(number).is_file():
                _channels_of(self._channels_file(number), shape)
        return True

    def _begin(self, plan: dict[str, object]) -> None:
        """Remove what another search left, and record the plan of this one."""
        discard(self.folder.path, "tuning")
        for stale in (self.folder.tuning / "predictions").glob("[0-9]*.npy"):  # of a run without manifest; they would be used again
            stale.unlink()
        self.folder.tuning.mkdir(parents=True, exist_ok=True)
        with atomic(self.search_file) as part:
            part.write_text(json.dumps(plan, indent=1), encoding="utf-8")

    def _trials(self) -> dict[str, float]:
        """The trials of a stopped search.

        Raises:
            FileReadError: when their table is damaged.
        """
        if not self.trials_file.is_file():
            return {}
        try:
            table = read_table(self.trials_file)
            return {str(key): float(figure) for key, figure in zip(table["setting"], table["figure"], strict=True)}
        except (MorulaError, OSError, LookupError, TypeError, ValueError) as error:
            raise damaged(self.trials_file, f"it is not a table of trials ({type(error).__name__})") from error

    def _predicted(self, device: str, memory: str | None) -> Generator[Event, None, list[tuple[np.ndarray, ChannelStatistics]]]:
        """Predicted channels of each image, stored in files, with their statistics."""
        self._channels_file(0).parent.mkdir(parents=True, exist_ok=True)
        predictions = []
        for number, source in enumerate(self.sources):
            file = self._channels_file(number)
            if not file.is_file():
                fitted = self.fitted[number]
                prediction = yield from below(source.title, self.model.predict_steps(fitted.image, device=device, memory=memory))
                settled, _ = self.model.settled(fitted.channels(prediction), fitted.decoded)
                with atomic(file) as part, part.open("wb") as stream:
                    np.save(stream, settled)
            values = _channels_of(file, self._shapes[number])
            predictions.append((values, self.model.method.statistics(values)))
        return predictions

    def _stored(self, number: int) -> Generator[Event, None, np.ndarray]:
        """The predicted channels of an image again."""
        yield from ()
        return np.load(self._channels_file(number), mmap_mode="c")

    def _searched(
        self, job: Job, space: Space, predictions: Sequence[tuple[np.ndarray, ChannelStatistics]], total: int
    ) -> Generator[Event, None, tuple[Setting, Setting] | None]:
        """The initial and the best setting; `None` if the search was stopped."""
        first = {key: values[0] for key, values in space.items()}
        best, score = first, self._figure(job, first, predictions)
        yield Logged(f"{self.goal.words()} before: {score:.4f}")
        done = 1
        # the first pass tries all values of a setting, later ones only the neighbours: the best values move little
        for turn in range(ROUNDS):
            before = score
            for key, values in space.items():
                for value in values if turn == 0 else neighbours(values, best[key]):
                    if value == best[key]:
                        continue
                    if self.stop():
                        return None
                    setting = {**best, key: value}
                    figure = self._figure(job, setting, predictions)
                    done += 1
                    if figure > score + GAIN:
                        yield Logged(f"{key} {_shown(value)}: {self.goal.metric} {score:.4f} -> {figure:.4f}")
                        best, score = setting, figure
                    yield Progress(done, max(total, done), "setting", f"{self.goal.metric} {score:.4f}")
            if score <= before:
                break
        return first, best

    def _figure(self, job: Job, setting: Setting, predictions: Sequence[tuple[np.ndarray, ChannelStatistics]]) -> float:
        """The score of a setting; that of an earlier trial is looked up."""
        key = _key(setting)
        if key not in self.tried:
            tuned = changed(job, setting)
            method, scores = self._method(tuned), {}
            for number, (truth, (values, statistics)) in enumerate(zip(self.truths, predictions, strict=True)):
                fitted, source = self.fitted[number], self.sources[number]
                objects = fitted.objects(method.decode(np.asarray(values), method.fit(statistics)))
                labels = objects.labels
                if tuned.objects.filter:  # filters need measurements, which are slow, so they are made only then
                    filtering = replace(self.model, job=_with_measures_of_filters(tuned))
                    labels = filtering.measured(objects, fitted.original)[0]
                scores[str(number)] = method.score(*labelled_only(truth, labels, source.unlabelled))
            # written after each trial, so that a stopped search continues
            self.tried[key] = self.goal.figure(method.score_rows(scores))
            write_table(self.trials_file, {"figure": list(self.tried.values()), "setting": list(self.tried)})
        return self.tried[key]

    def _written(self, job: Job, space: Space, first: Setting, best: Setting) -> Generator[Event, None, Job]:
        """Write the best setting into `job.yaml` and `model.json`; return the job with it."""
        changes = [key for key in space if best[key] != first[key]]
        record = Tuned(
            metric=self.goal.metric,
            thresholds=self.goal.thresholds,
            images=len(self.sources),
            trials=len(self.tried),
            score_before=self.tried[_key(first)],
            score_after=self.tried[_key(best)],
            before={key: first[key] for key in changes},
            after={key: best[key] for key in changes},
        )
        tuned = changed(job, {**(best if changes else {}), "objects.tuned": record.model_dump(mode="json")})
        yield FileWritten(self.folder.write_job(tuned), Artefact.JOB, "job with the tuned settings")
        sidecar = update_sidecar(self.folder.model, job=tuned.model_dump(mode="json", by_alias=True))
        yield FileWritten(sidecar, Artefact.MODEL, "model with the tuned settings")
        for key in changes:
            yield Logged(f"tuned {key}: {_shown(first[key])} -> {_shown(best[key])}")
        if not changes:
            yield Logged("no other setting scored higher, so the settings stay")
        if changes and self.folder.mark_stale("the settings of the decoder were tuned after these objects were predicted"):
            yield Logged(f"the objects of this run are from before the tuning; run `morula predict {self.folder.path}` again")
        return tuned


def _channels_of(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Stored channels of an image of this shape, on the disk; settling may have left some of those of the network.

    Raises:
        FileReadError: when the file is damaged.
    """
    try:
        values = np.load(file, mmap_mode="c")  # copy on write: compiled kernels take writable arrays
    except (OSError, ValueError, EOFError) as error:
        raise damaged(file, (str(error).splitlines() or [""])[0][:120]) from error
    if not isinstance(values, np.ndarray) or values.shape[1:] != shape:
        raise damaged(file, f"it does not hold channels of shape {shape}")
    return values


def neighbours(values: Sequence[object], current: object) -> list[int | float]:
    """The numbers next to the current one; none if the current value is not a number.

    Examples:
        >>> neighbours(("auto", 0.1, 0.2, 0.3, 0.4), 0.2), neighbours((True, False), True), neighbours((0.3, 0.1), 0.3)
        ([0.1, 0.3], [], [0.1])
    """
    numbers = sorted({value for value in (*values, current) if isinstance(value, int | float) and not isinstance(value, bool)})
    if isinstance(current, bool) or not isinstance(current, int | float):
        return []
    place = numbers.index(current)
    return numbers[max(0, place - 1) : place] + numbers[place + 1 : place + 2]


def _with_measures_of_filters(job: Job) -> Job:
    """The job without those extra measures that no filter uses: they are slow."""
    judged = [member.property for group in job.objects.filter for member in group]
    extra = tuple(name for name in job.objects.measure.extra if any(property_name.startswith(name) for property_name in judged))
    measured = job.objects.measure.model_copy(update={"extra": extra})
    return job.model_copy(update={"objects": job.objects.model_copy(update={"measure": measured})})


def _key(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True)


def _shown(value: object) -> str:
    """A value as in a job file.

    Examples:
        >>> _shown(None), _shown(0.5), _shown(True), _shown("Db")
        ('none', '0.5', 'true', 'Db')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
