"""Errors of the operating system that no reader or writer expected, as errors of Morula: with a code, the file and a remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from morula.core.errors import DataError, FileReadError, FileWriteError, MorulaError
from morula.core.write_errors import write_error

P = ParamSpec("P")
Item = TypeVar("Item")


@contextmanager
def naming_os_errors() -> Iterator[None]:
    """Inside this context an `OSError` or `MemoryError` that is not one of Morula becomes one.

    Raises:
        DataError: ``memory.exceeded``.
        FileReadError: ``file.vanished``.
        FileWriteError: ``file.not_accessible``.

    Examples:
        >>> with naming_os_errors():  # doctest: +IGNORE_EXCEPTION_DETAIL
        ...     raise OSError(28, "No space left on device", "runs/a")
        Traceback (most recent call last):
        morula.core.errors.FileWriteError: runs/a: cannot be read or written: the disk is full. Free space, or write to another disk.
    """
    try:
        yield
    except MorulaError:
        raise
    except MemoryError as error:
        rule = f"this computer does not have enough memory ({str(error) or 'nothing is free'})"
        remedy = "Use smaller images or parts of them, close other programs, or use a computer with more memory."
        raise DataError("memory.exceeded", rule, remedy=remedy) from error
    except OSError as error:
        if error.errno is None:  # made by a library, not by the system
            raise
        file = None if error.filename is None else os.fsdecode(error.filename)
        if error.errno == errno.ENOENT:
            remedy = "Run the command again when it exists."
            raise FileReadError("file.vanished", "no longer exists", file=file, remedy=remedy) from error
        known = write_error(error=error, path=file or "")
        rule = known.rule.replace("was not written", "cannot be read or written")
        remedy = known.remedy.replace(" No partial file was left behind.", "")
        raise FileWriteError("file.not_accessible", rule, file=file, remedy=remedy) from error


def with_named_os_errors(stream: Callable[P, Iterator[Item]]) -> Callable[P, Iterator[Item]]:
    """Decorator of a generator function: `naming_os_errors` around its whole stream."""

    @wraps(stream)
    def named(*args: P.args, **kwargs: P.kwargs) -> Iterator[Item]:
        with naming_os_errors():
            yield from stream(*args, **kwargs)

    return named
