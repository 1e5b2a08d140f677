"""Reading and checking of a job file of pytorch-3dunet: all problems and all keys without effect at once, with their lines."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

from pydantic import NonNegativeInt, PositiveInt, ValidationError, model_validator

from morula.core.errors import JobError, MorulaError, OptionError, Problem
from morula.core.family import did_you_mean
from morula.core.options import Options, problem_of
from morula.dialects.pytorch3dunet.consistency import prediction_conflicts, training_conflicts, training_warnings
from morula.dialects.pytorch3dunet.ignored_keys import ignored_keys
from morula.dialects.pytorch3dunet.loaders import (
    DEAD_LOADERS,
    DEAD_SLICE_BUILDER,
    LoadersOptions,
    PhaseOptions,
    SliceBuilderOptions,
    TransformerOptions,
)
from morula.dialects.pytorch3dunet.optimisers import DEAD as DEAD_OPTIMIZER
from morula.dialects.pytorch3dunet.optimisers import optimizer_options, schedule_problems
from morula.dialects.pytorch3dunet.predictor import DEAD_PREDICTOR, PredictorOptions
from morula.dialects.pytorch3dunet.transforms import DEAD as DEAD_TRANSFORM
from morula.dialects.pytorch3dunet.transforms import TRANSFORMS, Lists, differences, parsed
from morula.jobs.yaml_lines import Document, Place, read_documents

Purpose = Literal["train", "predict"]
OVERRIDES = (
    "model_path",
    "loaders.output_dir",
    "loaders.test.file_paths",
    "loaders.test.slice_builder.patch_shape",
    "loaders.test.slice_builder.stride_shape",
)
"""Keys that are also command-line options of the same name."""


class FormatterOptions(Options):
    """The section ``trainer.tensorboard_formatter``."""

    skip_last_target: bool = False
    """Leave out the last channel of the target in the pictures."""
    log_channelwise: bool = False
    """Show each channel of a prediction instead of the class with the highest value."""


class TrainerOptions(Options):
    """The section ``trainer``."""

    checkpoint_dir: str
    """Folder of the checkpoints and the run folder."""
    max_num_epochs: PositiveInt
    """Maximum number of epochs."""
    max_num_iterations: PositiveInt
    """Maximum number of steps; exactly this many are taken unless the epochs end first."""
    validate_after_iters: PositiveInt = 200
    """Steps between validations; there is also one after the last step."""
    log_after_iters: PositiveInt = 100
    """Steps between entries of the training in TensorBoard."""
    validate_iters: PositiveInt | None = None
    """Batches per validation; all when left out."""
    eval_score_higher_is_better: bool = True
    """Whether a higher score is better."""
    skip_train_validation: bool = False
    """Do not compute the metric on training patches."""
    resume: str | None = None
    """Checkpoint to resume from."""
    pre_trained: str | None = None
    """Checkpoint with the weights to start from."""
    max_val_images: NonNegativeInt = 100
    """Maximum number of validation batches that are shown as pictures."""
    num_iterations: PositiveInt = 1
    """Number of the first step."""
    num_epoch: NonNegativeInt = 0
    """Number of the first epoch."""
    tensorboard_formatter: FormatterOptions = FormatterOptions()
    """How pictures are made."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision (not in the original): auto is bf16, or else fp16, on a CUDA GPU, bf16 on a CPU with AMX, and fp32 otherwise."""

    @model_validator(mode="after")
    def _one_start(self) -> TrainerOptions:
        if self.num_iterations > self.max_num_iterations:
            raise OptionError(
                "trainer.iterations",
                f"num_iterations is {self.num_iterations}, but max_num_iterations only {self.max_num_iterations}",
                remedy="Increase max_num_iterations.",
            )
        return self


class PlainOptions(Options):
    """Keys outside the sections."""

    device: Literal["cuda", "mps", "cpu"] | None = None
    """Kind of processor; the fastest one present when left out."""
    manual_seed: NonNegativeInt | None = None
    """Seed of all random numbers."""
    model_path: str | None = None
    """Checkpoint to predict with."""


SECTIONS = ("model", "loss", "optimizer", "eval_metric", "lr_scheduler", "loaders", "trainer", "predictor")
_NEEDED: dict[Purpose, tuple[str, ...]] = {
    "train": ("model", "loss", "optimizer", "loaders", "trainer"),
    "predict": ("model", "loaders"),
}
_DEAD_TRAINER = {
    "epochs": "only versions before 1.3 read it. Write max_num_epochs.",
    "iters": "only versions before 1.3 read it. Write max_num_iterations.",
    "max_patience": "no version since 1.3 reads it. Use lr_scheduler, or stop the training with Ctrl-C.",
}

Section = TypeVar("Section", bound=Options)


