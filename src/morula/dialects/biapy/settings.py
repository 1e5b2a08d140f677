"""What stands in a job file of BiaPy: its keys checked one by one, all that is wrong or without effect collected with its line."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from morula.core.errors import JobError, Problem
from morula.core.family import did_you_mean
from morula.dialects.biapy.keys import CHOICES, DEFAULTS, FIXED, IDLE, IDLE_KEYS, RENAMED, SWITCHES
from morula.jobs.yaml_lines import Document, Place, read_documents

_LEAVES = {"PROBLEM.INSTANCE_SEG.DATA_CHANNELS_EXTRA_OPTS"}
_PROBLEMS = ("INSTANCE_SEG", "SELF_SUPERVISED")


class Settings:
    """Values by dotted key: those of the file, behind them BiaPy's defaults. What is found wrong on the way is kept, not raised.

    Attributes:
        problems: what cannot be honoured, each with its line.
        remarks: keys that change nothing here, each with its line.
        notes: what is otherwise here than there.
        spellings: keys as they are written.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.remarks: list[Problem] = []
        self.notes: list[str] = []
        self._stated: dict[str, Any] = {}
        self._places: dict[str, Place] = {}
        self.spellings: set[str] = set()
        self._read: set[str] = set()
        for place, value in sorted(_leaves(document.data, ()), key=lambda leaf: leaf[0] == ("AUGMENTOR", "DA_PROB")):
            self._take(place, value)

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._stated.get(key, DEFAULTS[key])

    def __contains__(self, key: str) -> bool:
        return key in self._stated

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return 3 if self["PROBLEM.NDIM"] == "3D" else 2

    def at(self, key: str, message: str) -> Problem:
        """A problem at a key, in the file's own spelling and on its line."""
        place = self._places.get(key, tuple(key.split(".")))
        return Problem(".".join(map(str, place)), message, self.document.line(place), self.document.file)

    def wrong(self, key: str, message: str) -> None:
        """Note what cannot be honoured; the value is said first."""
        problem = self.at(key, f"{_shown(self._stated.get(key, DEFAULTS.get(key)))}: {message}")
        if problem not in self.problems:
            self.problems.append(problem)

    def remark(self, key: str, reason: str) -> None:
        """Note a key that changes nothing."""
        self.remarks.append(self.at(key, f"has no effect: {reason}"))

    def remark_unread(self) -> None:
        """Note the keys that state another value than when left out and that nothing has asked for."""
        told = {problem.key for problem in (*self.problems, *self.remarks)}
        used = {self._places[key] for key in self._read & self._places.keys()}
        for place in dict.fromkeys(self._places[key] for key in self._stated if key in DEFAULTS):
            stated = [key for key in self._stated if self._places[key] == place and self._stated[key] != DEFAULTS.get(key)]
            if not stated or place in used or ".".join(map(str, place)) in told:
                continue
            switch = next((name for pattern, name in SWITCHES.items() if fnmatchcase(stated[0], pattern) and not self[name]), None)
            self.remark(stated[0], f"{switch} is not set." if switch else "it belongs to another way than the one that this job goes.")

    def note(self, text: str) -> None:
        """Note what is otherwise here, once."""
        if text not in self.notes:
            self.notes.append(text)

    def per_axis(self, key: str) -> list[Any]:
        """A list of one entry a spatial axis; a single entry holds for all, and two equal ones in 3D, as defaults of BiaPy are."""
        given = self[key]
        if len(given) == self.ndim:
            return list(given)
        if len(set(given)) > 1 or not given:
            self.wrong(key, f"{self.ndim} numbers are expected, one an axis (Z)YX.")
        return list(given[:1] or DEFAULTS[key][:1]) * self.ndim

    def pair(self, key: str) -> tuple[float, float]:
        """A lower and an upper limit."""
        given = self[key]
        if len(given) == 1:
            given = given * 2
        if len(given) != 2 or given[0] > given[1]:
            self.wrong(key, "two numbers are expected, the lower one first.")
            given = DEFAULTS[key]
        return given[0], given[1]

    def _take(self, place: Place, value: Any) -> None:
        """One key of the file: its value is kept, or told to be wrong or without effect."""
        written = ".".join(map(str, place))
        self.spellings.add(written)
        for key, meant in _modern(written, value):
            if key in self._stated and key.endswith("_PROB"):
                continue  # the probability of one augmentation goes before that of all
            if key in self._stated:
                self.problems.append(self.at(written, f"is another spelling of {key}, which stands there too. Keep one of the two."))
                continue
            self._places[key] = place
            self._judge(key, meant)

    def _judge(self, key: str, value: Any) -> None:
        if key in FIXED:
            accepted, remedy = FIXED[key]
            self._stated[key] = _plain(value)
            if self._stated[key] != accepted:
                self.wrong(key, f"cannot be honoured: {remedy}.")
        elif key in DEFAULTS:
            self._known(key, value)
        elif any(fnmatchcase(key, pattern) for pattern in IDLE_KEYS):
            self.remark(key, next(reason for pattern, reason in IDLE.items() if fnmatchcase(key, pattern)))
        else:
            self._unknown(key)

    def _known(self, key: str, value: Any) -> None:
        default = DEFAULTS[key]
        try:
            self._stated[key] = typed(value, default)
        except ValueError as error:
            self.problems.append(self.at(key, str(error)))
            return
        allowed = CHOICES.get(key)
        if allowed and self._stated[key] not in allowed:
            given = self._stated.pop(key)
            names = ", ".join(name or "''" for name in allowed)
            self.problems.append(self.at(key, f"{given!r} is not known here; it is one of {names}.{did_you_mean(given, list(allowed))}"))

    def _unknown(self, key: str) -> None:
        section, _, name = key.rpartition(".")
        names = [each for each in (*DEFAULTS, *FIXED, *RENAMED, *IDLE_KEYS) if "*" not in each]
        beside = [each.rpartition(".")[2] for each in names if each.rpartition(".")[0] == section]
        close = did_you_mean(name, beside) or did_you_mean(key, names)
        self.problems.append(self.at(key, f"is not known, neither here nor to BiaPy.{close or ' Leave it out.'}"))


