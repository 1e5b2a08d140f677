"""The error tree. Every error that Morula raises on purpose is a `MorulaError` and also the built-in error that it resembles.

An error has a stable `code` and fields; its message is made of these, so that programs and tests never parse prose::

    raise OptionError("tile.too_large", "must not exceed the image", key="prediction.tile", value=512, remedy="Leave it out.")

    prediction.tile = 512: must not exceed the image. Leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from morula.core.remedy import Remedy


class _Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()
"""Stands for a value that an error does not have; `None` is a value."""

_LONGEST = 120


class MorulaError(Exception):
    """Base of all errors that Morula raises on purpose.

    Args:
        code: stable name of what is wrong, ``area.problem`` in lower case, for example ``decoder.unknown_channel``.
        rule: what must hold, or what is wrong, as the end of a sentence without a full stop. Where it is left out, `code` is taken for
            the whole message: this is how multiprocessing and torch rebuild an error from its text.
        key: argument, option, job key or column that is wrong.
        value: the value that was given.
        remedy: what the user can do about it, one or more whole sentences.
        file: the file that is wrong.

    Examples:
        >>> error = OptionError("size.negative", "must be 0 or more voxels", key="size", value=-1, remedy="Give 0 to keep all objects.")
        >>> print(error)
        size = -1: must be 0 or more voxels. Give 0 to keep all objects.
        >>> error.code, error.key, error.value
        ('size.negative', 'size', -1)
    """

    def __init__(
        self, code: str, rule: str | None = None, *, key: str = "", value: object = UNSET, remedy: str = "", file: str | Path | None = None
    ) -> None:
        # multiprocessing rebuilds an exception from `args` alone, before `__reduce__` restores the fields
        self.code = "unclassified" if rule is None else code
        self.rule = code if rule is None else rule
        self.key, self.value = key, value
        self.remedy = remedy if isinstance(remedy, Remedy) else remedy.strip()
        self.file = None if file is None else str(file)
        super().__init__(code if rule is None else compose(self.rule, key=key, value=value, remedy=self.remedy, file=self.file))

    def __reduce__(self) -> tuple[object, ...]:
        fields = {name: value for name, value in vars(self).items() if not name.startswith("__")}
        return _rebuilt, (type(self), str(self), fields)


def _rebuilt(kind: type[MorulaError], message: str, fields: dict[str, object]) -> MorulaError:
    # without `__init__`, whose arguments differ between the classes; OSError parses its arguments and must get one
    error = kind.__new__(kind, message)
    error.args = (message,)
    vars(error).update(fields)
    return error


def compose(rule: str, *, key: str = "", value: object = UNSET, remedy: str = "", file: str | None = None) -> str:
    """The message of an error from its fields.

    Examples:
        >>> compose("must be positive", key="lr", value=-1.0, file="job.yaml")
        'job.yaml: lr = -1.0: must be positive.'
        >>> compose("the image is empty", remedy="Check the file.")
        'the image is empty. Check the file.'
    """
    subject = key if value is UNSET else f"{key} = {_shown(value)}" if key else _shown(value)
    sentence = ": ".join(part for part in (file, subject, rule) if part)
    if file and not subject and rule.startswith("cannot be read"):  # the commonest rule: the file is the subject of the sentence
        sentence = f"'{file}' {rule}"
    return " ".join(part for part in (sentence if sentence.endswith((".", "?", "!")) else f"{sentence}.", remedy) if part)


def _shown(value: object) -> str:
    # a path without PosixPath(...), anything else as one would write it in Python
    text = str(value) if isinstance(value, Path) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


class OptionError(MorulaError, ValueError):
    """An argument or option breaks its rule."""


class DataError(MorulaError, ValueError):
    """The content of an image, a label image or an array cannot be used."""


class UnknownNameError(MorulaError, LookupError):
    """A name is not a member of its family."""


class MissingFileError(MorulaError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class FileReadError(MorulaError, OSError):
    """A file exists but cannot be read: damaged, truncated or of an unknown format."""


class FileWriteError(MorulaError, OSError):
    """A file cannot be written. Nothing half-written is left behind."""


class ModelError(MorulaError, ValueError):
    """A stored model is damaged, of another kind, or does not fit the data."""


class TrainingError(MorulaError, RuntimeError):
    """Training cannot continue, for example because the loss is not finite."""


class MissingExtraError(MorulaError, ImportError):
    """A feature needs an optional package that is not installed."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a job file; fields as in `MorulaError`.

    `line` is counted from 1 (`None` where the key is absent), `key` is dotted, for example ``method.channels.Db``.
    """

    key: str
    rule: str
    line: int | None = None
    file: str | None = None
    code: str = "unclassified"
    value: object = UNSET
    remedy: str = ""

    @classmethod
    def of(cls, error: MorulaError, key: str = "") -> Problem:
        """The problem that an error is at a key of the job; the error's own key is kept in the text.

        Examples:
            >>> print(Problem.of(DataError("image.empty", "the image is empty", file="a.tif"), "images.train.raw"))
            images.train.raw  a.tif: the image is empty.
        """
        rule = compose(error.rule, key=error.key if key else "", value=error.value if key else UNSET, file=error.file)
        return cls(key or error.key, rule.removesuffix("."), code=error.code, value=error.value, remedy=error.remedy)

    @property
    def message(self) -> str:
        """Rule and remedy as sentences."""
        return compose(self.rule, remedy=self.remedy) if self.code != "unclassified" else self.rule

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return "  ".join(part for part in (place, self.key, self.message) if part)


class InvalidOptionsError(OptionError):
    """Several options of one thing break their rules. `problems` holds all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
        self.code = "option.several"


class JobError(MorulaError, ValueError):
    """A job cannot be run. `problems` holds everything that is wrong with it, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
        self.code = "job.invalid"