@dataclass(frozen=True, eq=False)
class Job:
    """A checked job.

    Attributes:
        config: the document with its overrides; `build_model`, `build_loss` and so on take its sections.
        loaders: the section ``loaders``.
        trainer: the section ``trainer`` of a job that trains.
        predictor: the section ``predictor``.
        plain: keys outside the sections.
        remarks: keys without effect, each with what happens instead, and warnings.
        path: the file.
    """

    config: dict[str, Any]
    loaders: LoadersOptions
    trainer: TrainerOptions | None
    predictor: PredictorOptions
    plain: PlainOptions
    remarks: tuple[Problem, ...]
    path: Path


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
        self.problems.append(self.at(place, rule, code, remedy))

    def is_mapping(self, values: object, place: Place) -> TypeGuard[Mapping[str, object]]:
        if not isinstance(values, Mapping):
            self.reject(place, f"must be a mapping of keys, not {values!r}", "job.not_a_mapping")
        return isinstance(values, Mapping)

    def name_of(self, values: Mapping[str, object], known: Iterable[str], place: Place) -> str | None:
        """The name in a section, where it is a known one."""
        name, names = values.get("name"), list(known)
        if name in names:
            return str(name)
        rule = "is missing" if name is None else f"{name!r} is unknown"
        remedy = "" if name is None else did_you_mean(str(name), names).strip()
        self.reject((*place, "name"), f"{rule}; must be one of {', '.join(names)}", "job.unknown_name", remedy)
        return None

    def options(
        self, kind: type[Section], values: object, place: Place, dead: Mapping[str, str], *, strict: bool = False
    ) -> Section | None:
        """Options of a section. Unknown keys become remarks; in a strict section they are problems."""
        if not self.is_mapping(values, place):
            return None
        known = self.without_dead(kind, values, place, dead, strict=strict)
        try:
            return kind.model_validate(known)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                # pydantic adds the name of the class where a value may be of several classes
                inner = tuple(part for part in detail["loc"] if not str(part).endswith("Options"))
                self.problems.append(self.with_line(problem_of(detail, ".".join(map(str, (*place, *inner))))))
            return None

    def without_dead(
        self, kind: type[Options], values: Mapping[str, object], place: Place, dead: Mapping[str, str], *, strict: bool = False
    ) -> dict[str, object]:
        """The keys that are read; the others become remarks, or problems where the original fails at them."""
        ignored = ignored_keys(kind, values, dead)
        for key, reason in ignored.items():
            if strict:
                self.reject((*place, key), "is unknown, and the original fails at it", "job.unknown_key", reason[0].upper() + reason[1:])
            else:
                self.remarks.append(self.at((*place, key), f"is ignored, as in the original: {reason.rstrip('.')}", "job.ignored_key"))
        return {key: value for key, value in values.items() if key not in ignored}


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
        overrides: values by dotted key, see `OVERRIDES`, which replace those of the file.

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
    plain = reader.options(PlainOptions, {key: config[key] for key in config if key not in SECTIONS}, (), {})
    loaders = None if config.get("loaders") is None else _loaders(reader, config["loaders"])
    trainer = None
    if purpose == "train" and config.get("trainer") is not None:
        trainer = _trainer(reader, config["trainer"])
    _named_sections(reader, config, purpose)
    if purpose == "train":
        _optimiser_and_schedule(reader, config)
        reader.problems += [reader.with_line(problem) for problem in training_conflicts(config, loaders)]
        reader.remarks += [reader.with_line(problem) for problem in training_warnings(config)]
    if loaders is not None:
        _transforms(reader, loaders, purpose)
    predictor = _predictor(reader, config, loaders, plain) if purpose == "predict" else PredictorOptions()
    if reader.problems:
        raise JobError(_by_line(reader.problems))
    assert plain is not None
    assert loaders is not None
    return Job(config, loaders, trainer, predictor, plain, tuple(_by_line(reader.remarks)), Path(path))


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


def _loaders(reader: _Reader, values: object) -> LoadersOptions | None:
    """The section; its phases are read first, so that the keys in problems are complete."""
    if not reader.is_mapping(values, ("loaders",)):
        return None
    section = dict(values)
    before = len(reader.problems)
    for name in ("train", "val", "test"):
        phase = values.get(name)
        if isinstance(phase, Mapping):
            section[name] = _phase(reader, phase, ("loaders", name))
    if len(reader.problems) > before:  # the whole cannot be validated, but its unknown keys can be reported
        reader.without_dead(LoadersOptions, section, ("loaders",), DEAD_LOADERS)
        return None
    return reader.options(LoadersOptions, section, ("loaders",), DEAD_LOADERS)


