"""Reading and checking of a job file of pytorch-3dunet: all problems and all keys without effect at once, with their lines."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

from pydantic import ValidationError

from morula.core.errors import JobError, MorulaError, Problem
from morula.core.options import CORRECT, problem_of
from morula.dialects.pytorch3dunet.conflicts import prediction_conflicts, training_conflicts, training_warnings
from morula.dialects.pytorch3dunet.keys import Section, Table
from morula.dialects.pytorch3dunet.losses import LOSSES, LossOptions
from morula.dialects.pytorch3dunet.metrics import METRICS, MetricOptions
from morula.dialects.pytorch3dunet.networks import NETWORKS, NetworkOptions
from morula.dialects.pytorch3dunet.optimisers import OptimizerOptions, optimizer_options, schedule_problems
from morula.dialects.pytorch3dunet.sections import (
    LoadersOptions,
    PhaseName,
    PhaseOptions,
    PlainOptions,
    PredictorOptions,
    TrainerOptions,
)
from morula.dialects.pytorch3dunet.transform_lists import TRANSFORMS, differences, parse_lists
from morula.jobs.yaml_lines import Document, Place, read_documents

Purpose = Literal["train", "predict"]
Kind = TypeVar("Kind", bound=Section)
SECTIONS = ("model", "loss", "optimizer", "eval_metric", "lr_scheduler", "loaders", "trainer", "predictor")
_NEEDED: dict[Purpose, tuple[str, ...]] = {
    "train": ("model", "loss", "optimizer", "loaders", "trainer"),
    "predict": ("model", "loaders"),
}


@dataclass(frozen=True, eq=False)
class Learning:
    """The sections of a job that trains."""

    trainer: TrainerOptions
    train: PhaseOptions
    val: PhaseOptions
    loss: LossOptions
    metric: MetricOptions
    optimizer: OptimizerOptions


@dataclass(frozen=True, eq=False)
class Job:
    """A checked job.

    Attributes:
        config: the document with its overrides.
        model: the section ``model``.
        loaders: the section ``loaders``.
        learning: the sections that only a job that trains has.
        predictor: the section ``predictor``.
        plain: keys outside the sections.
        remarks: keys without effect, each with what happens instead, and warnings.
        path: the file.
    """

    config: dict[str, Any]
    model: NetworkOptions
    loaders: LoadersOptions
    learning: Learning | None
    predictor: PredictorOptions
    plain: PlainOptions
    remarks: tuple[Problem, ...]
    path: Path

    @property
    def weighted(self) -> bool:
        """Whether voxels have weights in the training: the loss needs them, or they are named and have a list of transforms."""
        learning, named = self.learning, self.loaders.weight_internal_path is not None
        return learning is not None and (learning.loss.needs_weight or (named and bool(learning.train.transformer.weight)))


@dataclass
class _Reader:
    """Collects all problems and remarks, so that the user sees them at once."""

    document: Document
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)

    def at(self, place: Place, rule: str, code: str, remedy: str = "") -> Problem:
        return Problem(".".join(map(str, place)), rule, self.document.line(place), self.document.file, code, remedy=remedy)

    def with_line(self, problem: Problem) -> Problem:
        place = tuple(int(part) if part.isdigit() else part for part in problem.key.split("."))
        return replace(problem, line=self.document.line(place), file=self.document.file)

    def reject(self, place: Place, rule: str, code: str, remedy: str = "") -> None:
        self.problems.append(self.at(place, rule, code, remedy or CORRECT))

    def is_mapping(self, values: object, place: Place) -> TypeGuard[Mapping[str, object]]:
        if not isinstance(values, Mapping):
            self.reject(place, f"must be a mapping of keys, not {values!r}", "job.not_a_mapping")
        return isinstance(values, Mapping)

    def kind_of(self, values: Mapping[str, object], known: Table[Kind], place: Place, default: str | None = None) -> type[Kind] | None:
        """The section that the name chooses, where it is a known one."""
        name = values.get("name", default)
        if isinstance(name, str) and name in known:
            return known[name]
        rule = "is missing" if name is None else f"{name!r} is unknown"
        remedy = "" if name is None else known.nearest(str(name))
        self.reject((*place, "name"), f"{rule}; must be one of {', '.join(known)}", "job.unknown_name", remedy)
        return None

    def named(self, values: object, known: Table[Kind], place: Place, default: str | None = None) -> Kind | None:
        """The values of the section that its name chooses; `None` where it is missing or there are problems."""
        if values is None or not self.is_mapping(values, place):
            return None
        return self.section(self.kind_of(values, known, place, default), values, place)

    def section(self, kind: type[Kind] | None, values: object, place: Place) -> Kind | None:
        """The values of a section; `None` where there are problems."""
        if kind is None or not self.is_mapping(values, place):
            return None
        try:
            return kind.model_validate(self.known(kind, values, place))
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                # pydantic adds the name of the class where a value may be of several classes
                inner = tuple(part for part in detail["loc"] if not str(part).endswith("Options"))
                self.problems.append(self.with_line(problem_of(detail, ".".join(map(str, (*place, *inner))))))
            return None

    def known(self, kind: type[Section], values: Mapping[str, object], place: Place) -> dict[str, object]:
        """The keys that are read, here and in inner sections; the others become remarks, or problems where the original fails at them."""
        ignored, inner = kind.ignored(values), dict(kind.inner())
        for key, reason in ignored.items():
            if kind.strict:
                self.reject((*place, key), "is unknown, and the original fails at it", "job.unknown_key", reason[0].upper() + reason[1:])
            else:
                self.remarks.append(self.at((*place, key), f"is ignored, as in the original: {reason.rstrip('.')}", "job.ignored_key"))
        found: dict[str, object] = {}
        for key, value in values.items():
            if key in inner and isinstance(value, Mapping):
                found[key] = self.known(inner[key], value, (*place, key))
            elif key not in ignored:
                found[key] = value
        return found


def purpose_of(path: str | Path) -> Purpose:
    """Whether a job file trains or predicts: those that train have a section ``trainer``.

    Raises:
        MissingFileError: when there is no such file.
    """
    return "train" if "trainer" in read_documents(path)[0].data else "predict"


def read_job(path: str | Path, purpose: Purpose = "train", *, overrides: Mapping[str, object] | None = None) -> Job:
    """Read and check a job file of pytorch-3dunet. As in the original, paths in it are relative to the current folder.

    Args:
        path: the YAML file.
        purpose: whether to train or to predict.
        overrides: values by dotted key, such as ``loaders.output_dir``, which replace those of the file.

    Raises:
        MissingFileError: when there is no such file.
        JobError: with all problems at once, each with line, key, rule and remedy.
    """
    documents = read_documents(path)
    document = documents[0]
    reader = _Reader(document)
    if len(documents) != 1 or not isinstance(document.data, dict):
        raise JobError([Problem("", "must be one mapping with model, loaders, ...", 1, document.file, code="job.not_a_mapping")])
    config = copy.deepcopy(document.data)
    for key, value in (overrides or {}).items():
        _override(config, key, value, reader)
    # sections that are missing are reported with all other problems, so reading continues
    for key in _NEEDED[purpose]:
        if config.get(key) is None:
            reader.reject((key,), "is missing", "job.missing_key")
    plain = reader.section(PlainOptions, {key: config[key] for key in config if key not in SECTIONS}, ())
    loaders = None if config.get("loaders") is None else reader.section(LoadersOptions, config["loaders"], ("loaders",))
    if loaders is not None:
        _transforms(reader, loaders, purpose)
    model = reader.named(config.get("model"), NETWORKS, ("model",))
    learning = _learning(reader, config, loaders, model) if purpose == "train" else None
    predictor = _predictor(reader, config, plain) if purpose == "predict" else PredictorOptions()
    if purpose == "predict" and model is not None and predictor is not None and loaders is not None:
        reader.problems += map(reader.with_line, prediction_conflicts(predictor, loaders, model))
    if reader.problems:
        raise JobError(_by_line(reader.problems))
    assert plain is not None
    assert model is not None
    assert loaders is not None
    assert predictor is not None
    return Job(config, model, loaders, learning, predictor, plain, tuple(_by_line(reader.remarks)), Path(path))


def _learning(reader: _Reader, config: Mapping[str, Any], loaders: LoadersOptions | None, model: NetworkOptions | None) -> Learning | None:
    """The sections of a job that trains; `None` where one of them is missing or wrong."""
    trainer = None if config.get("trainer") is None else reader.section(TrainerOptions, config["trainer"], ("trainer",))
    loss = reader.named(config.get("loss"), LOSSES, ("loss",))
    # the original scores with MeanIoU where no metric is named
    metric = reader.named({} if config.get("eval_metric") is None else config["eval_metric"], METRICS, ("eval_metric",), default="MeanIoU")
    optimizer = None
    try:
        if isinstance(config.get("optimizer"), Mapping):
            optimizer = reader.section(optimizer_options(config["optimizer"]), config["optimizer"], ("optimizer",))
        elif config.get("optimizer") is not None:
            reader.is_mapping(config["optimizer"], ("optimizer",))
    except MorulaError as error:
        reader.problems.append(reader.with_line(Problem.of(error)))
    _schedule(reader, config)
    if model is not None and loss is not None:
        reader.problems += map(reader.with_line, training_conflicts(model, loss, loaders))
        reader.remarks += map(reader.with_line, training_warnings(model, loss))
    if loaders is None or None in (trainer, loaders.train, loaders.val, loss, metric, optimizer):
        return None
    return Learning(trainer, loaders.train, loaders.val, loss, metric, optimizer)  # type: ignore[arg-type]  # none is None


def _by_line(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.line or 0)


def _override(config: dict[str, Any], key: str, value: object, reader: _Reader) -> None:
    *parents, last = key.split(".")
    section: object = config
    for parent in parents:
        section = section.get(parent) if isinstance(section, dict) else None
    if isinstance(section, dict):
        section[last] = value
    else:
        rule = f"was given, but the file has no section {'.'.join(parents)}"
        reader.problems.append(Problem(key, rule, code="job.no_section", remedy="Write the section first."))


def _predictor(reader: _Reader, config: Mapping[str, Any], plain: PlainOptions | None) -> PredictorOptions | None:
    """The section; a checkpoint is needed, too."""
    if plain is not None and plain.model_path is None:
        reader.reject(("model_path",), "is missing", "job.missing_key", "Name the checkpoint to predict with.")
    return reader.section(PredictorOptions, config.get("predictor") or {}, ("predictor",))


def _schedule(reader: _Reader, config: Mapping[str, Any]) -> None:
    schedule = config.get("lr_scheduler")
    if schedule and reader.is_mapping(schedule, ("lr_scheduler",)):
        reader.problems += [reader.at(("lr_scheduler", key), rule, "schedule.arguments") for key, rule in schedule_problems(schedule)]
        # many published job files have this argument, which torch has removed
        if "verbose" in schedule:
            rule = "is ignored: torch has no such argument any more, so the original fails at it"
            reader.remarks.append(reader.at(("lr_scheduler", "verbose"), rule, "job.ignored_key"))


def _transforms(reader: _Reader, loaders: LoadersOptions, purpose: Purpose) -> None:
    """The phases that are used, and names and options of all their transforms."""
    phases: tuple[PhaseName, ...] = ("train", "val") if purpose == "train" else ("test",)
    for name in phases:
        phase = loaders.phase(name)
        if phase is None:
            reader.reject(("loaders", name), "is missing", "job.missing_key", "Name its file_paths.")
            continue
        place = ("loaders", name, "transformer")
        before = len(reader.problems)
        for part in ("raw", "label", "weight"):
            for number, entry in enumerate(getattr(phase.transformer, part)):
                _transform(reader, entry, (*place, part, number), part)
        if len(reader.problems) == before:
            lists = parse_lists(phase.transformer)
            named = any(not isinstance(file, str) and file.weight for file in phase.file_paths)
            weighted = named or loaders.weight_internal_path is not None
            found = differences(lists if weighted else lists._replace(weight=()))
            reader.remarks += [reader.at(place, rule, "transform.lists_differ") for rule in found]
            random = [transform.name for transform in lists.raw if name == "val" and transform.augmentation() is not None]
            rule = "changes validation patches at random and is not applied. Leave it out"
            reader.remarks += [reader.at((*place, "raw"), f"{each} {rule}.", "transform.random_validation") for each in random]


def _transform(reader: _Reader, entry: Mapping[str, Any], place: Place, part: str) -> None:
    kind = reader.kind_of(entry, TRANSFORMS, place)
    if kind is not None and kind.role == "labels" and part == "raw":
        reader.reject(place, f"{entry['name']} makes targets from labels", "transform.wrong_list", "Move it to the list label.")
        return
    reader.section(kind, entry, place)
