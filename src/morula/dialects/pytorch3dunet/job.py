"""A job file of pytorch-3dunet, read and checked: everything that is wrong, and everything that has no effect, at once, with lines."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import NonNegativeInt, PositiveInt, ValidationError, model_validator
from pydantic_core import ErrorDetails

from morula.core.errors import UNSET, JobError, MorulaError, OptionError, Problem
from morula.core.family import did_you_mean
from morula.core.options import Options
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
"""Keys that the commands take as flags of the same name."""


class FormatterOptions(Options):
    """What stands under ``trainer.tensorboard_formatter``."""

    skip_last_target: bool = False
    """Leave out the last channel of the target in the pictures."""

    log_channelwise: bool = False
    """Show each channel of a prediction instead of the class with the highest value."""


class TrainerOptions(Options):
    """What stands under ``trainer``."""

    checkpoint_dir: str
    """Folder of the checkpoints and of the run."""

    max_num_epochs: PositiveInt
    """Most passes through the training patches."""

    max_num_iterations: PositiveInt
    """Most steps; exactly so many are taken unless the epochs end before."""

    validate_after_iters: PositiveInt = 200
    """Steps between validations; the last step is followed by one too."""

    log_after_iters: PositiveInt = 100
    """Steps between the training's figures and pictures."""

    validate_iters: PositiveInt | None = None
    """Batches of a validation; all when left out."""

    eval_score_higher_is_better: bool = True
    """Which way the metric is better."""

    skip_train_validation: bool = False
    """Do not compute the metric on training patches."""

    resume: str | None = None
    """Checkpoint to go on from."""

    pre_trained: str | None = None
    """Checkpoint whose weights to start with."""

    max_val_images: NonNegativeInt = 100
    """Most validation batches that pictures are made of."""

    num_iterations: PositiveInt = 1
    """Number of the first step."""

    num_epoch: NonNegativeInt = 0
    """Number of the first epoch."""

    tensorboard_formatter: FormatterOptions = FormatterOptions()
    """How pictures are made."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic (not in the original): auto takes bf16, else fp16, on a CUDA GPU, bf16 on a CPU with AMX, else fp32."""

    @model_validator(mode="after")
    def _one_start(self) -> TrainerOptions:
        if self.num_iterations > self.max_num_iterations:
            raise OptionError(
                "trainer.iterations",
                f"num_iterations is {self.num_iterations} but max_num_iterations {self.max_num_iterations}",
                remedy="Raise the latter.",
            )
        return self


class PlainOptions(Options):
    """What stands at the top level beside the sections."""

    device: Literal["cuda", "mps", "cpu"] | None = None
    """Kind of processor; the fastest present when left out."""

    manual_seed: NonNegativeInt | None = None
    """Of everything random."""

    model_path: str | None = None
    """Checkpoint to predict with."""


SECTIONS = ("model", "loss", "optimizer", "eval_metric", "lr_scheduler", "loaders", "trainer", "predictor")
_NEEDED: dict[Purpose, tuple[str, ...]] = {
    "train": ("model", "loss", "optimizer", "loaders", "trainer"),
    "predict": ("model", "loaders"),
}
_DEAD_TRAINER = {
    "epochs": "only versions before 1.3 knew it. Write max_num_epochs.",
    "iters": "only versions before 1.3 knew it. Write max_num_iterations.",
    "max_patience": "no version since 1.3 knows it. Use lr_scheduler, or stop the training with Ctrl-C.",
}

Section = TypeVar("Section", bound=Options)


