"""Job files of BiaPy, run as the native jobs that they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morula.core.events import Event, Warned
from morula.dialects import program_of

if TYPE_CHECKING:
    from morula.dialects.biapy.convert import Converted


def as_native(job: str | Path | Mapping[str, Any]) -> Converted | None:
    """The native job of a job file of BiaPy, `None` for native jobs.

    Raises:
        JobError: with all problems of the file.
    """
    if isinstance(job, Mapping) or program_of(job) != "BiaPy":
        return None
    from morula.dialects.biapy.convert import convert

    return convert(job)


def warnings_of(converted: Converted) -> list[str]:
    """Keys that change nothing, and what is done otherwise than in BiaPy."""
    return [*map(str, converted.remarks), *converted.notes]


def retold(converted: Converted, events: Iterator[Event]) -> Iterator[Event]:
    """The warnings of a job, then its events; problems are told at the keys and lines of the original.

    Raises:
        JobError: by the original's keys.
    """
    yield from map(Warned, warnings_of(converted))
    with converted.told():
        yield from events
