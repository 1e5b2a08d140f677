"""The settings of a BiaPy job file, checked key by key against the table: problems, and keys without effect, each with its line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from morula.core.errors import JobError, OptionError, Problem
from morula.core.family import did_you_mean
from morula.core.options import CORRECT
from morula.dialects.biapy.table import FORMER, KEYS, PROCESS, SECTIONS, Key
from morula.dialects.converted import Value, nested
from morula.jobs.yaml_lines import Document, Place, read_documents

_LEAVES = {"PROBLEM.INSTANCE_SEG.DATA_CHANNELS_EXTRA_OPTS"}
_WORKFLOWS = ("INSTANCE_SEG", "SEMANTIC_SEG", "SELF_SUPERVISED", "IMAGE_TO_IMAGE", "DENOISING", "SUPER_RESOLUTION")
_DEFAULT = "SEMANTIC_SEG"
_REMEDIES = {
    "labels.unknown_class": "Raise DATA.N_CLASSES, state LOSS.IGNORE_INDEX for a value that is no class, or write INSTANCE_SEG.",
    "targets.channels": "State those of the targets: OUTPUT_CHANNELS (IMAGE_TO_IMAGE) or the last number of PATCH_SIZE (SUPER_RESOLUTION).",
}
"""What to do about problems of native jobs, by their codes, in the keys of BiaPy."""
_FORMER_SWITCHES = {
    "LOSS.CLASS_REBALANCE": "PROBLEM.INSTANCE_SEG.CLASS_REBALANCE_WITHIN_CHANNELS",
    "MODEL.HRNET.Z_DOWN": "MODEL.HRNET_48.Z_DOWN",
}
"""Keys that had another meaning where their value is a switch, up to 3.6."""
_INSTEAD = {
    "DETECTION": "Write INSTANCE_SEG with DATA_CHANNELS [F, P], with label images in place of the points: each object has its centre.",
    "CLASSIFICATION": "Whole images have no class here; INSTANCE_SEG with DATA.N_CLASSES above 2 gives each object a class.",
}
"""What comes next to the workflows that are not supported."""


class Settings:
    """Values by dotted key: those of the file, or BiaPy's defaults. Problems are collected, not raised.

    Attributes:
        problems: what cannot be obeyed, each with its line.
        remarks: keys that have no effect, each with its line and the reason.
        notes: what the native job does differently, and what was decided.
        with_tree: whether the run writes BiaPy's results tree.
    """

    def __init__(self, document: Document, *, with_tree: bool = False) -> None:
        self.document = document
        self.with_tree = with_tree
        self.problems: list[Problem] = []
        self.remarks: list[Problem] = []
        self.notes: list[str] = []
        self._stated: dict[str, Value] = {}
        self._given: dict[str, Value] = {}
        self._places: dict[str, Place] = {}
        self._spread: set[str] = set()
        self._read: set[str] = set()
        self._resolved: dict[str, Value] = {}
        # read everything first: conditions refer to keys that may come later in the file
        for place, value in _leaves(document.data, ()):
            self._take(place, value)
        for key in list(self._stated):
            self._check(KEYS[key])
        self._note_former_spellings()

    # ---- values

    def value(self, key: str) -> Value:
        """The value of a key, as it is stated or by default."""
        self._read.add(key)
        return self._stated.get(key, KEYS[key].default)

    def __contains__(self, key: str) -> bool:
        return key in self._stated

    def is_spread(self, key: str) -> bool:
        """Whether a key was set by a spelling that stands for several keys."""
        return key in self._spread

    def given(self, key: str) -> Value:
        """A stated value as the file has it, before a single value became a list; `None` where it is left out."""
        return self._given.get(key)

    def flag(self, key: str) -> bool:
        """A switch."""
        return bool(self.value(key))

    def number(self, key: str) -> float:
        """A number."""
        value = self.value(key)
        return float(value) if isinstance(value, int | float) else 0.0

    def whole(self, key: str) -> int:
        """A whole number."""
        value = self.value(key)
        return value if isinstance(value, int) else 0

    def text(self, key: str) -> str:
        """A text."""
        return str(self.value(key))

    def items(self, key: str) -> list[Value]:
        """A list."""
        value = self.value(key)
        return list(value) if isinstance(value, list | tuple) else [value]

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        return [str(item) for item in self.items(key)]

    def numbers(self, key: str) -> list[float]:
        """A list of numbers; other entries are reported."""
        items = self.items(key)
        if all(is_number(item) for item in items):
            return [item for item in items if isinstance(item, int | float)]
        self.wrong("biapy.wrong_type", key, "is not valid: numbers are expected")
        default = KEYS[key].default
        return [item for item in default if isinstance(item, int | float)] if isinstance(default, list) else []

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return 3 if self.text("PROBLEM.NDIM") == "3D" else 2

    def per_axis(self, key: str) -> list[float]:
        """One number per spatial axis; a single number holds for all axes, and so do two equal ones in 3D, as BiaPy's defaults are."""
        given = self.numbers(key)
        if len(given) == self.ndim:
            return given
        if len(set(given)) != 1:
            self.wrong("biapy.wrong_length", key, f"has the wrong length: {self.ndim} numbers are expected, one per axis (Z)YX")
        return (given[:1] or [0.0]) * self.ndim

    def pair(self, key: str) -> tuple[float, float]:
        """A lower and an upper limit."""
        given = self.numbers(key)
        low, high = given[0] if given else 0.0, given[-1] if given else 0.0
        if len(given) not in (1, 2) or low > high:
            self.wrong("biapy.wrong_length", key, "is not a range: two numbers are expected, the lower one first")
        return low, high

    def resolve(self, key: str, value: Value) -> None:
        """Set what a key comes to, where the file leaves it open or spells it otherwise; conditions of other keys refer to it."""
        self._resolved[key] = value

    def supply(self, key: str, value: Value) -> None:
        """Set a key that the file leaves out, or leaves empty."""
        if not self._stated.get(key):
            self._stated[key] = value
            self._places.setdefault(key, tuple(key.split(".")))

    # ---- what the table says

    def native(self, prefix: str) -> dict[str, Value]:
        """Native values of all keys below `prefix` that the table converts by itself and whose conditions hold, nested."""
        found: dict[str, Value] = {}
        for row in KEYS.values():
            if row.convert is None or not row.target.startswith(f"{prefix}.") or self.unmet(row):
                continue
            value = row.convert(self.value(row.name))
            # the switch of a key that is used is used, too
            self._read.update(filter(None, [row.condition.partition("=")[0]]))
            if value is not None:
                found[row.target.removeprefix(f"{prefix}.")] = value
        return nested(found)

    def note_differences(self, prefix: str) -> None:
        """Note what the table says about the keys below a native key that are set and have an effect."""
        for row in KEYS.values():
            if row.note and row.target.startswith(f"{prefix}.") and self.value(row.name) and not self.unmet(row):
                self.note(row.note)

    def unmet(self, row: Key) -> str:
        """The condition that keeps a key from having an effect, as a clause; empty where all hold."""
        conditions = [row.condition, *(condition for section, condition in SECTIONS.items() if row.name.startswith(section))]
        for condition in filter(None, conditions):
            key, equals, expected = condition.partition("=")
            actual = self._resolved.get(key, self._stated.get(key, KEYS[key].default))
            # a switch does not turn itself off
            if key != row.name and not (str(actual) in expected.split("|") if equals else actual):
                return f"{self.spelling(key)} is {actual if equals and actual != '' else 'not set'}"
            # nor does a switch turn a key on where it has no effect itself
            if key != row.name and not equals and (reason := self.unmet(KEYS[key])):
                return reason
        return ""

    def remark_unread(self) -> None:
        """Note stated keys that differ from their default and that nothing has asked for."""
        known = {problem.key for problem in (*self.problems, *self.remarks)}
        # one spelling may set several keys; it is used when one of them is
        used = {self._places[key] for key in self._read & self._places.keys()}
        for key, value in self._stated.items():
            row = KEYS[key]
            if self._places[key] in used or self.spelling(key) in known or value == row.default or (row.of_tree and self.with_tree):
                continue
            if key in self._spread and any(self._places[other] == self._places[key] for other in self._read & self._places.keys()):
                continue
            known.add(self.spelling(key))
            if key in self._spread:
                self.remark(key, "none of the keys that it stands for is used")
            else:
                self.remark(key, self.unmet(row) or row.no_effect or "it belongs to a step that this job does not have")

    def trace(self, problem: Problem) -> Problem:
        """A problem of the native job at the key of the file that it comes from.

        Of several keys with one target it is the last stated one: switches come before what they turn on.
        """
        key = without_index(problem.key)
        rows = [row for row in reversed(KEYS.values()) if row.target and key.startswith(row.target) and not self.unmet(row)]
        if not rows:
            return problem
        # a folder is more likely at fault than the switch that makes it be read
        row = max(rows, key=lambda row: (len(row.target), row.name.endswith("PATH"), row.name in self._stated))
        if row.name == PROCESS and row.name not in self._stated:
            row = KEYS["PROBLEM.INSTANCE_SEG.DATA_CHANNELS"]  # the decoder follows from the channels
        rest = key[len(row.target) :] if row.target.endswith(".") else ""
        place = self._place(row.name)
        line = self.document.line((*place, *rest.split("."))) if rest else self.document.line(place)
        key = ".".join(map(str, place)) + (f".{rest}" if rest else "")
        remedy = _REMEDIES.get(problem.code, problem.remedy)
        return replace(problem, key=key, line=line, file=self.document.file, remedy=remedy)

    # ---- problems

    def spelling(self, key: str) -> str:
        """A key as the file writes it."""
        return ".".join(map(str, self._place(key)))

    def wrong(self, code: str, key: str, rule: str, remedy: str = "") -> None:
        """Report what cannot be obeyed, with the value that is stated."""
        value = self._given.get(key, self._stated.get(key, KEYS[key].default if key in KEYS else None))
        self._report(self.problems, key, OptionError(code, rule, value=value, remedy=remedy or CORRECT))

    def missing(self, key: str, rule: str, remedy: str = "") -> None:
        """Report a key that has to be stated."""
        self._report(self.problems, key, OptionError("biapy.missing_key", rule, remedy=remedy or "Write the key with its value."))

    def add(self, problem: Problem, key: str) -> None:
        """Report the problem of a file at the key that names it."""
        placed = replace(problem, key=self.spelling(key), line=self.document.line(self._place(key)), file=self.document.file)
        if placed not in self.problems:
            self.problems.append(placed)

    def remark(self, key: str, reason: str) -> None:
        """Report a key that has no effect, with the reason as a clause or a sentence."""
        self._report(self.remarks, key, OptionError("biapy.no_effect", f"has no effect: {reason.rstrip('.')}"))

    def note(self, text: str) -> None:
        """Note a difference or a decision, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _report(self, to: list[Problem], key: str, error: OptionError) -> None:
        problem = Problem.of(error, self.spelling(key))
        problem = replace(problem, line=self.document.line(self._place(key)), file=self.document.file)
        if problem not in to:
            to.append(problem)

    def _place(self, key: str) -> Place:
        return self._places.get(key, tuple(key.split(".")))

    # ---- reading

    def _take(self, place: Place, value: Value) -> None:
        """One key of the file, in any spelling."""
        written = ".".join(map(str, place))
        if written in _FORMER_SWITCHES and isinstance(value, bool):
            self._store(_FORMER_SWITCHES[written], place, value, spread=False)
            return
        former = FORMER.get(written, [])
        if not former and written not in KEYS:
            self._unknown(written)
        elif not former:
            self._store(written, place, value, spread=False)
        for key, convert in former:
            self._store(key, place, convert(plain(value)), spread=len(former) > 1)

    def _store(self, key: str, place: Place, value: Value, *, spread: bool) -> None:
        """Keep a value; a key that is stated itself goes before a spelling that stands for several keys."""
        kept = typed_or_problem(value, KEYS[key])
        # two spellings of one key with the same value are harmless
        if key in self._stated and not spread and key not in self._spread:
            if kept != self._stated[key]:
                written = ".".join(map(str, place))
                error = OptionError(
                    "biapy.stated_twice",
                    f"is another spelling of {self.spelling(key)}, which has another value",
                    value=value,
                    remedy="Keep one of the two.",
                )
                problem = replace(Problem.of(error, written), line=self.document.line(place), file=self.document.file)
                self.problems.append(problem)
            return
        if key in self._stated and spread:
            return
        (self._spread.add if spread else self._spread.discard)(key)
        self._places[key] = place
        self._given[key] = value
        if isinstance(kept, OptionError):
            self._report(self.problems, key, kept)
        else:
            self._stated[key] = kept

    def _check(self, row: Key) -> None:
        """A stated value against the row of its key."""
        value = self._stated[row.name]
        # DA_PROB sets all probabilities; those of unused augmentations would only be noise
        if row.no_effect and not row.target and row.name not in self._spread:
            if value in row.as_done:
                return
            # with the results tree, only what keeps the key from deciding about it is a reason
            reason = self.unmet(row) if row.of_tree and self.with_tree else row.no_effect
            if reason:
                self.remark(row.name, reason)
        elif row.refuse is not None and value != row.default and not self.unmet(row):
            self.wrong("biapy.not_supported", row.name, *row.refuse)
        elif row.choices and value not in row.choices:
            names = ", ".join(name or "''" for name in row.choices)
            close = did_you_mean(str(value), list(row.choices)).strip()
            self.wrong("biapy.unknown_value", row.name, f"is not supported; known are {names}", close)
            # continue with the default, to find the other problems, too
            del self._stated[row.name]

    def _unknown(self, key: str) -> None:
        section, _, name = key.rpartition(".")
        names = [*KEYS, *FORMER]
        # a name in the same section is more likely meant than a similar one elsewhere
        beside = [other.rpartition(".")[2] for other in names if other.rpartition(".")[0] == section]
        close = (did_you_mean(name, beside) or did_you_mean(key, names)).strip() or "Leave it out."
        self._report(self.problems, key, OptionError("biapy.unknown_key", "is not a key of BiaPy 3.0 to 3.7", remedy=close))

    def _note_former_spellings(self) -> None:
        """Say how former spellings were read."""
        changes = {}
        for key in self._stated:
            written = self.spelling(key)
            if written != key and written not in changes and not KEYS[key].former:
                changes[written] = f"{written} as {'AUGMENTOR.*_PROB' if key in self._spread else key}"
        if changes:
            self.note(f"former spellings are read as those of 3.7: {'; '.join(changes.values())}.")


def read_settings(path: str | Path, *, supplied: Mapping[str, Value] | None = None, with_tree: bool = False) -> Settings:
    """The settings of a job file, checked key by key.

    Args:
        path: the job file.
        supplied: values of keys that the file leaves out, or leaves empty.
        with_tree: whether the run writes BiaPy's results tree.

    Raises:
        MissingFileError: when there is no such file.
        JobError: when it is not one mapping, or belongs to a workflow that is not supported.
    """
    documents = read_documents(path)
    document = documents[0]
    if len(documents) != 1 or not isinstance(document.data, Mapping):
        error = OptionError("biapy.not_a_job", "must be one mapping with the sections PROBLEM, DATA, MODEL and so on")
        raise JobError([replace(Problem.of(error), line=1, file=document.file)])
    problem = document.data.get("PROBLEM")
    workflow = problem.get("TYPE") if isinstance(problem, Mapping) else None
    if (workflow or _DEFAULT) not in _WORKFLOWS:
        raise JobError([_other_workflow(document, workflow)])
    settings = Settings(document, with_tree=with_tree)
    if workflow is None:
        settings.note(f"PROBLEM.TYPE is left out: the workflow is {_DEFAULT}, the default of BiaPy.")
    for key, value in (supplied or {}).items():
        settings.supply(key, value)
    return settings


def _other_workflow(document: Document, workflow: Value) -> Problem:
    """The problem of a workflow that is not supported, with what to do instead."""
    remedy = _INSTEAD.get(str(workflow)) or did_you_mean(str(workflow), [*_WORKFLOWS, *_INSTEAD]).strip() or "Write one of them."
    error = OptionError(
        "biapy.workflow_not_supported", f"is not supported; supported are {', '.join(_WORKFLOWS)}", value=workflow, remedy=remedy
    )
    return replace(Problem.of(error, "PROBLEM.TYPE"), line=document.line(("PROBLEM", "TYPE")), file=document.file)


def _leaves(node: Value, place: Place) -> Iterator[tuple[Place, Value]]:
    """Each key that is no section, with its value."""
    dotted = ".".join(map(str, place))
    if isinstance(node, Mapping) and dotted not in _LEAVES:
        for name, value in node.items():
            yield from _leaves(value, (*place, str(name)))
    elif place and not (node is None and dotted not in KEYS):  # an empty section states nothing
        yield place, node


def typed_or_problem(value: Value, row: Key) -> Value | OptionError:
    """A value as the type of the key's default, or the error; keys without effect may have any value."""
    if row.no_effect and not row.target and not row.of_tree:
        return plain(value)
    try:
        return typed(value, row.default)
    except OptionError as error:
        return error