@dataclass(frozen=True, eq=False)
class Job:
    """A checked job.

    Attributes:
        config: the document as it stands, overrides included; `build_model` and the like take its sections.
        loaders: what stands under ``loaders``.
        trainer: what stands under ``trainer``, when it is to be trained.
        predictor: what stands under ``predictor``.
        plain: what stands beside the sections.
        remarks: keys without effect, each with what is done about it.
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
    """Collects what is wrong and what has no effect."""

    document: Document
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)

    def at(self, place: Place, message: str, code: str = "job.invalid_value") -> Problem:
        return Problem(".".join(map(str, place)), message, self.document.line(place), self.document.file, code)

    def with_line(self, problem: Problem) -> Problem:
        return replace(problem, line=self.document.line(tuple(problem.key.split("."))), file=self.document.file)

    def wrong(self, place: Place, message: str, code: str = "job.invalid_value") -> None:
        self.problems.append(self.at(place, message, code))

    def options(self, kind: type[Section], values: Any, place: Place, dead: Mapping[str, str], *, strict: bool = False) -> Section | None:
        """Options of a section; unknown keys are told and left out, in strict sections they are wrong."""
        if not isinstance(values, Mapping):
            self.wrong(place, f"is {values!r}; a mapping of keys is expected here.")
            return None
        known = self.without_dead(kind, values, place, dead, strict=strict)
        try:
            return kind.model_validate(known)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                where = tuple(part for part in each["loc"] if not str(part).endswith("Options"))
                self.problems.append(self.with_line(_problem(each, (*place, *where), named=bool(where))))
            return None

    def without_dead(
        self, kind: type[Options], values: Mapping[str, Any], place: Place, dead: Mapping[str, str], *, strict: bool = False
    ) -> dict[str, Any]:
        """The keys that something reads; the others are told."""
        ignored = ignored_keys(kind, values, dead)
        for key, reason in ignored.items():
            if strict:
                self.wrong((*place, key), f"is not known here, nor to the original, which fails at it: {reason}", "job.unknown_key")
            else:
                self.remarks.append(self.at((*place, key), f"is ignored, as the original ignores it: {reason}", "job.ignored_key"))
        return {key: value for key, value in values.items() if key not in ignored}


def purpose_of(path: str | Path) -> Purpose:
    """What a job file is for: those that train have a section ``trainer``.

    Raises:
        MissingFileError: when there is no such file.
    """
    return "train" if "trainer" in read_documents(path)[0].data else "predict"


def read_job(path: str | Path, purpose: Purpose = "train", *, overrides: Mapping[str, Any] | None = None) -> Job:
    """Read and check a job file of pytorch-3dunet; paths in it are meant from the current folder, as there.

    Args:
        path: the YAML file.
        purpose: what it is to be used for.
        overrides: values by dotted key, see `OVERRIDES`; they go before the file.

    Raises:
        MissingFileError: when there is no such file.
        JobError: with all problems at once, each with line, key, rule and remedy.
    """
    documents = read_documents(path)
    document = documents[0]
    reader = _Reader(document)
    if len(documents) != 1 or not isinstance(document.data, dict):
        raise JobError([Problem("", "a job of pytorch-3dunet is one mapping with model, loaders, ...; this is not one.", 1, document.file)])
    config = copy.deepcopy(document.data)
    for key, value in (overrides or {}).items():
        _override(config, key, value, reader)
    for key in _NEEDED[purpose]:
        if config.get(key) is None:
            reader.wrong((key,), "is missing; it must stand in every job of this kind.", "job.missing_key")
    plain = reader.options(PlainOptions, {key: config[key] for key in config if key not in SECTIONS}, (), {})
    loaders = None if config.get("loaders") is None else _loaders(reader, config["loaders"])
    trainer = None
    if purpose == "train" and config.get("trainer") is not None:
        trainer = _trainer(reader, config["trainer"])
    _torch_sections(reader, config, purpose)
    if purpose == "train":
        _rules(reader, config)
        reader.problems += [reader.with_line(problem) for problem in training_conflicts(config, loaders)]
        reader.remarks += [reader.with_line(problem) for problem in training_warnings(config)]
    if loaders is not None:
        _transforms(reader, loaders, purpose)
    predictor = _predictor(reader, config, loaders, plain) if purpose == "predict" else PredictorOptions()
    if reader.problems:
        raise JobError(sorted(reader.problems, key=lambda each: each.line or 0))
    assert plain is not None
    assert loaders is not None
    return Job(config, loaders, trainer, predictor, plain, tuple(sorted(reader.remarks, key=lambda each: each.line or 0)), Path(path))


def _problem(detail: ErrorDetails, place: Place, *, named: bool) -> Problem:
    """A problem from what pydantic says of a value; rules of this dialect are errors with a code."""
    key = ".".join(map(str, place))
    if detail["type"] == "missing":
        return Problem(key, "is missing; every such job needs it", code="job.missing_key")
    value = detail["input"] if named and not isinstance(detail["input"], Mapping) else UNSET
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, MorulaError):
        return Problem(key, cause.rule, code=cause.code, value=value, remedy=cause.remedy)
    given = "" if value is UNSET else f"{value!r}: "
    return Problem(key, f"{given}{detail['msg'].removeprefix('Value error, ')}", code="job.invalid_value", value=value)


def _override(config: dict[str, Any], key: str, value: Any, reader: _Reader) -> None:
    *parents, last = key.split(".")
    inner: Any = config
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        reader.problems.append(
            Problem(key, f"was given but the file has no section {'.'.join(parents)}. Write it first, or leave this out.")
        )
        return
    inner[last] = value


def _loaders(reader: _Reader, values: Any) -> LoadersOptions | None:
    """The section, its phases looked at one by one so that each key is named where it stands."""
    if not isinstance(values, Mapping):
        reader.wrong(("loaders",), f"is {values!r}; a mapping of keys is expected here.")
        return None
    found = dict(values)
    broken = len(reader.problems)
    for name in ("train", "val", "test"):
        if isinstance(values.get(name), Mapping):
            found[name] = _phase(reader, values[name], ("loaders", name))
    if len(reader.problems) > broken:  # then the whole cannot be validated, but its keys can be looked at
        reader.without_dead(LoadersOptions, found, ("loaders",), DEAD_LOADERS)
        return None
    return reader.options(LoadersOptions, found, ("loaders",), DEAD_LOADERS)


def _phase(reader: _Reader, values: Mapping[str, Any], place: Place) -> PhaseOptions | None:
    found = dict(values)
    for key, kind, dead in (
        ("slice_builder", SliceBuilderOptions, DEAD_SLICE_BUILDER),
        ("transformer", TransformerOptions, cast(dict[str, str], {})),
    ):
        if isinstance(values.get(key), Mapping):
            found[key] = reader.options(kind, values[key], (*place, key), dead)
            if found[key] is None:
                return None
    return reader.options(PhaseOptions, found, place, {})


def _trainer(reader: _Reader, values: Any) -> TrainerOptions | None:
    if isinstance(values, Mapping) and values.get("tensorboard_formatter") is None:
        values = {key: value for key, value in values.items() if key != "tensorboard_formatter"}
    return reader.options(TrainerOptions, values, ("trainer",), _DEAD_TRAINER, strict=True)


def _predictor(reader: _Reader, config: Mapping[str, Any], loaders: LoadersOptions | None, plain: PlainOptions | None) -> PredictorOptions:
    """The section, the checkpoint, and what must fit other sections."""
    if plain is not None and plain.model_path is None:
        reader.wrong(("model_path",), "is missing; name the checkpoint to predict with.", "job.missing_key")
    found = reader.options(PredictorOptions, config.get("predictor") or {}, ("predictor",), DEAD_PREDICTOR)
    model = config.get("model")
    if found is not None and loaders is not None and isinstance(model, Mapping):
        reader.problems += [reader.with_line(problem) for problem in prediction_conflicts(found, loaders, model)]
    return found or PredictorOptions()


def _torch_sections(reader: _Reader, config: Mapping[str, Any], purpose: Purpose) -> None:
    """Names and values of network, loss and metric, which need torch to be known."""
    wanted: list[tuple[str, str, str, str | None]] = [("model", "networks", "CLASSES", "ModelOptions")]
    if purpose == "train":
        wanted += [("loss", "losses", "LOSSES", None), ("eval_metric", "metrics", "METRICS", None)]
    for section, module, table, options in wanted:
        values = config.get(section)
        if section == "eval_metric" and values is not None and isinstance(values, Mapping):
            values = {"name": "MeanIoU", **values}
        if values is None:
            continue
        if not isinstance(values, Mapping):
            reader.wrong((section,), f"is {values!r}; a mapping of keys is expected here.")
            continue
        home = importlib.import_module(f"morula.dialects.pytorch3dunet.{module}")
        members = getattr(home, table)
        name = values.get("name")
        if name not in members:
            known = ", ".join(members)
            said = "is missing" if name is None else f"{name!r} is not known"
            reader.wrong(
                (section, "name"),
                f"{said}; it is one of {known}.{did_you_mean(str(name), list(members)) if name else ''}",
                "job.unknown_name",
            )
            continue
        reader.options(getattr(home, options) if options else members[name][0], values, (section,), home.DEAD)


def _rules(reader: _Reader, config: Mapping[str, Any]) -> None:
    """Optimiser and schedule."""
    from morula.dialects.pytorch3dunet import optimisers

    optimizer, schedule = config.get("optimizer"), config.get("lr_scheduler")
    for section, values in (("optimizer", optimizer), ("lr_scheduler", schedule)):
        if values is not None and not isinstance(values, Mapping):
            reader.wrong((section,), f"is {values!r}; a mapping of keys is expected here.")
    if isinstance(optimizer, Mapping):
        try:
            reader.options(optimisers.optimizer_options(optimizer), optimizer, ("optimizer",), optimisers.DEAD)
        except MorulaError as error:
            reader.wrong(("optimizer", "name"), str(error))
    if isinstance(schedule, Mapping) and schedule:
        reader.problems += [reader.at(("lr_scheduler", key), said) for key, said in optimisers.schedule_problems(schedule)]
        if "verbose" in schedule:
            said = "is ignored: torch has no such parameter any more, so the original fails at it."
            reader.remarks.append(reader.at(("lr_scheduler", "verbose"), said))


def _transforms(reader: _Reader, loaders: LoadersOptions, purpose: Purpose) -> None:
    """The phases that are used, and names and parameters of all their transforms."""
    for name in ("train", "val") if purpose == "train" else ("test",):
        phase: PhaseOptions | None = getattr(loaders, name)
        if phase is None:
            reader.wrong(("loaders", name), "is missing; name its file_paths.", "job.missing_key")
            continue
        place = ("loaders", name, "transformer")
        broken = len(reader.problems)
        for part in ("raw", "label", "weight"):
            for number, entry in enumerate(getattr(phase.transformer, part)):
                _transform(reader, entry, (*place, part, number), part)
        if len(reader.problems) == broken:
            lists = Lists(*(tuple(parsed(each) for each in getattr(phase.transformer, part)) for part in ("raw", "label", "weight")))
            reader.remarks += [reader.at(place, said) for said in differences(lists)]


def _transform(reader: _Reader, entry: Mapping[str, Any], place: Place, part: str) -> None:
    name = entry.get("name")
    if name not in TRANSFORMS:
        said = "is missing" if name is None else f"{name!r} is not known"
        close = did_you_mean(str(name), list(TRANSFORMS)) if name else ""
        reader.wrong((*place, "name"), f"{said}; it is one of {', '.join(TRANSFORMS)}.{close}", "job.unknown_name")
        return
    kind = TRANSFORMS[str(name)]
    if kind.role == "labels" and part == "raw":
        reader.wrong(place, f"{name} makes targets of labels and cannot stand in the list raw. Move it to the list label.")
        return
    reader.options(kind, entry, place, DEAD_TRANSFORM)
