"""Expect an error by its code and fields, not by its wording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from morula.core.errors import JobError, MorulaError, Problem


@dataclass
class Expected:
    """What `raises` caught: the error, and of a `JobError` the problem with the expected code and fields."""

    error: MorulaError | None = None
    problem: Problem | None = None


@contextmanager
def raises(code: str, **fields: object) -> Iterator[Expected]:
    """Expect a `MorulaError` with this code and these fields (key, value, file, ...), or a `JobError` with such a problem.

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
        for candidate in error.problems if isinstance(error, JobError) else [error]:
            if candidate.code == code and all(getattr(candidate, name) == value for name, value in fields.items()):
                expected.problem = candidate if isinstance(candidate, Problem) else None
                return
        found = [(each.code, each.key, each.value, str(each)) for each in (error.problems if isinstance(error, JobError) else [error])]
        raise AssertionError(f"expected {code!r} with {fields}, got {found}") from error
    raise AssertionError(f"expected an error with the code {code!r}; none was raised")