def typed(value: Value, default: Value) -> Value:
    """A value as the type of its default; tuples and lists may be written as in Python, single values stand for lists of one.

    Raises:
        OptionError: for another type.

    Examples:
        >>> typed("(256, 256, 1)", [1]), typed("ADAMW", ["SGD"]), typed(1, 0.5)
        ([256, 256, 1], ['ADAMW'], 1.0)
    """
    # names such as "1" stay texts where a text is expected
    value = plain(value) if not isinstance(default, str) else value
    if isinstance(default, list):
        listed = value if isinstance(value, list) else [value]
        if default and isinstance(default[0], list) and listed and not isinstance(listed[0], list):
            listed = [listed]  # the entry of the one network
        return [_element(item, default[0]) for item in listed] if default else listed
    return value if isinstance(default, dict) else _element(value, default)


def _element(value: Value, default: Value) -> Value:
    names: dict[type, str] = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    kind = type(default)
    if kind is float and is_number(value):
        return float(value) if isinstance(value, int | float) else value
    if kind is str and value is None:
        return ""
    if type(value) is not kind:
        raise OptionError("biapy.wrong_type", f"is not valid: {names.get(kind, kind.__name__)} is expected", value=value, remedy=CORRECT)
    return value


def without_index(key: str) -> str:
    """A native key without the position in the list of augmentations, as rows name it.

    Examples:
        >>> without_index("augment.2.rotate.degrees"), without_index("sampling.patch.0")
        ('augment.rotate.degrees', 'sampling.patch.0')
    """
    return re.sub(r"^augment\.\d+\.", "augment.", key)


def is_number(value: Value) -> bool:
    """Whether a value is a number; `True` and `False` are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(value: Value) -> Value:
    """Text that is a value of Python as that value, tuples as lists.

    Examples:
        >>> plain("(40, 128,128, 1)"), plain("auto")
        ([40, 128, 128, 1], 'auto')
    """
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            return value
    return [plain(item) if isinstance(item, tuple | list) else item for item in value] if isinstance(value, tuple | list) else value


def as_list(value: Value) -> list[Value]:
    """A list as it is, another value as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def listed(names: Iterable[str]) -> str:
    """Names as an enumeration.

    Examples:
        >>> listed(["F", "C"])
        'F, C'
    """
    return ", ".join(names)


def whole_numbers(items: Sequence[Value], *, least: int = 0) -> list[int] | None:
    """Items as whole numbers, `None` where one is not, or is below `least`."""
    numbers = [item for item in items if isinstance(item, int) and not isinstance(item, bool) and item >= least]
    return numbers if len(numbers) == len(items) else None


def predicts_only(settings: Settings) -> bool:
    """Whether a job predicts and does not train."""
    return settings.flag("TEST.ENABLE") and not settings.flag("TRAIN.ENABLE")
