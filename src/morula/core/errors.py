"""The error tree. Every error that Morula raises on purpose is a `MorulaError` and also the built-in that it resembles.

A message holds the value given, the rule that it breaks and the remedy, in the user's words.
"""

from __future__ import annotations

from dataclasses import dataclass


class MorulaError(Exception):
    """Base of all errors that Morula raises on purpose."""


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
    """Training cannot go on, for example because the loss is not finite."""


class MissingExtraError(MorulaError, ImportError):
    """A feature needs an optional package that is not installed."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a job file.

    `line` is counted from 1 (`None` where the key is absent), `key` is dotted, for example ``method.channels.Db``.
    """

    key: str
    message: str
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return "  ".join(part for part in (place, self.key, self.message) if part)


class JobError(MorulaError, ValueError):
    """A job cannot be run. `problems` holds everything that is wrong with it, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))
