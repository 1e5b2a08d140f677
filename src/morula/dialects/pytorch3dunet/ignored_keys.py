"""Sections of a pytorch-3dunet job file: checked values, and a warning for each key that the original passes over in silence."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

from morula.core.errors import OptionError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.options import Options, validated


class IgnoredKeyWarning(UserWarning):
    """A key of a job file that has no effect."""


Section = TypeVar("Section", bound=Options)


def ignored_keys(kind: type[Options], values: Mapping[str, Any], dead: Mapping[str, str]) -> dict[str, str]:
    """Keys that nothing reads, each with the reason or the key that may have been meant.

    Args:
        kind: options of the section.
        values: the section as it stands in the job file.
        dead: keys that the original has or had but does not read from here, with what to do instead.

    Examples:
        >>> class Model(Options):
        ...     f_maps: int = 64
        >>> ignored_keys(Model, {"f_map": 32, "depth": 3}, {"depth": "write num_levels."})
        {'f_map': "nothing reads it. Did you mean 'f_maps'?", 'depth': 'write num_levels.'}
    """
    known = list(kind.model_fields)
    return {key: dead.get(key) or f"nothing reads it.{did_you_mean(key, known)}" for key in values if key not in known}


def read_section(kind: type[Section], values: Mapping[str, Any], title: str, dead: Mapping[str, str]) -> Section:
    """Options of a section; what nothing reads is left out with a warning, as the original leaves it out without one.

    Raises:
        OptionError: for values that break a rule.
    """
    ignored = ignored_keys(kind, values, dead)
    for key, reason in ignored.items():
        warnings.warn(f"{title}.{key} is ignored: {reason}", IgnoredKeyWarning, stacklevel=4)
    return validated(kind, {key: value for key, value in values.items() if key not in ignored}, title)


def take_name(values: Mapping[str, Any], known: Mapping[str, Any], title: str) -> str:
    """The section's `name`.

    Raises:
        OptionError: when there is none.
        UnknownNameError: when it is no known one.
    """
    name = values.get("name")
    if name is None:
        raise OptionError("job.name_missing", f"{title}.name is missing; it is one of {', '.join(known)}")
    if name not in known:
        raise UnknownNameError(
            "job.unknown_name",
            f"{title}.name {name!r} is not known; it is one of {', '.join(known)}.{did_you_mean(str(name), list(known))}",
        )
    return str(name)
