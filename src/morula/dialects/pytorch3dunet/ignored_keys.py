"""Checked sections of a job file of pytorch-3dunet, with a warning for each key that the original ignores silently."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TypeVar

from morula.core.errors import OptionError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.options import Options, validated


class IgnoredKeyWarning(UserWarning):
    """A key of a job file that has no effect."""


Section = TypeVar("Section", bound=Options)


def ignored_keys(kind: type[Options], values: Mapping[str, object], dead: Mapping[str, str]) -> dict[str, str]:
    """Keys that nothing reads, each with the reason or the nearest known key.

    Args:
        kind: options of the section.
        values: the section of the job file.
        dead: keys that the original has or had but does not read from this section, and what to do instead.

    Examples:
        >>> class Model(Options):
        ...     f_maps: int = 64
        >>> ignored_keys(Model, {"f_map": 32, "depth": 3}, {"depth": "write num_levels."})
        {'f_map': "nothing reads it. Did you mean 'f_maps'?", 'depth': 'write num_levels.'}
    """
    known = list(kind.model_fields)
    return {key: dead.get(key) or f"nothing reads it.{did_you_mean(key, known)}" for key in values if key not in known}


def read_section(kind: type[Section], values: Mapping[str, object], title: str, dead: Mapping[str, str]) -> Section:
    """Options of a section. Keys that nothing reads are left out with a warning; the original ignores them silently.

    Raises:
        OptionError: for values that break a rule.
    """
    ignored = ignored_keys(kind, values, dead)
    for key, reason in ignored.items():
        warnings.warn(f"{title}.{key} is ignored: {reason}", IgnoredKeyWarning, stacklevel=4)
    return validated(kind, {key: value for key, value in values.items() if key not in ignored}, title)


def take_name(values: Mapping[str, object], known: Mapping[str, object], title: str) -> str:
    """The `name` of a section.

    Raises:
        OptionError: when there is none.
        UnknownNameError: when it is unknown.
    """
    name = values.get("name")
    if name is None:
        raise OptionError("job.name_missing", f"is missing; must be one of {', '.join(known)}", key=f"{title}.name")
    if name not in known:
        raise UnknownNameError(
            "job.unknown_name",
            f"must be one of {', '.join(known)}",
            key=f"{title}.name",
            value=name,
            remedy=did_you_mean(str(name), list(known)).strip(),
        )
    return str(name)