def read_settings(path: str | Path) -> Settings:
    """The settings of a job file, checked key by key.

    Raises:
        MissingFileError: when there is no such file.
        JobError: for what is no job of BiaPy that can be run here.
    """
    documents = read_documents(path)
    document = documents[0]
    if len(documents) != 1 or not isinstance(document.data, Mapping):
        raise JobError([Problem("", "a job of BiaPy is one mapping with PROBLEM, DATA, ...; this is not one.", 1, document.file)])
    problem = document.data.get("PROBLEM")
    kind = problem.get("TYPE", "SEMANTIC_SEG") if isinstance(problem, Mapping) else None
    if kind not in _PROBLEMS:
        place = ("PROBLEM", "TYPE")
        said = f"{kind!r} is not run here; jobs of {' and '.join(_PROBLEMS)} are. Write a job of Morula (morula new)."
        raise JobError([Problem("PROBLEM.TYPE", said, document.line(place), document.file)])
    return Settings(document)


def _leaves(node: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Each key that is no section, with its value."""
    dotted = ".".join(map(str, place))
    if isinstance(node, Mapping) and dotted not in _LEAVES:
        for name, value in node.items():
            yield from _leaves(value, (*place, str(name)))
    elif place and not (node is None and any(key.startswith(f"{dotted}.") for key in DEFAULTS)):  # an empty section states nothing
        yield place, node


def _modern(key: str, value: Any) -> list[tuple[str, Any]]:
    """Present keys and values of a former spelling.

    Examples:
        >>> _modern("MODEL.BATCH_NORMALIZATION", True)
        [('MODEL.NORMALIZATION', 'bn')]
    """
    if key == "MODEL.BATCH_NORMALIZATION":
        return [("MODEL.NORMALIZATION", "bn" if value is True else "none")]
    if key == "AUGMENTOR.DA_PROB":
        return [(name, value) for name in DEFAULTS if name.startswith("AUGMENTOR.") and name.endswith("_PROB")]
    if key == "LOSS.CLASS_REBALANCE" and isinstance(value, bool):
        return [("PROBLEM.INSTANCE_SEG.CLASS_REBALANCE_WITHIN_CHANNELS", value)]
    return [(RENAMED.get(key, key), value)]


def typed(value: Any, default: Any) -> Any:
    """A value as the kind of its default; tuples and lists may be written as Python does, single entries stand for lists.

    Raises:
        ValueError: for another kind.

    Examples:
        >>> typed("(256, 256, 1)", [1]), typed("ADAMW", ["SGD"]), typed(1, 0.5)
        ([256, 256, 1], ['ADAMW'], 1.0)
    """
    value = _plain(value) if not isinstance(default, str) else value
    if isinstance(default, list):
        listed = value if isinstance(value, list) else [value]
        return [_element(each, default[0]) for each in listed] if default else listed
    if isinstance(default, dict):
        return value
    return _element(value, default)


def _element(value: Any, default: Any) -> Any:
    kinds: dict[type, str] = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is list and not isinstance(value, list):
        raise ValueError(f"{_shown(value)} is not valid: a list is expected.")
    if type(value) is not kind:
        raise ValueError(f"{_shown(value)} is not valid: {kinds[kind]} is expected.")
    return value


def _plain(value: Any) -> Any:
    """Text that is a value of Python as that value, tuples as lists."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            return value
    return [_plain(each) if isinstance(each, tuple | list) else each for each in value] if isinstance(value, tuple | list) else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
