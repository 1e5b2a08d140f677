"""Expect an error by its code and fields, not by its wording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from morula.core.errors import InvalidOptionsError, JobError, MorulaError, Problem


@dataclass
class Expected:
    """What `raises` caught: the error, and its matching problem where the error holds several."""

    error: MorulaError | None = None
    problem: Problem | None = None


def option_codes(error: ValidationError) -> list[str]:
    """Codes of the problems that pydantic found: those of Morula's validators, else the types of pydantic.

    Examples:
        >>> from morula.data.normalise import Percentile
        >>> try:
        ...     Percentile(low=99, high=1, clap=True)
        ... except ValidationError as error:
        ...     print(option_codes(error))
        ['extra_forbidden']
    """
    causes = [(detail.get("ctx", {}).get("error"), detail["type"]) for detail in error.errors()]
    return [cause.code if isinstance(cause, MorulaError) else kind for cause, kind in causes]


@contextmanager
def raises(code: str, **fields: object) -> Iterator[Expected]:
    """Expect a `MorulaError` with this code and these fields (key, value, file, ...), or one that holds such a problem.

    Args:
        code: the error's stable code.
        fields: attributes that must be equal.

    Raises:
        AssertionError: when the block ends without an error, or with another one.

    Examples:
        >>> from morula.core.errors import OptionError
        >>> with raises("size.negative", key="size", value=-1) as caught:
        ...     raise OptionError("size.negative", "must be 0 or more", key="size", value=-1)
        >>> caught.error.rule
        'must be 0 or more'
    """
    expected = Expected()
    try:
        yield expected
    except MorulaError as error:
        expected.error = error
        # a job has all its problems in one error: the expected one must be among them
        candidates = error.problems if isinstance(error, JobError | InvalidOptionsError) else [error]
        for candidate in candidates:
            if candidate.code == code and all(getattr(candidate, name) == value for name, value in fields.items()):
                expected.problem = candidate if isinstance(candidate, Problem) else None
                return
        listing = [(candidate.code, candidate.key, candidate.value, str(candidate)) for candidate in candidates]
        raise AssertionError(f"expected {code!r} with {fields}, got {listing}") from error
    raise AssertionError(f"expected an error with the code {code!r}; none was raised")
