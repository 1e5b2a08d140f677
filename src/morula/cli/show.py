"""Print results, and errors without traceback."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import typer

from morula.cli.command import in_command
from morula.core.errors import JobError, MorulaError, OptionError
from morula.core.text import printable
from morula.core.write_errors import write_error
from morula.io.metadata import MetadataWarning

PRINTED_WARNINGS: set[str] = set()
"""Warnings that the running command has printed."""


class Verbosity(IntEnum):
    """How much is printed."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2

    @classmethod
    def of(cls, quiet: bool, verbose: bool) -> Verbosity:
        """From the two flags."""
        return cls.QUIET if quiet else cls.VERBOSE if verbose else cls.NORMAL


def echo(text: str) -> None:
    """Print a line of the result."""
    print(printable(text), flush=True)


def echo_error(text: str) -> None:
    """Print a line to standard error: warnings, errors, hints."""
    print(printable(text), file=sys.stderr, flush=True)


def message_in_command(error: MorulaError) -> str:
    """The message of an error with the remedies that the running command has."""
    message = str(error)
    if error.remedy and message.endswith(error.remedy):
        message = f"{message.removesuffix(error.remedy)}{in_command(error.remedy)}".strip()
    return in_command(message)


@contextmanager
def reporting_errors(resume: Callable[[], str] | None = None) -> Iterator[None]:
    """Print errors of Morula without traceback; any other error is a bug and keeps it. Exit code 2 for a wrong argument, else 1.

    `resume` returns the command that continues after Ctrl-C.
    """
    try:
        with _ending_like_ctrl_c(), _metadata_warnings_as_lines():
            yield
    except JobError as error:
        for problem in error.problems:
            echo_error(in_command(str(replace(problem, remedy=in_command(problem.remedy)))))
        count = len(error.problems)
        echo_error(f"{count} problem{'s' if count > 1 else ''}; nothing was started.")
        raise typer.Exit(1) from None
    except MorulaError as error:
        echo_error(f"error: {message_in_command(error)}")
        raise typer.Exit(2 if isinstance(error, OptionError) else 1) from None
    except OSError as error:
        # a full or read-only disk, a name that is too long: reported like an error of Morula, whichever command met it
        if error.errno is None:
            raise
        echo_error(f"error: {write_error(Path(str(error.filename or '.')), error)}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        echo_error(f"Stopped.{f' Continue with: {resume()}' if resume else ''}")
        raise typer.Exit(1) from None


@contextmanager
def _ending_like_ctrl_c() -> Iterator[None]:
    """Batch systems and ``docker stop`` send SIGTERM before they kill: what is unfinished is removed, as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


@contextmanager
def _metadata_warnings_as_lines() -> Iterator[None]:
    """Print warnings about the metadata of files like those of events, and each once, where a command reads outside of its events."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not isinstance(message, MetadataWarning):
                shown(message, category, *rest, **more)
            elif str(message) not in PRINTED_WARNINGS:
                PRINTED_WARNINGS.add(str(message))
                echo_error(f"warning: {message}")

        warnings.simplefilter("always", MetadataWarning)
        warnings.showwarning = show
        PRINTED_WARNINGS.clear()
        yield