def _phase(reader: _Reader, values: Mapping[str, object], place: Place) -> PhaseOptions | None:
    section = dict(values)
    kinds: tuple[tuple[str, type[Options], dict[str, str]], ...] = (
        ("slice_builder", SliceBuilderOptions, DEAD_SLICE_BUILDER),
        ("transformer", TransformerOptions, {}),
    )
    for key, kind, dead in kinds:
        if isinstance(values.get(key), Mapping):
            section[key] = reader.options(kind, values[key], (*place, key), dead)
            if section[key] is None:
                return None
    return reader.options(PhaseOptions, section, place, {})


def _trainer(reader: _Reader, values: object) -> TrainerOptions | None:
    # job files have `tensorboard_formatter: null` for the defaults
    if isinstance(values, Mapping) and values.get("tensorboard_formatter") is None:
        values = {key: value for key, value in values.items() if key != "tensorboard_formatter"}
    return reader.options(TrainerOptions, values, ("trainer",), _DEAD_TRAINER, strict=True)


def _predictor(reader: _Reader, config: Mapping[str, Any], loaders: LoadersOptions | None, plain: PlainOptions | None) -> PredictorOptions:
    """The section, the checkpoint, and conflicts with other sections."""
    if plain is not None and plain.model_path is None:
        reader.reject(("model_path",), "is missing", "job.missing_key", "Name the checkpoint to predict with.")
    options = reader.options(PredictorOptions, config.get("predictor") or {}, ("predictor",), DEAD_PREDICTOR)
    model = config.get("model")
    if options is not None and loaders is not None and isinstance(model, Mapping):
        reader.problems += [reader.with_line(problem) for problem in prediction_conflicts(options, loaders, model)]
    return options or PredictorOptions()


def _named_sections(reader: _Reader, config: Mapping[str, Any], purpose: Purpose) -> None:
    """Network, loss and metric. Their modules import torch, so they are loaded only when a job is read."""
    sections = [("model", "networks", "CLASSES")]
    if purpose == "train":
        sections += [("loss", "losses", "LOSSES"), ("eval_metric", "metrics", "METRICS")]
    for section, module, table in sections:
        values = config.get(section)
        if values is None or not reader.is_mapping(values, (section,)):
            continue
        if section == "eval_metric":
            # the original scores with MeanIoU where no metric is named
            values = {"name": "MeanIoU", **values}
        home = importlib.import_module(f"morula.dialects.pytorch3dunet.{module}")
        members = getattr(home, table)
        name = reader.name_of(values, members, (section,))
        if name is not None:
            kind = home.ModelOptions if section == "model" else members[name][0]
            reader.options(kind, values, (section,), home.DEAD)


def _optimiser_and_schedule(reader: _Reader, config: Mapping[str, Any]) -> None:
    optimizer, schedule = config.get("optimizer"), config.get("lr_scheduler")
    if optimizer is not None and reader.is_mapping(optimizer, ("optimizer",)):
        try:
            reader.options(optimizer_options(optimizer), optimizer, ("optimizer",), DEAD_OPTIMIZER)
        except MorulaError as error:
            reader.problems.append(reader.with_line(Problem.of(error)))
    if schedule and reader.is_mapping(schedule, ("lr_scheduler",)):
        reader.problems += [reader.at(("lr_scheduler", key), rule, "schedule.arguments") for key, rule in schedule_problems(schedule)]
        # many published job files have this argument, which torch has removed
        if "verbose" in schedule:
            rule = "is ignored: torch has no such argument any more, so the original fails at it"
            reader.remarks.append(reader.at(("lr_scheduler", "verbose"), rule, "job.ignored_key"))


def _transforms(reader: _Reader, loaders: LoadersOptions, purpose: Purpose) -> None:
    """The phases that are used, and names and options of all their transforms."""
    for name in ("train", "val") if purpose == "train" else ("test",):
        phase: PhaseOptions | None = getattr(loaders, name)
        if phase is None:
            reader.reject(("loaders", name), "is missing", "job.missing_key", "Name its file_paths.")
            continue
        place = ("loaders", name, "transformer")
        before = len(reader.problems)
        for part in ("raw", "label", "weight"):
            for number, entry in enumerate(getattr(phase.transformer, part)):
                _transform(reader, entry, (*place, part, number), part)
        if len(reader.problems) == before:
            lists = Lists(*(tuple(map(parsed, getattr(phase.transformer, part))) for part in ("raw", "label", "weight")))
            reader.remarks += [reader.at(place, rule, "transform.lists_differ") for rule in differences(lists)]


def _transform(reader: _Reader, entry: Mapping[str, Any], place: Place, part: str) -> None:
    name = reader.name_of(entry, TRANSFORMS, place)
    if name is None:
        return
    kind = TRANSFORMS[name]
    if kind.role == "labels" and part == "raw":
        reader.reject(place, f"{name} makes targets from labels", "transform.wrong_list", "Move it to the list label.")
        return
    reader.options(kind, entry, place, DEAD_TRANSFORM)
